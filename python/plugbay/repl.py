"""``dash``: everything that the plugins offer, as names in a Python console, a script or a notebook.

It works where an event loop runs already: what has to be awaited runs on the host's own loop, and ``dash`` waits.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from plugbay import _core
from plugbay._registry import registry
from plugbay._runner import BackgroundHost
from plugbay.client import HostClient, open_client
from plugbay.errors import HandlerError, PlugbayError, PluginError, ToolError, UnavailableError
from plugbay.sdk import PluginManifest
from plugbay.signature import shown


class _Backend(Protocol):
    """Where ``dash`` gets what it shows."""

    def tools(self) -> dict[str, dict[str, Any]]:
        """Each tool's ``description`` and ``parameters``, by name."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a tool and wait for its result."""

    async def call_async(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a tool."""

    def plugins(self) -> list[PluginManifest]:
        """The plugins that serve."""

    def errors(self) -> list[PluginError]:
        """What went wrong."""

    def facades(self) -> dict[str, Any]:
        """The objects of the plugins, by name."""

    def missing(self, name: str) -> str:
        """Why there is no facade of that name, and what to do."""


class Dash:
    """What a console drives a host with: ``dash.tools``, ``dash.plugins``, ``dash.errors``, ``dash.<facade>``."""

    def __init__(self, backend: _Backend) -> None:
        self._backend = backend
        backend.facades()

    @property
    def tools(self) -> ToolNames:
        """The tools: ``dash.tools.ping.echo(text="hi")``, or ``dash.tools["ping.echo"](text="hi")``."""
        return ToolNames(self._backend, "")

    @property
    def plugins(self) -> list[PluginManifest]:
        """The manifests of the plugins that serve."""
        return _Lines(self._backend.plugins())

    @property
    def errors(self) -> list[PluginError]:
        """What went wrong with plugins, oldest first, each with its cure."""
        return _Lines(self._backend.errors())

    def help(self) -> None:
        """Print what there is."""
        print(_overview(self._backend))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            facades = self._backend.facades()
            if name in facades:
                return facades[name]
        raise AttributeError(f"dash.{name}: {self._backend.missing(name)}")

    def __dir__(self) -> list[str]:
        return sorted({"errors", "help", "plugins", "tools", *self._backend.facades()})

    def __repr__(self) -> str:
        return "<dash: dash.help() shows what there is>"


class ToolNames:
    """Tools whose names begin alike; one that is itself a tool is called: it blocks and returns the result."""

    def __init__(self, backend: _Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def __call__(self, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> Any:
        """Run the tool and return its result; arguments by name, or as one dict. Raises ``ToolError``."""
        self._check()
        try:
            return self._backend.call(self._name, _together(self, arguments, named))
        except PlugbayError as error:
            raise _as_tool_error(error) from None

    async def call_async(self, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> Any:
        """Run the tool and return its result, in ``async`` code. Raises ``ToolError``."""
        self._check()
        try:
            return await self._backend.call_async(self._name, _together(self, arguments, named))
        except PlugbayError as error:
            raise _as_tool_error(error) from None

    def __getitem__(self, name: str) -> ToolNames:
        full = f"{self._name}.{name}" if self._name else name
        tools = self._backend.tools()
        if full in tools or any(tool.startswith(f"{full}.") for tool in tools):
            return ToolNames(self._backend, full)
        near = ", ".join(sorted(self)) or "none"
        raise KeyError(f"no tool {full!r}: there are {near}")

    def __getattr__(self, name: str) -> ToolNames:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __iter__(self) -> Iterator[str]:
        """The full names of the tools below this one."""
        return (tool for tool in self._backend.tools() if not self._name or tool.startswith(f"{self._name}."))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (f"{self._name}.{name}" if self._name else name) in self._backend.tools()

    def __dir__(self) -> list[str]:
        below = len(self._name) + 1 if self._name else 0
        names = {tool[below:].partition(".")[0] for tool in self}
        own = {"call_async"} if self._name in self._backend.tools() else set()
        return sorted({name for name in names if name.isidentifier()} | own)

    def _ipython_key_completions_(self) -> list[str]:
        below = len(self._name) + 1 if self._name else 0
        return [tool[below:] for tool in self]

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        tool = self._backend.tools().get(self._name)
        return _describe(self._name, tool) if tool else "Tools: " + ", ".join(self)

    @property
    def __signature__(self) -> inspect.Signature:
        return _signature(self._backend.tools().get(self._name) or {})

    def __repr__(self) -> str:
        tools = self._backend.tools()
        lines = [_describe(self._name, tools[self._name])] if self._name in tools else []
        return "\n".join(lines + [_headline(name, tools[name]) for name in sorted(self)]) or "<no tools>"

    def _check(self) -> None:
        if self._name not in self._backend.tools():
            what = f"{self._name!r} is the beginning of" if self._name else "dash.tools holds"
            raise TypeError(f"{what} several tools: call one of {', '.join(sorted(self)) or '(none)'}")


class FacadeFace:
    """A plugin's own object on ``dash``: as the object is, but what it has to await is awaited on the host's loop."""

    def __init__(self, target: Any, run: Callable[[Any], Any]) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_run", run)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or inspect.isclass(value):
            return self._settled(value)

        @functools.wraps(value, updated=())
        def call(*positional: Any, **named: Any) -> Any:
            return self._settled(value(*positional, **named))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return self._settled(self._target(*positional, **named))

    def __getitem__(self, key: Any) -> Any:
        return self._settled(self._target[key])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._target)

    def __len__(self) -> int:
        return len(self._target)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, item: object) -> bool:
        return item in self._target

    def __dir__(self) -> list[str]:
        return dir(self._target)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return inspect.getdoc(self._target)

    def __repr__(self) -> str:
        return repr(self._target)

    def _settled(self, value: Any) -> Any:
        return self._run(value) if inspect.isawaitable(value) else value


def dash_of_host(host: BackgroundHost) -> Dash:
    """The ``dash`` of a host in this process."""
    return Dash(_LocalBackend(host))


def connect(url: str | None = None, token: str | None = None) -> Dash:
    """The ``dash`` of a running host, over HTTP.

    Without ``url`` it is the host that runs in ``PLUGBAY_HOME``; without ``token``, ``PLUGBAY_TOKEN`` or the token file
    of that folder is used. Facades live in the host's process and are not there.

    Raises ``UnavailableError`` when no host answers.
    """
    client = open_client(url, token)
    if client is None:
        raise UnavailableError("no host runs in this home folder: start one with `plugbay serve`, or give its address")
    return Dash(_RemoteBackend(client))


class _LocalBackend:
    """A host in this process."""

    def __init__(self, host: BackgroundHost) -> None:
        self._host = host
        self._faces: dict[str, FacadeFace] = {}
        self._failed: set[str] = set()
        self._generation = -1

    def tools(self) -> dict[str, dict[str, Any]]:
        return {
            tool["name"]: {"description": tool["description"], "parameters": json.loads(tool["parameters"])}
            for tool in _core.tools()
        }

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return self._host.run(self._call(name, arguments))

    async def call_async(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return await self._host.run_async(self._call(name, arguments))

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        try:
            text = json.dumps(arguments, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            _core.refuse(name, "repl")
            message = f"the arguments of {name} are not JSON ({error}): use dicts, lists, texts, numbers and booleans"
            raise ToolError("invalid", message) from None
        return json.loads(await _core.invoke(name, text, "repl"))

    def plugins(self) -> list[PluginManifest]:
        return registry.loaded

    def errors(self) -> list[PluginError]:
        return registry.errors

    def facades(self) -> dict[str, Any]:
        """Each factory is called once a session; those of plugins that have gone are forgotten."""
        if self._generation != (generation := _core.generation()):
            self._generation = generation
            offered = {name: (plugin, factory) for name, plugin, factory in _core.facades()}
            self._faces = {name: face for name, face in self._faces.items() if name in offered}
            for name, (plugin, factory) in offered.items():
                if name not in self._faces and name not in self._failed:
                    self._make(name, plugin, factory)
        return dict(self._faces)

    def missing(self, name: str) -> str:
        if name in self._failed:
            return "its factory failed, dash.errors says why: mend the plugin and start again"
        return "no plugin offers it: dash.help() shows what there is"

    def _make(self, name: str, plugin: str, factory: Callable[[], Any]) -> None:
        try:
            made = factory()
            made = self._await(made) if inspect.iscoroutine(made) else made
            self._faces[name] = FacadeFace(made, self._await)
        except Exception as error:
            self._failed.add(name)
            source = next((source for id, *_, source, _engine in _core.plugins() if id == plugin), plugin)
            message = f"{type(error).__qualname__}: the factory of dash.{name} ({shown(factory)}) failed: {error}"
            code = error.code if isinstance(error, PlugbayError) else HandlerError.kind
            _core.record(source, plugin, "run", code, message, _trace(error))

    def _await(self, awaitable: Any) -> Any:
        async def settle() -> Any:
            return await awaitable

        return self._host.run(settle())


class _RemoteBackend:
    """A host that is asked over HTTP."""

    def __init__(self, client: HostClient) -> None:
        self._client = client
        self.plugins()

    def tools(self) -> dict[str, dict[str, Any]]:
        return {tool["name"]: tool for tool in self._client.get("/api/host/tools")["tools"]}

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return self._client.call_tool(name, arguments)

    async def call_async(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return await self._client.call_tool_async(name, arguments)

    def plugins(self) -> list[PluginManifest]:
        fields = ("id", "name", "version", "description", "host_api")
        return [
            PluginManifest(*(plugin[name] for name in fields))
            for plugin in self._client.get("/api/host/plugins")["plugins"]
            if plugin["state"] == "running"
        ]

    def errors(self) -> list[PluginError]:
        return [
            PluginError(**{name: error.get(name) for name in PluginError.__slots__})
            for error in self._client.get("/api/host/errors")["errors"]
        ]

    def facades(self) -> dict[str, Any]:
        return {}

    def missing(self, name: str) -> str:
        for plugin in self._client.get("/api/host/plugins")["plugins"]:
            if name in plugin.get("offers", {}).get("facades", ()):
                return (
                    f"it is an object of plugin {plugin['id']} and lives in the host's process: over HTTP there are "
                    "only tools; start the host with `plugbay repl --port …` to have it in a console"
                )
        return "no plugin offers it: dash.help() shows what there is"


class _Lines(list[Any]):
    """A list that shows each item on a line of its own."""

    def __repr__(self) -> str:
        return "\n".join(str(item) for item in self) or "(none)"


def _together(tool: ToolNames, arguments: Any, named: dict[str, Any]) -> dict[str, Any]:
    if arguments is not None and not isinstance(arguments, Mapping):
        name, first = tool._name, next(iter(tool.__signature__.parameters), "argument")
        raise TypeError(f"{name} takes its arguments by name: write {name}({first}=…), or give one dict")
    return {**(arguments or {}), **named}


def _as_tool_error(error: PlugbayError) -> ToolError:
    return error if isinstance(error, ToolError) else ToolError(error.code, error.message)


def _trace(error: Exception) -> str:
    import traceback

    trace = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None))


def _signature(tool: Mapping[str, Any]) -> inspect.Signature:
    """A signature of the tool's arguments, for ``help`` and for completion."""
    schema = tool.get("parameters") or {}
    required = schema.get("required") or ()
    names = [name for name in schema.get("properties") or {} if name.isidentifier()]
    names.sort(key=lambda name: name not in required)
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if name in required else schema["properties"][name].get("default", ...),
            )
            for name in names
        ]
    )


def _headline(name: str, tool: Mapping[str, Any]) -> str:
    arguments = ", ".join(str(each) for each in _signature(tool).parameters.values())
    first = (tool.get("description") or "").strip().partition("\n")[0]
    return f"{name}({arguments})" + (f"  {first}" if first else "")


def _describe(name: str, tool: Mapping[str, Any]) -> str:
    arguments = ", ".join(str(each) for each in _signature(tool).parameters.values())
    lines = [f"{name}({arguments})", "", tool.get("description") or ""]
    for argument, schema in ((tool.get("parameters") or {}).get("properties") or {}).items():
        if isinstance(schema, Mapping) and schema.get("description"):
            lines.append(f"  {argument}: {schema['description']}")
    return "\n".join(lines).strip()


def _overview(backend: _Backend) -> str:
    tools, facades, errors = backend.tools(), backend.facades(), backend.errors()
    lines = ["dash.tools    each blocks and returns the result; `await ….call_async(…)` in async code"]
    lines += [f"  {_headline(name, tools[name])}" for name in sorted(tools)] or ["  (none)"]
    if facades:
        lines.append("facades       objects of the plugins")
        for name in sorted(facades):
            first = (facades[name].__doc__ or "").strip().partition("\n")[0]
            lines.append(f"  dash.{name}" + (f"  {first}" if first else ""))
    lines.append(f"dash.plugins  {', '.join(plugin.id for plugin in backend.plugins()) or '(none)'}")
    lines.append(f"dash.errors   {len(errors)}" + (": print(dash.errors)" if errors else ""))
    return "\n".join(lines)
