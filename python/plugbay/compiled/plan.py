"""The routes of a whole app in FastAPI's order: for each its path, its compiled handler, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, routing
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES
from starlette.routing import PARAM_REGEX, Mount, Route, WebSocketRoute

from plugbay.compiled import model
from plugbay.compiled.answer import Site
from plugbay.compiled.parameters import Unclear
from plugbay.compiled.route import compile_route
from plugbay.fastapi import Mount as FastMount
from plugbay.fastapi import Planned, Segment, contexts_of

_OWN = {name: CONVERTOR_TYPES[name] for name in ("str", "int", "float", "uuid", "path")}
"""Starlette's own convertors, by name."""


def plan(mount: FastMount, plugin: str, off: str | None) -> list[Planned]:
    """The routes of a mount of a plugin. ``off`` says why none of them is compiled, when none is to be."""
    app: Any = mount.app
    why = off or _against(app)
    site = Site(app, plugin, mount.lifespan)
    found = []
    for route in app.routes:
        asked = "the plugin asks for ASGI" if getattr(route, "original_router", None) in mount.slow else None
        found += [_planned(context, site, mount, why or asked) for context in contexts_of([route])]
    return found


def _planned(context: Any, site: Site, mount: FastMount, why: str | None) -> Planned:
    original = getattr(context, "original_route", context)
    path = context.path
    is_mount, is_socket = isinstance(original, Mount), isinstance(original, WebSocketRoute)
    methods = sorted(getattr(context, "methods", None) or ())
    relative = None if path is None else path.removeprefix(mount.path if mount.is_router else "")
    handler, reason = None, why or _not_a_route(original)
    segments: list[Segment] | None = None
    try:
        if relative is not None and _has_own_matching(original):
            segments = segments_of(f"{relative}/{{path:path}}" if is_mount else relative)
        if reason is None:
            if segments is None:
                raise Unclear("decides for itself which requests it takes")
            handler = compile_route(context, site)
    except Unclear as unclear:
        reason = reason or str(unclear)
    except Exception as error:
        reason = f"the compile step failed: {type(error).__name__}: {error}"
    shown = methods or (["WS"] if is_socket else ["ANY"])
    return Planned(
        segments=segments,
        methods=[] if is_socket else methods or None,
        path=f"{mount.path}{relative or ''}{'/…' if is_mount or relative is None else ''}",
        shown_methods=shown,
        name=getattr(context, "name", None),
        reason=reason,
        handler=handler,
    )


def segments_of(path: str) -> list[Segment]:
    """A path in Starlette's form, by segments. Raises ``Unclear`` for a form that the core does not match."""
    segments: list[Segment] = []
    for text in path.split("/")[1:]:
        if segments and segments[-1][1] == "path":
            raise Unclear("a path with something behind a parameter of all the rest")
        found = list(PARAM_REGEX.finditer(text))
        if not found:
            segments.append((text, None, "", None))
            continue
        if len(found) > 1:
            segments.append(_segment_of_two(text, found))
            continue
        match = found[0]
        kind = (match.group(2) or ":str")[1:]
        if CONVERTOR_TYPES.get(kind) is not _OWN.get(kind) or kind not in _OWN:
            raise Unclear(f"a path convertor of its own: {kind}")
        if kind == "path" and match.end() < len(text):
            raise Unclear("a path with something behind a parameter of all the rest")
        segments.append((text[: match.start()], kind, text[match.end() :], None))
    return segments


def _segment_of_two(text: str, found: list[re.Match[str]]) -> Segment:
    between = text[found[0].end() : found[1].start()]
    if len(found) > 2 or not between or any(match.group(2) not in (None, ":str") for match in found):
        raise Unclear("a path with several parameters between two slashes")
    return text[: found[0].start()], "str", text[found[1].end() :], between


def _not_a_route(original: Any) -> str | None:
    """Why a route is none that FastAPI's own machinery runs."""
    if isinstance(original, WebSocketRoute):
        return "a WebSocket"
    if isinstance(original, Mount):
        return "a mounted application"
    if type(original) is Route:
        return "a plain Starlette route"
    if not isinstance(original, routing.APIRoute):
        return "not a route of FastAPI's"
    return None


def _has_own_matching(original: Any) -> bool:
    """Whether a route takes the requests that its path and its methods say, and no others."""
    own = (routing.APIRoute, Route, Mount, WebSocketRoute, routing.APIWebSocketRoute)
    return any(type(original).matches is kind.matches for kind in own)


def _against(app: Any) -> str | None:
    """Why no route of an app is compiled."""
    if not isinstance(app, FastAPI):
        return "not an app of FastAPI's"
    if unexpected := model.unexpected():
        return f"this FastAPI is not as expected ({unexpected})"
    if app.user_middleware:
        return "the app has middleware"
    if app.root_path:
        return "the app has a root_path"
    if getattr(app, "max_body_size", None) is not None:
        return "the app has a max_body_size"
    telemetry = getattr(app, "_native_telemetry", None)
    if telemetry is not None and telemetry.enabled():
        return "FastAPI's telemetry is on"
    if any(getattr(type(app), name) is not _original(name) for name in ("__call__", "build_middleware_stack")):
        return "the app changes how it is called"
    if any(_is_changed(type(router)) for router in _routers(app.router)):
        return "a router class of its own"
    return None


def _original(name: str) -> Any:
    return getattr(FastAPI, name, getattr(Starlette, name, None))


def _is_changed(kind: type) -> bool:
    """Whether a class of routers finds or runs its routes in a way of its own."""
    names = ("app", "__call__", "handle", "matches", "_match_low_priority")
    return any(getattr(kind, name, None) is not getattr(routing.APIRouter, name, None) for name in names)


def _routers(router: Any) -> Iterator[Any]:
    yield router
    for route in router.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from _routers(inner)
