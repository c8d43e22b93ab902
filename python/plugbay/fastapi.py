"""From what FastAPI authors write, routers and apps, to ASGI apps that the core can mount.

FastAPI is looked up among the modules that are loaded and never imported first: a plugin that has a router has
imported it, and a host without one need not wait for it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plugbay.errors import InvalidError
from plugbay.lifespan import Lifespan
from plugbay.signature import shown, takes

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

App = Callable[..., Awaitable[None]]


Segment = tuple[str, str | None, str, str | None]
"""What stands between two slashes of a path: the text before a parameter, its convertor, the text after the last
parameter, and the text between two."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A route for the core's table.

    ``segments`` is ``None`` when nobody can say which paths it takes, ``methods`` is ``None`` when it takes any, and
    empty when it answers no plain request at all. The rest is for lists, but ``handler``.
    """

    segments: list[Segment] | None
    methods: list[str] | None
    path: str
    shown_methods: list[str]
    name: str | None
    reason: str | None
    handler: Any


@dataclass(slots=True)
class Mount:
    """An app on its way to the core. ``path`` is where it will stand, as ``/api/plugins/ping``."""

    path: str
    app: App
    lifespan: Lifespan = field(repr=False)
    is_router: bool
    slow: list[Any] = field(default_factory=list, repr=False)
    """The routers, or the app itself, that are not to be compiled."""

    def planned(self, plugin: str, off: str | None) -> list[Planned]:
        """Its routes in the order in which they are tried, each with its compiled handler or why it has none.

        ``plugin`` is the id of whose mount it is. ``off`` says why none of them is compiled, when none is to be.
        """
        reason = off or "not an app of FastAPI's"
        if _is_a(self.app, "fastapi.applications", "FastAPI"):
            if hasattr(sys.modules["fastapi.routing"], "iter_route_contexts"):
                from plugbay.compiled.plan import plan

                asked = "the plugin asks for ASGI" if self.app in self.slow else None
                return plan(self, plugin, off or asked)
            reason = off or "this FastAPI is not as expected (older than 0.137)"
        routes = routes_of(self.app, self.path if self.is_router else "")
        rows = [(route.methods, f"{self.path}{route.path}", route.name) for route in routes]
        rows = rows or [(["ANY"], f"{self.path}/…", None)]
        return [Planned(None, None, path, methods, name, reason, None) for methods, path, name in rows]

    def patterns(self) -> list[str] | None:
        """The paths that it has, below its own, in Starlette's form; ``None`` when nobody can know."""
        routes = getattr(self.app, "routes", None)
        if not isinstance(routes, list) or _serves_folders(getattr(self.app, "router", self.app)):
            return None
        found = _paths(routes)
        if found is None or not self.is_router:
            return found
        return [path.removeprefix(self.path) for path in found]

    def openapi(self) -> Callable[[], dict[str, Any]] | None:
        """A function that gives its OpenAPI document with whole paths, or ``None`` when it has none."""
        app = self.app
        if not _is_a(app, "fastapi.applications", "FastAPI"):
            return None
        if self.is_router:
            return app.openapi  # type: ignore[attr-defined, no-any-return]
        prefix = self.path

        def with_whole_paths() -> dict[str, Any]:
            document: dict[str, Any] = app.openapi()  # type: ignore[attr-defined]
            return {**document, "paths": {f"{prefix}{path}": item for path, item in document.get("paths", {}).items()}}

        return with_whole_paths


def is_router(thing: object) -> bool:
    """Whether it is a FastAPI ``APIRouter``."""
    return _is_a(thing, "fastapi.routing", "APIRouter")


def mount_of_routers(path: str) -> Mount:
    """An app of our own at ``path`` that answers for routers; ``include`` puts them in."""
    import fastapi

    app = fastapi.FastAPI(title="Plugbay", openapi_url="", docs_url=None, redoc_url=None)
    return Mount(path, app, Lifespan(app), is_router=True)


def include(mount: Mount, router: APIRouter) -> None:
    """Put a router into the app of ``mount_of_routers``.

    Raises ``InvalidError`` when FastAPI refuses it.
    """
    app: FastAPI = mount.app  # type: ignore[assignment]
    try:
        app.include_router(router, prefix=mount.path)
    except Exception as error:
        raise InvalidError(f"FastAPI refuses the router ({type(error).__name__}: {error}): mend its routes") from error


def mount_of_app(path: str, app: App) -> Mount:
    """A FastAPI app, a Starlette app or any other ASGI 3 app at ``path``, as it is.

    Raises ``InvalidError`` when it is none.
    """
    if inspect.isclass(app) or not callable(app) or not takes(app, 3):
        raise InvalidError(
            f"add_router takes a FastAPI APIRouter, a FastAPI or Starlette app or any ASGI 3 app, not {shown(app)}: "
            "give the router itself"
        )
    return Mount(path, app, Lifespan(app), is_router=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an app, as lists show it. ``path`` is below the mount."""

    methods: list[str]
    path: str
    name: str | None
    pattern: re.Pattern[str] | None = field(repr=False)
    example: str = field(repr=False)

    def __str__(self) -> str:
        return f"{' '.join(self.methods)} {self.path}"

    def hides(self, later: Route) -> bool:
        """Whether every request for ``later`` ends here, when this route is tried first."""
        covers = set(later.methods) <= set(self.methods)
        return covers and self.pattern is not None and self.pattern.fullmatch(later.example) is not None


def contexts_of(routes: list[Any]) -> Iterable[Any]:
    """Each route, those of included routers with their whole paths."""
    # Before FastAPI 0.137 a router had copies of the routes of those that it included.
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return routes if contexts is None else map(_whole, contexts(routes))


def _whole(context: Any) -> Any:
    """The context, or the route that stands for it: FastAPI 0.137 gives the context of Starlette's routes no path."""
    return context if context.path else getattr(context, "starlette_route", None) or context


def routes_of(app: App, path: str) -> list[Route]:
    """The routes of an app that is mounted at ``path``, in the order in which they are tried; none when unknown."""
    routes = getattr(app, "routes", None)
    if not isinstance(routes, list):
        return []
    found = []
    for context in contexts_of(routes):
        full = getattr(context, "path", None)
        if full is None:
            continue
        is_mount = _is_a(getattr(context, "original_route", context), "starlette.routing", "Mount")
        is_socket = _is_a(getattr(context, "original_route", context), "starlette.routing", "WebSocketRoute")
        methods = sorted(getattr(context, "methods", None) or (["WS"] if is_socket else ["ANY"]))
        # Text that a parameter of any kind takes, a number too.
        example = re.sub(r"\{[^}]*\}", "1", full)
        below = full.removeprefix(path) + ("/…" if is_mount else "")
        found.append(
            Route(methods, below, getattr(context, "name", None), getattr(context, "path_regex", None), example)
        )
    return found


def forget() -> None:
    """Empty the caches of FastAPI and ``typing`` that keep functions and models of plugins alive."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fastapi."):
            for value in list(vars(module).values()):
                clear = getattr(value, "cache_clear", None)
                if callable(clear) and not inspect.isclass(value):
                    clear()
    for clear in getattr(sys.modules.get("typing"), "_cleanups", ()):
        clear()


def _is_a(thing: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(thing, kind)


def _paths(routes: list[Any]) -> list[str] | None:
    """The paths of routes, those of included routers among them; ``None`` when one of them answers more than a path."""
    found: list[str] = []
    for context in contexts_of(routes):
        path = getattr(context, "path", None)
        if path is None:
            # A Host route: it goes by the name that the client used.
            return None
        is_mount = _is_a(getattr(context, "original_route", context), "starlette.routing", "Mount")
        found.append(f"{path}/{{path:path}}" if is_mount else path)
    return found


def _serves_folders(router: Any) -> bool:
    """Whether a router, or one that it includes, answers what no route has with a folder of files (``frontend``)."""
    if getattr(router, "_low_priority_routes", None):
        return True
    included = (getattr(route, "original_router", None) for route in getattr(router, "routes", ()))
    return any(_serves_folders(each) for each in included if each is not None)
