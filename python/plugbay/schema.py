"""From a function's signature to the JSON schema of its arguments, and from such arguments to a call of it."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from plugbay.context import ToolContext
from plugbay.docstring import read_docstring
from plugbay.errors import InvalidError
from plugbay.signature import bare, is_async, name_of, shown

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.json_schema import GenerateJsonSchema


@dataclass(frozen=True, slots=True)
class TypedFunction:
    """What a function's signature says, and a handler that calls it with a JSON object."""

    name: str
    description: str
    parameters: dict[str, Any]
    required: list[str]
    definitions: dict[str, Any]
    handler: Callable[..., Any]


def read_function(fn: Callable[..., Any], name: str | None = None) -> TypedFunction:
    """Read the signature, annotations and docstring of ``fn``; ``name`` replaces its own.

    Raises ``InvalidError`` when ``fn`` has no name or its signature cannot be put into a schema.
    """
    if not callable(fn):
        raise InvalidError(f"expected a function, found {shown(fn)}: give a `def`, or an AgentTool")
    name = name_of(fn) if name is None else name
    if name is None:
        raise InvalidError(f"{shown(fn)} has no name for a tool: use AgentTool.from_function(fn, name=…)")
    parameters = _parameters(fn)
    context = [parameter.name for parameter in parameters if _is_context(parameter.annotation)]
    docs = read_docstring(inspect.getdoc(_routine(fn)) or inspect.getdoc(bare(fn)))
    model = _model(fn, [parameter for parameter in parameters if parameter.name not in context])
    schema = _schema(fn, model, docs.parameters)
    return TypedFunction(
        name=name,
        description=docs.description,
        parameters=schema.get("properties", {}),
        required=schema.get("required", []),
        definitions=schema.get("$defs", {}),
        handler=_handler(fn, _Reader(name, model, parameters), context),
    )


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of ``fn``, each with its annotation as an object."""
    try:
        signature = inspect.signature(fn)
        hints = typing.get_type_hints(_routine(fn), include_extras=True)
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"{shown(fn)} has no signature that can be read ({error}): write a `def` around it"
        ) from None
    except NameError as error:
        raise InvalidError(
            f"an annotation of {shown(fn)} cannot be read ({error}): import or define that name in the module"
        ) from None
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise InvalidError(
                f"parameter {parameter} of {shown(fn)} has no name of its own in a schema: name each parameter"
            )
        found.append(parameter.replace(annotation=hints.get(parameter.name, Any)))
    return found


def _routine(fn: Callable[..., Any]) -> Any:
    """What holds the annotations and the docstring: of an object that can be called, its ``__call__``."""
    target = bare(fn)
    return target if inspect.isroutine(target) or inspect.isclass(target) else type(target).__call__


def _is_context(annotation: Any) -> bool:
    """Whether a parameter is annotated ``ToolContext``, or ``ToolContext | None``."""
    return annotation is ToolContext or ToolContext in typing.get_args(annotation)


def _model(fn: Callable[..., Any], parameters: list[inspect.Parameter]) -> type[BaseModel]:
    """A pydantic model of the arguments. Its fields are numbered, so that no parameter's name clashes with a method."""
    import pydantic  # slow to import, and needed for typed functions alone

    fields: dict[str, Any] = {
        f"argument_{index}": (
            Annotated[parameter.annotation, pydantic.Field(alias=parameter.name)],
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for index, parameter in enumerate(parameters)
    }
    try:
        return pydantic.create_model("Arguments", __config__=pydantic.ConfigDict(extra="forbid"), **fields)
    except Exception as error:
        raise _no_schema(fn, error) from None


@functools.cache
def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        """Without the titles that repeat each name, and silent about defaults that JSON cannot hold."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return Untitled


def _schema(fn: Callable[..., Any], model: type[BaseModel], descriptions: Mapping[str, str]) -> dict[str, Any]:
    try:
        schema = model.model_json_schema(by_alias=True, schema_generator=_generator())
    except Exception as error:
        raise _no_schema(fn, error) from None
    for name, parameter in schema.get("properties", {}).items():
        if descriptions.get(name):
            parameter.setdefault("description", descriptions[name])
    return schema


def _no_schema(fn: Callable[..., Any], error: Exception) -> InvalidError:
    reason = str(error).partition("\n")[0]
    return InvalidError(
        f"the annotations of {shown(fn)} make no JSON schema ({reason}): annotate with types that pydantic knows"
    )


class _Reader:
    """Turns a JSON object into the arguments of a call."""

    def __init__(self, tool: str, model: type[BaseModel], parameters: list[inspect.Parameter]) -> None:
        self._tool = tool
        self._model = model
        self._positional = [each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_ONLY]
        self._fields = {field.alias or name: name for name, field in model.model_fields.items()}
        plain = {each.name for each in parameters if not _is_field(each.default)}
        self._optional = {name for name in self._fields if name in plain}

    def read(self, arguments: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments. Raises ``InvalidError`` when pydantic refuses them."""
        import pydantic

        try:
            model = self._model.model_validate(arguments)
        except pydantic.ValidationError as error:
            problems = "; ".join(_problem(each) for each in error.errors(include_url=False)[:5])
            raise InvalidError(f"the arguments of {self._tool} do not fit: {problems}") from None
        values = dict(context)
        for name, field in self._fields.items():
            # A default that was not replaced stays the function's own object.
            if field in model.model_fields_set or name not in self._optional or name in self._positional:
                values[name] = getattr(model, field)
        positional = [values.pop(name) for name in self._positional]
        return positional, values


def _is_field(default: Any) -> bool:
    from pydantic.fields import FieldInfo

    return isinstance(default, FieldInfo)


def _problem(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _handler(fn: Callable[..., Any], reader: _Reader, context: list[str]) -> Callable[..., Any]:
    """A handler that reads its arguments and calls ``fn``, sync or async as ``fn`` is."""
    if is_async(fn):

        async def handler(arguments: Mapping[str, Any], ctx: ToolContext | None = None) -> Any:
            positional, named = reader.read(arguments, dict.fromkeys(context, ctx))
            return await fn(*positional, **named)

        return handler

    def plain_handler(arguments: Mapping[str, Any], ctx: ToolContext | None = None) -> Any:
        positional, named = reader.read(arguments, dict.fromkeys(context, ctx))
        return fn(*positional, **named)

    return plain_handler
