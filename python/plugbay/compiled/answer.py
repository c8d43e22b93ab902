"""What a compiled handler gives back: bytes, a whole response, or an ASGI app that goes on where it stopped.

An exception goes through FastAPI's own handlers in FastAPI's own order; only the default answer to an
``HTTPException`` is made at once, by FastAPI's function for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, routing
from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from plugbay._plugin_threads import name_plugin, work_for
from plugbay.compiled.threads import Blocking, claim
from plugbay.lifespan import Lifespan

App = Callable[[Any, Any, Any], Awaitable[None]]
Answer = bytes | tuple[int, Any, bytes] | App | None

_REST = "plugbay.rest"
"""Where a scope carries what the app's middleware is to go on with."""


class Site:
    """An app of a plugin with compiled routes, and the state of its lifespan."""

    def __init__(self, app: FastAPI, plugin: str, lifespan: Lifespan) -> None:
        self.app = app
        self.plugin = plugin
        self.state = lifespan.state
        self._lifespan = lifespan
        self._stack: Any = None
        self._blocking: dict[int, Blocking] = {}

    def blocking(self, function: Any) -> Blocking:
        """What runs a function off the loop; the same for all the routes that depend on it."""
        # Not every callable has a hash; all of them live as long as their routes.
        return self._blocking.setdefault(id(function), Blocking(self.plugin, self.claim))

    def claim(self) -> None:
        """Make the thread one from which ``anyio.from_thread`` finds the loop, as FastAPI's threads are."""
        if self._lifespan.loop is not None:
            claim(self._lifespan.loop)

    def answer_to(self, error: Exception, fill: Fill) -> Answer:
        """The answer to what a handler raised."""
        if isinstance(error, HTTPException) and self._has_default_handler(error):
            # Details that are no JSON make FastAPI's handler raise; that has an answer of its own.
            with contextlib.suppress(Exception):
                response = _finished(http_exception_handler(None, error))  # type: ignore[arg-type]
                # One that is raised again and again would gather what it went through.
                error.__traceback__ = None
                return of_response(response, self, fill)
        return self.going_on(_raising(error), fill)

    def going_on(self, rest: Callable[[Request], Awaitable[Response]], fill: Fill) -> App:
        """An app that does ``rest`` in the place of a route: inside the error handlers and exit stacks of this app."""
        inner = routing.request_response(rest)

        async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            work_for(self.plugin)
            scope["app"] = self.app
            fill(scope)
            scope[_REST] = inner
            await self._stacked()(scope, receive, send)

        return app

    def handlers(self) -> tuple[Any, Any]:
        """The exception handlers as the app's own middleware puts them into each scope."""
        layer = self._stacked()
        while not isinstance(layer, ExceptionMiddleware):
            layer = layer.app
        return layer._exception_handlers, layer._status_handlers

    def _stacked(self) -> Any:
        """The app's own stack of error handling around whatever a scope carries."""
        if self._stack is None:
            twin = copy.copy(self.app)
            twin.router = _rest  # type: ignore[assignment]
            self._stack = twin.build_middleware_stack()
        return self._stack

    def _has_default_handler(self, error: HTTPException) -> bool:
        handlers = self.app.exception_handlers
        if error.status_code in handlers:
            return False
        kind = next((kind for kind in type(error).__mro__ if kind in handlers), None)
        return kind is not None and handlers[kind] is http_exception_handler


Fill = Callable[[MutableMapping[str, Any]], None]
"""Puts into a scope what FastAPI's routing puts there."""


async def _rest(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await scope.pop(_REST)(scope, receive, send)


def _raising(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def rest(_request: Request) -> Response:
        raise error

    return rest


def _giving(response: Response, context: contextvars.Context) -> Callable[[Request], Awaitable[Response]]:
    """The response, sent in the context of the handler that made it."""

    async def rest(_request: Request) -> Response:
        return _InContext(response, context)

    return rest


class _InContext(Response):
    """A response that is sent in a given context."""

    def __init__(self, response: Response, context: contextvars.Context) -> None:
        self._response = response
        self._context = context

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sending = self._response(scope, receive, send)
        await asyncio.create_task(sending, context=self._context)


def of_response(response: Response, site: Site, fill: Fill) -> Answer:
    """A response that an endpoint returned: at once when that is all that it is, else as an app that sends it."""
    if type(response).__call__ is Response.__call__ and response.background is None:
        body = getattr(response, "body", None)
        if isinstance(body, bytes):
            return response.status_code, response.raw_headers, body
    context = contextvars.copy_context()
    # On a worker thread nothing has said it yet, and what sends a response may go on to block.
    context.run(name_plugin, site.plugin)
    return site.going_on(_giving(response, context), fill)


def whole(value: Any) -> bytes:
    """The body that FastAPI gives for a value without a response model. Raises what it raises when that is no JSON."""
    body = JSONResponse(jsonable_encoder(value)).body
    return bytes(body)


def _finished(work: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("FastAPI's handler of HTTPException waits for something: it is not the one that is known here")
