"""A plugin and the host that it is given: each ``add_*`` checks at once, and all is seen by others at the commit."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from plugbay import _core
from plugbay._plugin_threads import OfPlugin
from plugbay.errors import ClosedError, ConflictError, HandlerError, InvalidError
from plugbay.fastapi import Mount, include, is_router, mount_of_app, mount_of_routers
from plugbay.lifespan import Lifespan
from plugbay.sdk import AgentTool, PluginManifest
from plugbay.signature import bare, choices_of, has_second_positional, is_async, name_of, shown, takes

Function = TypeVar("Function", bound=Callable[..., Any])

DASH_NAMES = frozenset({"errors", "help", "plugins", "tools"})
"""The names on ``dash`` that belong to the REPL itself."""

_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")


class BackendPlugin:
    """A plugin. A module exposes an instance, or a subclass, as ``PLUGIN``."""

    manifest: PluginManifest

    def setup(self, host: PluginHost) -> None:
        """Register what the plugin offers. Nothing of it is seen by others unless this returns."""
        raise NotImplementedError(f"{type(self).__qualname__} has no setup: write `def setup(self, host): …`")


class PluginHost:
    """What ``setup`` receives: the one thing that a plugin needs of the host.

    After ``setup`` has returned, every ``add_*`` and ``on_*`` raises ``ClosedError``; ``publish`` and ``log`` stay
    usable. All of them raise ``InvalidError`` for what is not valid, naming what is wrong and the cure, and
    ``ConflictError`` when this plugin already offers the name. A name that another plugin holds fails the commit.
    """

    def __init__(
        self, manifest: PluginManifest, draft: _core.Draft, folder: Path | None, *, fast_routes: bool = True
    ) -> None:
        self._manifest = manifest
        self._draft = draft
        self._folder = folder
        self._off = None if fast_routes else "fast_routes is off"
        self._mounts: dict[str, Mount] = {}
        self._lifespans: list[Lifespan] = []
        self._closed = False

    @property
    def manifest(self) -> PluginManifest:
        """What the plugin says of itself."""
        return self._manifest

    @property
    def log(self) -> logging.Logger:
        """The logger ``plugin.<id>``."""
        return logging.getLogger(f"plugin.{self._manifest.id}")

    def add_router(self, router: Any, prefix: str | None = None, *, compiled: bool = True) -> None:
        """Answer HTTP requests and WebSockets at ``/api/plugins/<id>``, or at ``/api/<prefix>``.

        ``router`` is a FastAPI ``APIRouter``; several of them at one prefix answer together. A FastAPI app, a Starlette
        app or any other ASGI 3 app is mounted as it is, alone at its prefix, with its lifespan and its middleware.

        Routes of FastAPI are compiled to handlers of the core where that gives the same answers; ``compiled=False``
        leaves them to FastAPI's own ASGI app. ``plugbay routes`` shows which are.
        """
        self._check_open("add_router")
        prefix = None if prefix is None else _checked_prefix(prefix)
        path = f"/api/{prefix or f'plugins/{self._manifest.id}'}"
        mount = self._mounts.get(path)
        if mount is not None and not (mount.is_router and is_router(router)):
            raise ConflictError(
                f"plugin {self._manifest.id} already answers at {path}: give the app a prefix of its own"
            )
        if is_router(router):
            fresh = mount_of_routers(path) if mount is None else mount
            include(fresh, router)
        else:
            fresh = mount_of_app(path, router)
        if not compiled:
            fresh.slow.append(router)
        if mount is None:
            self._take(fresh)

    def add_agent_tool(self, tool: AgentTool | Callable[..., Any]) -> None:
        """Offer a tool to agents, people and programs.

        A plain function becomes a tool: its name, docstring and annotations give the tool's name, description and
        argument schema.
        """
        self._check_open("add_agent_tool")
        tool = tool if isinstance(tool, AgentTool) else AgentTool.from_function(tool)
        _check_tool(tool)
        self._draft.add_tool(
            tool.name,
            tool.description,
            _as_json(tool.schema, f"the schema of tool {tool.name!r}"),
            None
            if tool.output_schema is None
            else _as_json(dict(tool.output_schema), f"the output schema of tool {tool.name!r}"),
            tool.side_effect,
            tool.specifier_template,
            tool.group,
            float(tool.timeout_s),
            tool.max_concurrency,
            tool.handler,
            has_second_positional(tool.handler),
            is_async(tool.handler),
        )

    def add_ws_channel(self, name: str, handler: Callable[[Any, Any], Any]) -> None:
        """Take the messages of a channel on the shared ``/ws``: ``handler(conn, message)``, sync or async.

        What it returns is the reply to a frame that has a ``ref``.
        """
        self._check_open("add_ws_channel")
        _check_callable(f"the handler of channel {name!r}", handler, 2, "(conn, message)")
        self._draft.add_channel(name, handler, is_async(handler))

    def add_dash_facade(self, name: str, factory: Callable[[], Any]) -> None:
        """Bind what ``factory()`` returns to ``dash.<name>`` in every REPL session."""
        self._check_open("add_dash_facade")
        _check_callable(f"the factory of facade {name!r}", factory, 0, "no arguments")
        if name in DASH_NAMES:
            raise ConflictError(
                f"dash.{name} belongs to the REPL itself: choose another name than {sorted(DASH_NAMES)}"
            )
        self._draft.add_facade(name, factory)

    def add_assets(self, folder: str | Path) -> None:
        """Serve the web files of a folder at ``/api/plugins/<id>/assets/…``; relative to the plugin's own folder."""
        self._check_open("add_assets")
        path = (self._folder or Path()) / folder
        if not path.is_dir():
            raise InvalidError(f"the folder of assets {str(path)!r} is no folder: make it, or name another")
        self._draft.add_assets(str(path.resolve()))

    def add_resource(
        self, uri: str, fn: Callable[..., Any], *, name: str, mime_type: str | None = None, description: str = ""
    ) -> None:
        """Offer an MCP resource: ``fn`` returns its content. The placeholders of a template uri are its arguments."""
        self._check_open("add_resource")
        _check_callable(f"the function of resource {uri!r}", fn, None, "the placeholders of the uri")
        self._draft.add_resource(uri, name, mime_type, description, fn, is_async(fn))

    def add_prompt(self, fn: Callable[..., Any], *, name: str | None = None) -> None:
        """Offer an MCP prompt: ``fn`` returns its text. Its parameters, each a text, are the prompt's arguments."""
        self._check_open("add_prompt")
        _check_callable("a prompt", fn, None, "the prompt's arguments")
        name = name_of(fn) if name is None else name
        if name is None:
            raise InvalidError(f"{shown(fn)} has no name for a prompt: use add_prompt(fn, name=…)")
        from plugbay.docstring import read_docstring

        docs = read_docstring(inspect.getdoc(bare(fn)))
        choices = choices_of(fn)
        arguments = [
            {
                "name": parameter.name,
                "description": docs.parameters.get(parameter.name, ""),
                "required": parameter.default is parameter.empty,
                "choices": choices.get(parameter.name, []),
            }
            for parameter in inspect.signature(fn).parameters.values()
        ]
        self._draft.add_prompt(name, docs.description, json.dumps(arguments), fn, is_async(fn))

    def publish(self, topic: str, data: Any) -> None:
        """Send ``data`` to the subscribers of a topic of this plugin's channels; from any thread, at any time.

        Raises ``InvalidError`` when the topic is of no channel of this plugin, or ``data`` is not JSON-able.
        """
        self._draft.publish(topic, data)

    def on_startup(self, hook: Function) -> Function:
        """Call ``hook()``, sync or async, before requests are taken. When it raises, the plugin is withdrawn."""
        self._check_open("on_startup")
        self._add_hook("startup", hook)
        return hook

    def on_shutdown(self, hook: Function) -> Function:
        """Call ``hook()``, sync or async, after the last request was answered; the last hook added runs first."""
        self._check_open("on_shutdown")
        self._add_hook("shutdown", hook)
        return hook

    def _add_hook(self, moment: str, hook: Callable[[], Any]) -> None:
        _check_callable(f"a {moment} hook", hook, 0, "no arguments")
        name = name_of(hook) or f"on_{moment}"
        if is_async(hook):
            self._draft.add_hook(moment, name, hook, True)
        else:
            self._draft.add_hook(moment, name, functools.partial(_call_plain, hook), False)

    def _take(self, mount: Mount) -> None:
        """Keep a mount until the setup is over, with the hooks that start and stop its app."""
        lifespan = mount.lifespan
        self._draft.add_hook("startup", f"lifespan of {mount.path}", lifespan.startup, True)
        self._draft.add_hook("shutdown", f"lifespan of {mount.path}", lifespan.shutdown, True)
        self._lifespans.append(lifespan)
        self._mounts[mount.path] = mount

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise ClosedError(
                f"{what} of plugin {self._manifest.id} was called after setup had returned: call it in setup"
            )

    # The loader's side: not for plugins.

    def _add_child(self, folder: Path) -> None:
        """Take in the plugin's other half, the child process that ``manifest.json`` in ``folder`` describes."""
        self._draft.add_child(folder)

    def _finish(self) -> list[Lifespan]:
        """After ``setup`` has returned: mount the routers, commit the draft. Returns what must be stopped at the end.

        Raises ``ConflictError`` when the plugin clashes with another; then nothing of it serves.
        """
        self._closed = True
        mounts, self._mounts = self._mounts, {}
        lifespans, self._lifespans = self._lifespans, []
        for mount in mounts.values():
            self._add(mount)
        self._draft.commit()
        return lifespans

    def _add(self, mount: Mount) -> None:
        """Put a mount, whose routes are all known now, into the draft."""
        prefix = mount.path.removeprefix("/api/")
        own = prefix == f"plugins/{self._manifest.id}"
        patterns, planned = mount.patterns(), mount.planned(self._manifest.id, self._off)
        for reason in {each.reason for each in planned if each.reason and each.reason.startswith("this FastAPI")}:
            self.log.warning("the routes at %s run on ASGI: %s", mount.path, reason)
        app = OfPlugin(mount.app, self._manifest.id)
        rest = (app, mount.lifespan.state, mount.openapi())
        if mount.is_router:
            patterns = ["/{path:path}"] if patterns is None else patterns
            self._draft.add_router_mount(None if own else prefix, patterns, planned, *rest)
        else:
            self._draft.add_mount(None if own else prefix, patterns, planned, *rest)

    def _abandon(self) -> None:
        """Give the plugin up: nothing of it serves, and a ``setup`` that still runs can add nothing more."""
        self._closed = True
        self._mounts = {}
        self._lifespans = []
        self._draft.close()


def _checked_prefix(prefix: str) -> str:
    """A prefix without its outer slashes. Raises ``InvalidError`` when the core would refuse it."""
    if not isinstance(prefix, str):
        raise InvalidError(f'prefix {prefix!r} is not a text: write it like "weather" or "weather/v2"')
    text = prefix.strip("/")
    segments = text.split("/")
    if not all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments):
        raise InvalidError(
            f'prefix {prefix!r} is not valid: use segments of letters, digits, "_", "-" and "." joined by "/", for '
            'example "weather/v2"'
        )
    if segments[0] in ("host", "plugins") or len(text) > 128:
        raise InvalidError(
            f'prefix {prefix!r} is not valid: use a first word other than "host" and "plugins"; at most 128 characters'
        )
    return text


def _check_callable(what: str, fn: object, count: int | None, expected: str) -> None:
    if not callable(fn):
        raise InvalidError(f"{what} is {shown(fn)}: give a function that takes {expected}")
    if count is not None and not takes(fn, count):
        raise InvalidError(f"{what}, {shown(fn)}, cannot be called with {expected}: change its parameters")


def _check_tool(tool: AgentTool) -> None:
    """Whether the fields of a hand-written tool are of the right types; what they say is checked by the core."""
    what = f"tool {tool.name!r}"
    if not isinstance(tool.name, str) or not isinstance(tool.description, str):
        raise InvalidError(f"the name and the description of {what} are texts: quote them")
    if not isinstance(tool.parameters, Mapping) or not all(isinstance(name, str) for name in tool.parameters):
        raise InvalidError(f'the parameters of {what} map names to schemas: write {{"text": {{"type": "string"}}}}')
    if isinstance(tool.required, str) or not set(tool.required) <= set(tool.parameters):
        raise InvalidError(f"required of {what} is a list of names of its parameters, not {tool.required!r}")
    if not isinstance(tool.timeout_s, int | float) or not 0 < tool.timeout_s < 1e9:
        raise InvalidError(f"timeout_s of {what} is a number of seconds above 0, not {tool.timeout_s!r}")
    at_a_time = tool.max_concurrency
    if at_a_time is not None and (isinstance(at_a_time, bool) or not isinstance(at_a_time, int) or at_a_time < 1):
        raise InvalidError(f"max_concurrency of {what} is a whole number from 1, or None, not {at_a_time!r}")
    _check_callable(
        f"the handler of {what}", tool.handler, 1 + has_second_positional(tool.handler), "(args) or (args, ctx)"
    )


def _call_plain(hook: Callable[[], Any]) -> None:
    result = hook()
    if inspect.iscoroutine(result):
        result.close()
        raise HandlerError(f"{shown(hook)} returned a coroutine that nobody awaits: give the `async def` itself")


def _as_json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"{what} is not JSON ({error}): use dicts, lists, texts, numbers, booleans and None"
        ) from None
