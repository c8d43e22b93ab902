"""What the compile step reads of FastAPI that FastAPI does not promise; every name of it is here and nowhere else.

``unexpected`` says when the installed FastAPI is not as these lines know it; then nothing is compiled.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import routing
from fastapi._compat import ModelField, field_annotation_is_scalar, field_annotation_is_scalar_sequence
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies import models, utils
from fastapi.dependencies.models import Dependant

__all__ = [
    "DefaultPlaceholder",
    "Dependant",
    "ModelField",
    "cache_key",
    "endpoint_context",
    "is_coroutine",
    "is_generator",
    "is_scalar",
    "is_scalar_list",
    "params_to_args",
    "scopes_of",
    "unexpected",
    "validates_defaults",
    "validator_of",
]

_DEPENDANT = {
    "path_params", "query_params", "header_params", "cookie_params", "body_params", "dependencies", "name", "call",
    "request_param_name", "websocket_param_name", "http_connection_param_name", "response_param_name",
    "background_tasks_param_name", "security_scopes_param_name", "own_oauth_scopes", "parent_oauth_scopes", "use_cache",
    "path", "scope", "concurrency",
}  # fmt: skip
"""The fields of a ``Dependant`` that the compile step honours. Another one may mean something that it would miss."""

_HANDLER = {
    "dependant", "body_field", "status_code", "response_class", "response_field", "response_model_include",
    "response_model_exclude", "response_model_by_alias", "response_model_exclude_unset",
    "response_model_exclude_defaults", "response_model_exclude_none", "dependency_overrides_provider",
    "embed_body_fields", "strict_content_type", "stream_item_field", "is_json_stream", "form_limits",
}  # fmt: skip
"""The arguments of ``get_request_handler``: all that decides how a route answers."""


def unexpected() -> str | None:
    """What of the installed FastAPI is not as expected; ``None`` when all is."""
    try:
        fields = {field.name for field in dataclasses.fields(Dependant)}
        arguments = set(inspect.signature(routing.get_request_handler).parameters)
        adapter = hasattr(ModelField, "validate") and hasattr(ModelField, "serialize_json")
        present = adapter and callable(utils.request_params_to_args) and callable(routing.request_response)
        cached = hasattr(models, "_get_cache_key") or hasattr(Dependant, "cache_key")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if new := (fields - _DEPENDANT) | (arguments - _HANDLER):
        return f"unknown: {', '.join(sorted(new))}"
    if missing := (_DEPENDANT - {"concurrency"} - fields) | (_HANDLER - {"form_limits"} - arguments):
        return f"missing: {', '.join(sorted(missing))}"
    return None if present and cached else "missing: a function of fastapi.dependencies or fastapi.routing"


def cache_key(dependant: Dependant) -> Any:
    """What two uses of one dependency share."""
    make = getattr(models, "_get_cache_key", None)
    return dependant.cache_key if make is None else make(dependant=dependant)  # type: ignore[attr-defined]


def scopes_of(dependant: Dependant) -> list[str]:
    """The OAuth scopes that ``SecurityScopes`` shows."""
    make = getattr(models, "_get_oauth_scopes", None)
    found = dependant.oauth_scopes if make is None else make(dependant=dependant)  # type: ignore[attr-defined]
    return list(found)


def is_coroutine(dependant: Dependant) -> bool:
    """Whether FastAPI awaits the call rather than run it on a thread."""
    ask = getattr(models, "_is_coroutine_callable", None)
    return bool(dependant.is_coroutine_callable if ask is None else ask(dependant.call))  # type: ignore[attr-defined]


def is_generator(dependant: Dependant) -> bool:
    """Whether the call yields."""
    if hasattr(models, "_is_gen_callable"):
        return bool(models._is_gen_callable(dependant.call) or models._is_async_gen_callable(dependant.call))
    return bool(dependant.is_gen_callable or dependant.is_async_gen_callable)  # type: ignore[attr-defined]


def is_scalar(field: ModelField) -> bool:
    """Whether a parameter takes one text."""
    return bool(field_annotation_is_scalar(field.field_info.annotation))


def is_scalar_list(field: ModelField) -> bool:
    """Whether a parameter takes every text that was given for it."""
    return bool(field_annotation_is_scalar_sequence(field.field_info.annotation))


def params_to_args(fields: Sequence[ModelField], received: Any) -> tuple[dict[str, Any], list[Any]]:
    """FastAPI's own reading of parameters: the values by name, and the errors."""
    return utils.request_params_to_args(fields, received)


def validates_defaults() -> bool:
    """Whether this FastAPI validates the default of a parameter too, as it did before it read aliases itself."""
    return not hasattr(utils, "_get_param_aliases")


def validator_of(field: ModelField) -> Any:
    """The pydantic type adapter that FastAPI validates and serialises with."""
    return field._type_adapter


def endpoint_context(call: Callable[..., Any], path: str) -> dict[str, Any]:
    """What FastAPI says in a ``ResponseValidationError`` of where it came from."""
    read = getattr(routing, "_extract_endpoint_context", None)
    context: dict[str, Any] = {} if read is None else dict(read(call))
    return {**context, "path": path}
