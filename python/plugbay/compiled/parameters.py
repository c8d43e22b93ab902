"""How values of parameters and bodies are read: what the core is asked for, and the lines that make values of it.

What these lines do not take, a value that is missing or not valid, is left to FastAPI, which answers in its own words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from fastapi import params
from pydantic_core import PydanticUndefined
from starlette.convertors import Convertor, IntegerConvertor, PathConvertor, StringConvertor
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser

from plugbay.compiled import model, schema

__all__ = ["Reading", "Unclear"]

Source = tuple[str, str]


class Unclear(Exception):
    """A route that is left to FastAPI; the text is the reason."""


_FIXED = (type(None), str, int, float, bool, bytes)
"""Types whose values can be shared by requests."""


@dataclass(slots=True)
class Reading:
    """The first part of a handler's source: its arguments and the lines that read them.

    ``names`` are the objects that the lines use.
    """

    convertors: Mapping[str, Convertor[Any]]
    embeds: bool = False
    has_body: bool = False
    keeps_json: bool = False
    sources: list[Source] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    body: str = "none"
    _variables: dict[Source, str] = field(default_factory=dict)
    _count: int = 0

    def values(self, dependant: model.Dependant) -> list[tuple[str, str]]:
        """Reads what one function takes; returns ``(parameter, expression)`` in FastAPI's order. Raises ``Unclear``."""
        found: list[tuple[str, str]] = []
        for fields, kind in (
            (dependant.path_params, "path"),
            (dependant.query_params, "query"),
            (dependant.header_params, "header"),
            (dependant.cookie_params, "cookie"),
        ):
            if all(self._is_simple(each, kind) for each in fields):
                found += [(each.name, self._simple(each, kind)) for each in fields]
            else:
                found += self._as_fastapi(fields, kind)
        if dependant.body_params:
            found += self._bodies(dependant.body_params)
        return found

    def path_params(self) -> str:
        """An expression of the parameters of the path, converted, as Starlette keeps them in the scope."""
        pairs = (f"{name!r}: {self._path(name)}" for name in self.convertors)
        return f"{{{', '.join(pairs)}}}"

    def keep(self, thing: Any, stem: str) -> str:
        """A name in the source for an object."""
        self._count += 1
        name = f"{stem}_{self._count}"
        self.names[name] = thing
        return name

    def argument(self, kind: str, name: str) -> str:
        """The argument of the handler that the core fills from a part of the request."""
        source = (kind, name)
        if source not in self._variables:
            self._variables[source] = f"a{len(self.sources)}"
            self.sources.append(source)
        return self._variables[source]

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def _path(self, name: str) -> str:
        convertor = self.convertors[name]
        text = self.argument("path", str(list(self.convertors).index(name)))
        if type(convertor) in (StringConvertor, PathConvertor):
            return text
        if type(convertor) is IntegerConvertor:
            return f"int({text})"
        return f"{self.keep(convertor.convert, 'convert')}({text})"

    def _is_simple(self, each: model.ModelField, kind: str) -> bool:
        info = each.field_info
        if each.config or info.validate_default or any(type(item).__name__ == "Json" for item in info.metadata):
            return False
        if not isinstance(info.validation_alias, str | None):
            return False
        if kind == "path":
            return _alias(each) in self.convertors and model.is_scalar(each)
        if model.validates_defaults() and not info.is_required() and info.get_default() is not None:
            return False
        if kind in ("query", "header") and model.is_scalar_list(each):
            return True
        return model.is_scalar(each)

    def _simple(self, each: model.ModelField, kind: str) -> str:
        alias = _alias(each)
        value = self._fresh("v")
        if kind == "path":
            raw = self._path(alias)
        elif kind == "cookie":
            raw = self._fresh("c")
            self.lines.append(f"{raw} = {self._cookies()}.get({alias!r})")
        elif kind == "header":
            many = model.is_scalar_list(each) and not model.is_scalar(each)
            raw = self.argument("headers" if many else "header", _header(alias))
        else:
            many = model.is_scalar_list(each) and not model.is_scalar(each)
            raw = self.argument("queries" if many else "query", alias)
        made = self._validated(each, raw, is_text=not raw.startswith(("int(", "convert")))
        if kind == "path":
            self.lines.append(f"{value} = {made}")
        else:
            self._or_default(each, value, raw, made)
        return value

    def _validated(self, each: model.ModelField, raw: str, *, is_text: bool) -> str:
        adapter = model.validator_of(each)
        if is_text and schema.is_any_text(adapter.core_schema):
            return raw
        return f"{self.keep(adapter.validator.validate_python, 'valid')}({raw}, from_attributes=True)"

    def _or_default(self, each: model.ModelField, value: str, raw: str, made: str) -> None:
        self.lines.append(f"if {raw} is None: {value} = {self._default(each)}")
        self.lines.append(f"else: {value} = {made}")

    def _default(self, each: model.ModelField) -> str:
        """An expression of the value of what was not given."""
        info = each.field_info
        if info.is_required():
            return "missing()"
        if info.default_factory is None and isinstance(info.default, _FIXED) and type(info.default) in _FIXED:
            return self.keep(info.default, "default")
        return f"deepcopy({self.keep(each.get_default, 'default')}())"

    def _cookies(self) -> str:
        source = ("headers", "cookie")
        if source not in self._variables:
            argument = self.argument(*source)
            self.lines.append(f"cookies = cookies_of({argument})")
        return "cookies"

    def _as_fastapi(self, fields: list[model.ModelField], kind: str) -> list[tuple[str, str]]:
        """Reads parameters by FastAPI's own function: models of parameters, aliases to choose from, JSON in a text."""
        received = {
            "path": self.path_params,
            "query": lambda: f"QueryParams({self.argument('raw_query', '')})",
            "header": lambda: f"Headers(raw={self.argument('raw_headers', '')})",
            "cookie": self._cookies,
        }[kind]()
        values, errors = self._fresh("m"), self._fresh("e")
        kept = self.keep(fields, "fields")
        self.lines.append(f"{values}, {errors} = params_to_args({kept}, {received})")
        self.lines.append(f"if {errors}: return None")
        return [(each.name, f"{values}[{each.name!r}]") for each in fields]

    def _bodies(self, fields: list[model.ModelField]) -> list[tuple[str, str]]:
        for each in fields:
            if isinstance(each.field_info, params.Form):
                raise Unclear("takes a form or a file")
            if not isinstance(each.field_info.validation_alias, str | None) or each.config:
                raise Unclear(f"the body parameter {each.name} has aliases to choose from")
        if len(fields) == 1 and not self.embeds and not getattr(fields[0].field_info, "embed", None):
            return [(fields[0].name, self._whole_body(fields[0]))]
        self._parsed()
        found = []
        for each in fields:
            value, raw = self._fresh("v"), self._fresh("b")
            made = self._validated(each, raw, is_text=False)
            self.lines.append(f"{raw} = None if body is None else data.get({_alias(each)!r}, absent)")
            # In some versions of FastAPI null stands for a value that was not given.
            self.lines.append(f"if {raw} is None and body is not None: return None")
            self.lines.append(f"if {raw} is None or {raw} is absent: {value} = {self._default(each)}")
            self.lines.append(f"else: {value} = {made}")
            found.append((each.name, value))
        return found

    def _whole_body(self, each: model.ModelField) -> str:
        value = self._fresh("v")
        adapter = model.validator_of(each)
        if not self.keeps_json and self.body == "none" and schema.reads_json_alike(adapter.core_schema):
            self.body = "direct"
            made = f"{self.keep(adapter.validator.validate_json, 'valid')}(body)"
        else:
            self._parsed()
            made = self._validated(each, "data", is_text=False)
        self.lines.append(f"if body is None: {value} = {self._default(each)}")
        self.lines.append("else:")
        self.lines.append(f"    {value} = {made}")
        self.lines.append(f"    if {value} is None: return None")
        return value

    def _parsed(self) -> None:
        """Makes ``data`` of the body, once."""
        if self.body == "direct":
            raise Again
        if self.body == "none":
            self.body = "json"
            self.lines.append("data = None if body is None else loads(body)")
            self.lines.append("if data is None and body is not None: return None")


class Again(Exception):
    """The body is needed as Python objects after all: read the route once more with ``keeps_json``."""


def _alias(each: model.ModelField) -> str:
    alias = each.validation_alias or each.alias
    return str(alias)


def _header(alias: str) -> str:
    name = alias.lower()
    if not name.isascii() or not all(letter.isalnum() or letter in "!#$%&'*+-.^_`|~" for letter in name):
        raise Unclear(f"{alias!r} is no name of a header")
    return name


def cookies_of(headers: list[str] | None) -> dict[str, str]:
    """The cookies of a request, as Starlette reads them."""
    cookies: dict[str, str] = {}
    for header in headers or ():
        cookies.update(cookie_parser(header))
    return cookies


class _Missing(Exception):
    """A value that the route needs was not given."""


def _missing() -> Any:
    raise _Missing


GLOBALS: dict[str, Callable[..., Any] | Any] = {
    "Headers": Headers,
    "QueryParams": QueryParams,
    "absent": PydanticUndefined,
    "cookies_of": cookies_of,
    "deepcopy": deepcopy,
    "loads": json.loads,
    "missing": _missing,
    "params_to_args": model.params_to_args,
}
"""What the lines of every handler use."""
