"""One route as a function: its source is written once, from what FastAPI has found out about it.

The function reads parameters and body, runs the dependencies in FastAPI's order, calls the endpoint and makes the
answer. It returns ``None`` for FastAPI to do it all, and does so only before it has called anything of the author's.
"""

from __future__ import annotations

import contextvars
import linecache
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import params
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from fastapi.utils import is_body_allowed_for_status_code
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from plugbay import _core
from plugbay._plugin_threads import work_for
from plugbay.compiled import answer, model
from plugbay.compiled.answer import Site
from plugbay.compiled.parameters import GLOBALS, Again, Reading, Source, Unclear
from plugbay.compiled.threads import KNOWN


@dataclass(frozen=True, slots=True)
class Compiled:
    """A handler for the core, and what the core calls it with."""

    function: Callable[..., Any] = field(repr=False)
    is_async: bool
    sources: list[Source]
    body: str
    untyped: bool
    wants_face: bool
    status: int


def compile_route(context: Any, site: Site) -> Compiled:
    """The handler of a route, a context of ``iter_route_contexts``. Raises ``Unclear`` when it is left to FastAPI."""
    _check(context)
    try:
        return _Route(context, site, keeps_json=False).compiled()
    except Again:
        return _Route(context, site, keeps_json=True).compiled()


def _check(context: Any) -> None:
    if type(context.original_route) is not APIRoute:
        raise Unclear(f"a route class of its own: {type(context.original_route).__qualname__}")
    if context.is_sse_stream or context.is_json_stream or model.is_generator(context.dependant):
        raise Unclear("streams its answer")
    if getattr(context, "max_body_size", None) is not None:
        raise Unclear("has a max_body_size")
    if context.body_field is not None and isinstance(context.body_field.field_info, params.Form):
        raise Unclear("takes a form or a file")
    for dependant in _all(context.dependant):
        name = getattr(dependant.call, "__name__", type(dependant.call).__name__)
        if dependant is not context.dependant and model.is_generator(dependant):
            raise Unclear(f"a dependency with yield: {name}")
        if dependant.background_tasks_param_name:
            raise Unclear("takes BackgroundTasks")
        if dependant.websocket_param_name:
            raise Unclear("takes a WebSocket")
        if getattr(dependant, "concurrency", None) is not None:
            raise Unclear(f"a dependency with a limit of concurrency: {name}")


def _all(dependant: model.Dependant) -> list[model.Dependant]:
    found = [dependant]
    for each in dependant.dependencies:
        found += _all(each)
    return found


class _Route:
    """A route while its source is written."""

    def __init__(self, context: Any, site: Site, *, keeps_json: bool) -> None:
        everything = _all(context.dependant)
        dependencies = everything[1:]
        self.context = context
        self.site = site
        self.is_async = any(model.is_coroutine(each) for each in everything)
        self.wants_request = any(each.request_param_name or each.http_connection_param_name for each in everything)
        self.wants_response = any(each.response_param_name for each in everything)
        self.reading = Reading(
            context.param_convertors,
            embeds=context._embed_body_fields,
            keeps_json=keeps_json or self.wants_request,
        )
        self.has_dependencies = bool(dependencies)
        self.calls: list[str] = []
        self._known: dict[Any, str] = {}
        self._count = 0

    def compiled(self) -> Compiled:
        """Writes the source and makes the function."""
        context, reading = self.context, self.reading
        result = self._call(context.dependant, context.dependant.call, "result")
        path_params = reading.path_params() if self.wants_request else "{}"
        if context.body_field is not None and reading.body == "none":
            reading.body = "json"
        lines = ["try:", *_indented(reading.lines)]
        if self.wants_request:
            keep_json = "data" if reading.body == "json" and "data = " in "\n".join(reading.lines) else "absent"
            body = "body" if context.body_field is not None else "absent"
            lines += [f"    request = request_of(face, {path_params}, {body}, {keep_json})"]
        if self.wants_response:
            lines += ["    response = response_of()"]
        lines += ["    pass", "except Exception: return None"]
        if self.has_dependencies and context.dependency_overrides_provider is not None:
            reading.names["overrides"] = context.dependency_overrides_provider
            lines.insert(0, "if overrides.dependency_overrides: return None")
        if self.is_async:
            reading.names["plugin"] = self.site.plugin
            lines.append("work_for(plugin)")
        else:
            reading.names["claim"] = self.site.claim
            lines.append("if not hasattr(of_thread, 'current_token'): claim()")
        lines += ["try:", *_indented(self.calls), *_indented(self._answer(result))]
        fill = self._fill()
        reading.names["failed"] = lambda error: self.site.answer_to(error, fill)
        lines += ["except Exception as error:", "    return failed(error)"]
        status = context.status_code or 200
        return Compiled(
            function=self._function(lines),
            is_async=self.is_async,
            sources=list(reading.sources),
            body=reading.body,
            untyped=not _value(context.strict_content_type),
            wants_face=self.wants_request,
            status=status,
        )

    def _call(self, dependant: model.Dependant, call: Any, stem: str) -> str:
        """Writes the call of a function after those of its dependencies; returns the variable of its result."""
        given = []
        for each in dependant.dependencies:
            value = self._dependency(each)
            if each.name is not None:
                given.append((each.name, value))
        given += self.reading.values(dependant)
        given += self._special(dependant)
        function = self.reading.keep(call, "call")
        # A later value of one name replaces an earlier one, in the place of the earlier one.
        arguments = ", ".join(f"{name}={value}" for name, value in dict(given).items())
        self._count += 1
        result = f"{stem}{self._count}"
        threaded = f"{function}, {arguments}" if arguments else function
        if model.is_coroutine(dependant):
            made = f"await {function}({arguments})"
        elif self.is_async:
            blocking = self.reading.keep(self.site.blocking(call), "blocking")
            made = f"await {blocking}(partial({threaded}))"
        elif stem == "d":
            # On threads FastAPI gives each call a context of its own.
            made = f"copy_context().run({threaded})"
        else:
            made = f"{function}({arguments})"
        self.calls.append(f"{result} = {made}")
        return result

    def _dependency(self, dependant: model.Dependant) -> str:
        key = model.cache_key(dependant)
        if dependant.use_cache and key in self._known:
            # Its own dependencies are asked for all the same: one of them may not be cached.
            for each in dependant.dependencies:
                self._dependency(each)
            return self._known[key]
        result = self._call(dependant, dependant.call, "d")
        self._known.setdefault(key, result)
        return result

    def _special(self, dependant: model.Dependant) -> list[tuple[str, str]]:
        found = []
        if dependant.http_connection_param_name:
            found.append((dependant.http_connection_param_name, "request"))
        if dependant.request_param_name:
            found.append((dependant.request_param_name, "request"))
        if dependant.response_param_name:
            found.append((dependant.response_param_name, "response"))
        if dependant.security_scopes_param_name:
            scopes = self.reading.keep(model.scopes_of(dependant), "scopes")
            found.append((dependant.security_scopes_param_name, f"SecurityScopes(scopes=list({scopes}))"))
        return found

    def _answer(self, result: str) -> list[str]:
        """The lines that make an answer of what the endpoint returned."""
        context, names = self.context, self.reading.names
        site, fill = self.site, self._fill()
        names["of_response"] = lambda response: answer.of_response(response, site, fill)
        lines = [f"if isinstance({result}, Response): return of_response({result})"]
        is_json = isinstance(context.response_class, model.DefaultPlaceholder)
        dumps = is_json and context.response_field is not None
        simple = is_json and not self.wants_response and is_body_allowed_for_status_code(context.status_code)
        if simple and dumps:
            return [*lines, *self._bytes(result)]
        if simple and _value(context.response_class) is JSONResponse:
            return [*lines, f"return plain({result}) or whole({result})"]
        names["content_of"] = self._content(dumps=dumps)
        names["made"] = self._made(is_bytes=dumps)
        given = "response" if self.wants_response else "None"
        return [*lines, f"return of_response(made(content_of({result}), {given}))"]

    def _bytes(self, result: str) -> list[str]:
        """The lines that validate a result and write it as JSON: the whole way of most routes."""
        names, how = self.reading.names, self._how()
        adapter = model.validator_of(self.context.response_field)
        names["validate"], names["write"] = adapter.validator.validate_python, adapter.serializer.to_json
        names["refuse"] = self._content(dumps=True)
        names.update({f"how_{name}": value for name, value in how.items()})
        options = "".join(f", {name}=how_{name}" for name in how)
        return [
            f"try: value = validate({result}, from_attributes=True)",
            f"except ValueError: return refuse({result})",
            f"return write(value{options})",
        ]

    def _how(self) -> dict[str, Any]:
        """What pydantic is told about the serialisation; what is not asked for is its default too."""
        context = self.context
        how = {
            "include": context.response_model_include,
            "exclude": context.response_model_exclude,
            "by_alias": context.response_model_by_alias,
            "exclude_unset": context.response_model_exclude_unset,
            "exclude_defaults": context.response_model_exclude_defaults,
            "exclude_none": context.response_model_exclude_none,
        }
        return {name: value for name, value in how.items() if name == "by_alias" or value not in (None, False)}

    def _content(self, *, dumps: bool) -> Callable[[Any], Any]:
        """What validates and serialises a result: to bytes of JSON, or to what a response class takes."""
        context = self.context
        field = context.response_field
        if field is None:
            return jsonable_encoder
        adapter = model.validator_of(field)
        validate = adapter.validator.validate_python
        write = adapter.serializer.to_json if dumps else adapter.serializer.to_python
        how = self._how() if dumps else {**self._how(), "mode": "json"}
        return _serialiser(field, validate, write, how, self._refused)

    def _refused(self, errors: list[Any], result: Any) -> ResponseValidationError:
        method = next(iter(sorted(self.context.methods)))
        where = model.endpoint_context(self.context.dependant.call, f"{method} {self.context.dependant.path}")
        return ResponseValidationError(errors=errors, body=result, endpoint_ctx=where)  # type: ignore[arg-type]

    def _made(self, *, is_bytes: bool) -> Callable[[Any, Response | None], Response]:
        """What makes a response of content, and of the response that the functions of the route were given."""
        status, kind = self.context.status_code, _value(self.context.response_class)

        def made(content: Any, given: Response | None) -> Response:
            arguments: dict[str, Any] = {}
            own = None if given is None else given.status_code
            if own or status:
                arguments["status_code"] = own or status
            if is_bytes:
                response = Response(content=content, media_type="application/json", **arguments)
            else:
                response = kind(content, **arguments)
            if not is_body_allowed_for_status_code(response.status_code):
                response.body = b""
            if given is not None:
                response.headers.raw.extend(given.headers.raw)
            return response

        return made

    def _fill(self) -> Callable[[MutableMapping[str, Any]], None]:
        context, router = self.context, self.site.app.router

        def fill(scope: MutableMapping[str, Any]) -> None:
            scope.setdefault("router", router)
            found = context.path_regex.match(_route_path(scope))
            values = {} if found is None else found.groupdict()
            scope["path_params"] = {name: context.param_convertors[name].convert(text) for name, text in values.items()}
            scope["endpoint"] = context.endpoint
            scope["route"] = context.original_route

        return fill

    def _function(self, lines: list[str]) -> Callable[..., Any]:
        """Makes the function of its lines. The objects that it uses are cells of it, so that they go when it goes."""
        reading, site, context = self.reading, self.site, self.context
        if self.wants_request:
            reading.names["request_of"] = _request_maker(site, context)
        arguments = ["face"] if self.wants_request else []
        arguments += [f"a{number}" for number in range(len(reading.sources))]
        arguments += ["body"] if reading.body != "none" else []
        keyword = "async def" if self.is_async else "def"
        source = [f"def make({', '.join(reading.names)}):", f"    {keyword} handler({', '.join(arguments)}):"]
        source += _indented(lines, 8)
        source += ["    return handler"]
        text = "\n".join(source) + "\n"
        file = f"<plugbay: {' '.join(sorted(context.methods))} {context.path}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        made: dict[str, Any] = {}
        exec(compile(text, file, "exec"), _GLOBALS, made)
        function: Callable[..., Any] = made["make"](**reading.names)
        return function


def _serialiser(
    field: model.ModelField,
    validate: Any,
    write: Any,
    how: dict[str, Any],
    refused: Callable[[list[Any], Any], Exception],
) -> Callable[[Any], Any]:
    def content_of(result: Any) -> Any:
        try:
            value = validate(result, from_attributes=True)
        except ValueError:
            value, errors = field.validate(result, {}, loc=("response",))
            if errors:
                raise refused(errors, result) from None
        return write(value, **how)

    return content_of


def _request_maker(site: Site, context: Any) -> Callable[..., Request]:
    """What makes the ``Request`` that functions of a route take, as FastAPI's routing leaves it."""
    app, state, router = site.app, site.state, site.app.router

    def request_of(face: Any, path_params: dict[str, Any], body: Any, data: Any) -> Request:
        scope = face.scope(state)
        scope.update(app=app, router=router, endpoint=context.endpoint, path_params=path_params)
        scope["route"] = context.original_route
        scope["starlette.exception_handlers"] = site.handlers()
        messages = [{"type": "http.request", "body": face.body, "more_body": False}]

        async def receive() -> Any:
            # Who waits for the client to leave is cancelled when it does.
            return messages.pop() if messages else await _forever()

        request = Request(scope, receive)
        if body is not GLOBALS["absent"]:
            messages.clear()
            request._stream_consumed = True
            request._body = b"" if body is None else body
            if body is not None and data is not GLOBALS["absent"]:
                request._json = data
        return request

    return request_of


async def _forever() -> Any:
    import asyncio

    await asyncio.get_running_loop().create_future()


def _response_of() -> Response:
    """The response that dependencies and endpoint may put headers, cookies and a status into."""
    response = Response()
    del response.headers["content-length"]
    response.status_code = None  # type: ignore[assignment]
    return response


def _route_path(scope: MutableMapping[str, Any]) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _value(given: Any) -> Any:
    """What stands in a placeholder of FastAPI's defaults."""
    return given.value if isinstance(given, model.DefaultPlaceholder) else given


def _indented(lines: list[str], by: int = 4) -> list[str]:
    return [f"{' ' * by}{line}" for line in lines]


_GLOBALS: dict[str, Any] = {
    **GLOBALS,
    "Response": Response,
    "SecurityScopes": SecurityScopes,
    "copy_context": contextvars.copy_context,
    "of_thread": KNOWN,
    "partial": partial,
    "plain": _core.plain_json,
    "response_of": _response_of,
    "whole": answer.whole,
    "work_for": work_for,
}
