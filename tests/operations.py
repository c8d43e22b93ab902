"""From an OpenAPI document to its operations, each with values that fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operation."""

    name: str
    place: str
    """``path``, ``query``, ``header`` or ``cookie``."""
    required: bool
    schema: dict[str, Any]
    example: Any


@dataclass(frozen=True)
class Operation:
    """An operation of an OpenAPI document."""

    method: str
    path: str
    parameters: tuple[Parameter, ...]
    bodies: dict[str, Any]
    """For each content type a value that fits its schema."""
    place: str
    """The path of the topic, with which its own begins."""
    samples: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(document: dict[str, Any], prefix: str, samples: dict[str, list[Any]]) -> list[Operation]:
    """The operations of a document whose paths stand below ``prefix``."""
    schemas = Schemas(document)
    found = []
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            if method not in METHODS:
                continue
            parameters = tuple(
                Parameter(p["name"], p["in"], p.get("required", False), p["schema"], schemas.example(p["schema"]))
                for p in operation.get("parameters", [])
            )
            content = operation.get("requestBody", {}).get("content", {})
            bodies = {kind: schemas.example(media.get("schema", {})) for kind, media in content.items()}
            name = (
                f"{method.upper()} {path.removeprefix(prefix)}"
                if path.startswith(prefix)
                else f"{method.upper()} {path}"
            )
            whole = path if path.startswith(prefix) else prefix + path
            found.append(Operation(method.upper(), whole, parameters, bodies, prefix, samples.get(name, [])))
    return found


class Schemas:
    """Values that fit the schemas of a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def example(self, schema: Any, depth: int = 0) -> Any:
        """One value, always the same."""
        if schema is True or not isinstance(schema, dict):
            return "any"
        if "$ref" in schema:
            return self.example(self._resolved(schema["$ref"]), depth + 1)
        for word in ("const", "example", "default"):
            if schema.get(word) is not None:
                return schema[word]
        for word in ("examples", "enum"):
            if schema.get(word):
                return schema[word][0]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.example(schema[word][0 if depth < 8 else -1], depth + 1)
        if "allOf" in schema:
            parts = [self.example(part, depth + 1) for part in schema["allOf"]]
            return (
                {k: v for part in parts for k, v in part.items()}
                if all(isinstance(p, dict) for p in parts)
                else parts[0]
            )
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        match schema.get("type"):
            case "object":
                properties = schema.get("properties", {})
                required = schema.get("required", []) if depth > 4 else properties
                found = {name: self.example(properties[name], depth + 1) for name in properties if name in required}
                extra = schema.get("additionalProperties")
                if not properties and isinstance(extra, dict):
                    found["1"] = self.example(extra, depth + 1)
                return found
            case "array":
                if "prefixItems" in schema:
                    return [self.example(item, depth + 1) for item in schema["prefixItems"]]
                count = max(schema.get("minItems", 0), 1 if depth < 6 else 0)
                return [self.example(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "integer":
                step = schema.get("multipleOf", 1)
                return int(max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1, step))
            case "number":
                return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1)) + 0.5
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema)

    def _resolved(self, reference: str) -> Any:
        found: Any = self._document
        for word in reference.removeprefix("#/").split("/"):
            found = found[word.replace("~1", "/").replace("~0", "~")]
        return found


FORMATS = {
    "date-time": "2024-02-29T12:30:00Z",
    "date": "2024-02-29",
    "time": "12:30:15",
    "duration": "P1DT2H",
    "uuid": "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11",
    "email": "name@example.com",
    "uri": "http://example.com/",
    "ipv4": "10.0.0.1",
    "binary": "x",
    "json-string": "[1]",
}


def _text(schema: dict[str, Any]) -> str:
    text = "x" if "contentMediaType" in schema else FORMATS.get(schema.get("format", ""), "text")
    pattern = schema.get("pattern", "")
    if pattern and schema.get("format") is None:
        literal = pattern.strip("^$")
        text = literal if literal.isalnum() else "12.5" if "\\d" in pattern else "abc"
    return text.ljust(schema.get("minLength", 0), "a")[: schema.get("maxLength", 100)]
