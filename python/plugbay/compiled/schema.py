"""What pydantic's core schemas tell of a type: whether two ways to read a value surely give the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_ALIKE = {
    "any": set(),
    "none": set(),
    "bool": set(),
    "int": {"multiple_of", "le", "ge", "lt", "gt"},
    "float": {"allow_inf_nan", "multiple_of", "le", "ge", "lt", "gt"},
    "str": {
        "pattern", "max_length", "min_length", "strip_whitespace", "to_lower", "to_upper", "regex_engine",
    },
    "list": {"items_schema", "min_length", "max_length", "fail_fast"},
    "dict": {"keys_schema", "values_schema", "min_length", "max_length"},
    "nullable": {"schema"},
    "default": {"schema", "default", "default_factory", "default_factory_takes_data", "copy_default"},
    "model": {"cls", "schema", "config", "root_model", "custom_init"},
    "model-fields": {"fields", "model_name", "computed_fields", "extra_behavior", "extras_schema"},
    "model-field": {
        "schema", "validation_alias", "serialization_alias", "serialization_exclude", "frozen", "exclude_if",
        "serialization_exclude_if",
    },
    "definitions": {"schema", "definitions"},
    "definition-ref": {"schema_ref"},
}  # fmt: skip
"""The types that pydantic reads alike from JSON text and from what ``json.loads`` makes of it; what each may hold."""

_ALWAYS = {"type", "ref", "metadata", "serialization"}

_CONFIG = {
    "title", "extra_fields_behavior", "from_attributes", "populate_by_name", "validate_by_name", "validate_by_alias",
    "serialize_by_alias", "str_strip_whitespace", "str_to_lower", "str_to_upper", "str_max_length", "str_min_length",
    "frozen", "loc_by_alias", "ser_json_timedelta", "ser_json_temporal", "ser_json_bytes", "ser_json_inf_nan",
    "allow_inf_nan", "regex_engine", "hide_input_in_errors", "validation_error_cause", "cache_strings",
}  # fmt: skip


def is_any_text(schema: Schema) -> bool:
    """Whether every text is valid and stays as it is."""
    while schema["type"] in ("default", "nullable") and not schema.get("validate_default"):
        schema = schema["schema"]
    return schema["type"] == "str" and set(schema) <= {"type", "metadata"}


def reads_json_alike(schema: Schema) -> bool:
    """Whether a value that pydantic takes from JSON text is what it makes of ``json.loads`` of that text.

    True only without strictness, without a validator of the author's own, and without a type that tells the two apart.
    """
    kind = schema.get("type")
    held = _ALIKE.get(kind) if isinstance(kind, str) else None
    if held is None or set(schema) - _ALWAYS - held:
        return False
    if schema.get("root_model") or schema.get("custom_init"):
        return False
    if set(schema.get("config") or ()) - _CONFIG:
        return False
    return all(reads_json_alike(part) for part in _parts(schema))


def _parts(schema: Schema) -> list[Schema]:
    """The schemas inside one."""
    found = [schema[name] for name in ("schema", "items_schema", "keys_schema", "values_schema") if name in schema]
    found += schema.get("definitions", ())
    fields = schema.get("fields")
    found += fields.values() if isinstance(fields, Mapping) else fields or ()
    if isinstance(extras := schema.get("extras_schema"), Mapping):
        found.append(extras)
    return found
