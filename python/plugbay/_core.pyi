"""The typed face of the Rust core. Everything here is for the package's own modules; plugins use ``plugbay``."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from os import PathLike
from typing import Any, Final, final

__all__ = [
    "HOST_API",
    "Caller",
    "Connection",
    "Draft",
    "Errands",
    "Host",
    "Principal",
    "Relay",
    "Ticket",
    "ToolContext",
    "channels",
    "errors",
    "explain",
    "facades",
    "generation",
    "invoke",
    "lint",
    "list_secrets",
    "loader_given_up",
    "log",
    "manifest_notes",
    "manifest_offers",
    "mounts",
    "pass_over",
    "passed_over",
    "plain_json",
    "plugins",
    "provider_tools",
    "record",
    "refuse",
    "remove_secret",
    "reset",
    "routes",
    "rules_of_settings",
    "search_tools",
    "set_secret",
    "switched_off",
    "tools",
    "withdraw",
]

HOST_API: Final = "1.0.0"
"""The version of the interface between host and plugin that this host offers."""

@final
class Draft:
    """The contributions of one plugin before they are committed. Raises ``ClosedError`` once committed or closed."""

    def __new__(cls, source: str, id: str, name: str, version: str, description: str, host_api: str) -> Draft: ...
    @staticmethod
    def of_child(source: str, folder: str | PathLike[str]) -> Draft:
        """The draft of a plugin that is but a folder with ``manifest.json``: it needs no more than ``commit``.

        Raises ``InvalidError``, ``MalformedError`` or ``UnavailableError`` for what is wrong with the manifest.
        """

    @property
    def id(self) -> str:
        """The plugin's id."""

    @property
    def has_server(self) -> bool:
        """Whether its ``manifest.json`` names a server."""

    def add_child(self, folder: str | PathLike[str]) -> None:
        """Add the other half of the plugin, the child process that ``manifest.json`` in ``folder`` describes."""

    def add_mount(
        self,
        prefix: str | None,
        patterns: Sequence[str] | None,
        routes: Sequence[Any],
        app: Callable[..., Awaitable[None]],
        state: dict[str, Any],
        openapi: Callable[[], Any] | None,
    ) -> None:
        """Put an ASGI 3 app at ``/api/<prefix>``, or at ``/api/plugins/<id>``.

        ``patterns`` are its paths below the prefix in Starlette's form; ``None`` means that it may answer any.
        ``routes`` are ``plugbay.fastapi.Planned``s in the order in which they are tried.
        ``state`` is copied into each scope's ``state``. ``openapi`` returns an OpenAPI document (a dict) with whole
        paths. ``scope["root_path"]`` is the mount.
        """

    def add_router_mount(
        self,
        prefix: str | None,
        patterns: Sequence[str],
        routes: Sequence[Any],
        app: Callable[..., Awaitable[None]],
        state: dict[str, Any],
        openapi: Callable[[], Any] | None,
    ) -> None:
        """Like ``add_mount`` for an app whose routes already carry the whole path: ``root_path`` is empty."""

    def add_direct_mount(
        self,
        prefix: str | None,
        patterns: Sequence[str],
        function: Callable[..., Any],
        is_async: bool,
    ) -> None:
        """Put one function at a prefix, without ASGI between.

        It is called with an object that has ``method``, ``path``, ``query``, ``headers``, ``body`` and ``caller``, and
        returns the bytes of a JSON body, or ``(status, headers, body)``.
        """

    def add_tool(
        self,
        name: str,
        description: str,
        parameters: str,
        output: str | None,
        side_effect: bool,
        specifier_template: str | None,
        group: str | None,
        timeout_s: float,
        concurrency: int | None,
        handler: Callable[..., Any],
        wants_context: bool,
        is_async: bool,
    ) -> None:
        """Offer a tool. ``parameters`` is the JSON text of the whole object schema, ``output`` of the result's."""

    def add_channel(self, name: str, handler: Callable[..., Any], is_async: bool) -> None: ...
    def add_facade(self, name: str, factory: Callable[[], Any]) -> None: ...
    def add_hook(self, moment: str, name: str, hook: Callable[[], Any], is_async: bool) -> None:
        """``moment`` is ``"startup"`` or ``"shutdown"``."""

    def add_assets(self, folder: str) -> None: ...
    def add_resource(
        self, uri: str, name: str, mime_type: str | None, description: str, fn: Callable[..., Any], is_async: bool
    ) -> None: ...
    def add_prompt(
        self, name: str, description: str, arguments: str, fn: Callable[..., Any], is_async: bool
    ) -> None: ...
    def publish(self, topic: str, data: Any) -> None:
        """Fan out to the subscribers of a topic of this plugin's own channels; usable from any thread, at any time."""

    def commit(self) -> None:
        """Make it serve, whole or not at all. Raises ``ConflictError``; the draft is closed either way."""

    def close(self) -> None:
        """Drop everything; later ``add_*`` raise ``ClosedError``."""

def record(source: str, plugin: str | None, stage: str, code: str, message: str, traceback: str | None) -> None:
    """Keep what went wrong with a plugin."""

def errors() -> list[tuple[str, str | None, str, str, str, str | None, str]]:
    """``(source, plugin, stage, code, message, traceback, at)``, oldest first; ``at`` is RFC 3339."""

def plugins() -> list[tuple[str, str, str, str, str, str, str]]:
    """``(id, name, version, description, host_api, source, engine)`` in the order of commit."""

def pass_over(id: str, source: str) -> None:
    """Keep that a plugin was not loaded, because it is switched off."""

def passed_over() -> list[tuple[str, str]]:
    """The plugins that were not loaded because they are switched off: ``(id, source)``."""

def tools() -> list[dict[str, Any]]:
    """``name, plugin, description, parameters, output, side_effect, specifier_template, fingerprint, group,
    timeout_s, max_concurrency``, by name; ``parameters`` and ``output`` are JSON text."""

def search_tools(text: str) -> list[str]:
    """The names of the tools that have these words, the best first."""

def provider_tools(format: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The tools in the format ``"openai"``, ``"anthropic"`` or ``"mcp"``, each as JSON text; and ``(provider's name,
    tool's own name)`` of each. Raises ``InvalidError`` for another format."""

def manifest_notes(folder: str | PathLike[str]) -> list[str]:
    """What is odd in the ``manifest.json`` of a folder and does no harm, and whether its server is still to be built.

    Raises ``InvalidError`` when it is wrong.
    """

def manifest_offers(folder: str | PathLike[str]) -> list[str]:
    """What the ``manifest.json`` of a folder offers, a line each. Raises ``InvalidError`` when it is wrong."""

def list_secrets(home: str, plugin: str) -> list[str]:
    """The names of a plugin's secrets in a home folder, without a host. Raises ``UnavailableError`` when damaged."""

def switched_off(home: str | PathLike[str]) -> list[str]:
    """The plugins in the folder ``plugins`` of a home folder that are switched off, by id.

    Raises ``UnavailableError`` when that cannot be told: then all are.
    """

def set_secret(home: str, plugin: str, name: str, value: str) -> None:
    """Keep a secret in a home folder, without a host. Raises ``InvalidError`` for a bad name or value."""

def remove_secret(home: str, plugin: str, name: str) -> None:
    """Remove a secret from a home folder, without a host. Raises ``NotFoundError`` when there is none."""

def channels() -> list[tuple[str, str]]:
    """``(name, plugin)``, by name."""

def facades() -> list[tuple[str, str, Callable[[], Any]]]:
    """``(name, plugin, factory)``, by name."""

def mounts() -> list[tuple[str, str, Callable[..., Awaitable[None]]]]:
    """``(prefix, plugin, app)``, by prefix: what ``plugbay routes`` lists."""

def plain_json(value: Any) -> bytes | None:
    """The JSON text of a value as FastAPI writes it without a response model; ``None`` when that is not certain."""

def routes() -> list[tuple[str, str, list[str], str, str | None, bool, str | None]]:
    """``(prefix, plugin, methods, path, name, compiled, reason)``, a mount's in the order in which they are tried."""

def withdraw(id: str) -> bool:
    """Take a plugin out. The Python objects that it offered are let go before this returns."""

def reset() -> None:
    """Take out every plugin and forget every error."""

def loader_given_up(change: int) -> None:
    """Count a loader thread as given up (1), or as come back (-1): ``/api/host/status`` shows how many there are."""

def log(level: int, logger: str, message: str) -> None:
    """Hand a record of Python's ``logging`` to the host's log. Never waits."""

def explain(question: str) -> str:
    """What would become of a call; JSON in, JSON out.

    The question is ``{"mode", "rules", "tool", "arguments"?, "tripped"?}``, with rules as ``{"list", "rule", "place"?,
    "plugin"?, "fingerprint"?}`` and the tool as ``{"name", "plugin"?, "side_effect"?, "specifier_template"?,
    "fingerprint"?}``. The answer is ``{"tool", "decision", "reason", "why", "rule", "specifier", "parts", "without"}``
    and what the tool is.
    """

def lint(question: str) -> str:
    """What is wrong with rules: ``{"rules", "tools"}`` as ``explain`` has them gives ``{"findings"}``."""

def rules_of_settings(flags: str) -> str:
    """The mode and the rules that the settings have: ``{"mode", "rules", "home"}`` as JSON. Raises ``InvalidError``."""

def generation() -> int:
    """Rises by one with every change of what serves."""

def invoke(name: str, arguments: bytes, door: str) -> asyncio.Future[bytes]:
    """Run a tool through the toolbox and its gate, as the owner, on behalf of the running loop; JSON in, JSON out.

    With a host running, an ``async def`` handler runs on the host's loop; without one, on the caller's.
    ``door`` is ``"python"``, ``"repl"`` or ``"cli"``. Raises ``PlugbayError`` with the failure's code.
    """

def refuse(name: str, door: str) -> None:
    """Record a call whose arguments cannot even be written as JSON; ``BusyError`` when there is no room."""

@final
class Relay:
    """Passes the messages of one MCP client on to the ``/mcp`` of a host."""

    def __new__(cls) -> Relay: ...
    def run(self, url: str, token: str | None, input: int, output: int) -> None:
        """Block, releasing the GIL, until the input ends or ``stop`` is called. Takes the two descriptors over.

        Raises ``PlugbayError`` (``upstream``) when the host at ``url`` takes no more, ``UnauthenticatedError`` when
        it takes the token no more.
        """

    def stop(self) -> None:
        """End ``run``, from any thread."""

@final
class Errands:
    """Where one function of a plugin is sent to run on the host's worker threads, while a coroutine waits."""

    def __new__(cls, plugin: str) -> Errands: ...
    @property
    def are_slow(self) -> bool:
        """Whether the function ran for so long the last time that it had better have a thread of its own."""

    def lasted(self, seconds: float) -> None:
        """Tell how long it ran elsewhere."""

    def send(
        self, within: Callable[[Callable[[], Any]], Any], function: Callable[[], Any], given_back: object
    ) -> tuple[asyncio.Future[Any], Ticket]:
        """Have ``within(function)`` called in a copy of the context of this; on the host's loop alone.

        The future gets the outcome, or ``given_back`` when there is no thread for it.
        """

@final
class Ticket:
    """An errand that is under way."""

    def abandon(self) -> None:
        """Tell that nobody waits for its outcome any more: it does not begin, or its thread counts as stuck."""

@final
class Host:
    """A running host: the settings, the socket, the runtime. One at a time in a process."""

    def __new__(cls, flags: str, http: bool = True) -> Host:
        """Read the settings (``flags`` is a JSON object of those given on the command line; the file, the environment
        and defaults fill the rest), take the lock on the home folder, set up logging and bind the port, unless ``http``
        is off.

        Raises ``InvalidError`` (a bad setting), ``ConflictError`` (another host runs in this process, holds this home
        folder or the port).
        """

    @property
    def url(self) -> str:
        """``http://127.0.0.1:8000``, without a trailing slash."""

    @property
    def port(self) -> int: ...
    @property
    def settings(self) -> str:
        """The settings in force, as JSON: ``home``, ``plugins_dirs`` (a list), ``hook_time_s``, ``ready_json``, …"""

    @property
    def token(self) -> str:
        """The owner's token."""

    def sign_in_link(self) -> str:
        """A link that signs a browser in, once, within ten minutes."""

    def attach(self, event_loop: asyncio.AbstractEventLoop) -> None:
        """Run ``async def`` handlers on this loop. Called on the loop's thread before it runs."""

    def start(self) -> None:
        """Start the runtime and the signal handling (``handle_signals`` flag), and answer the host's own routes."""

    def open(self) -> None:
        """After the plugins are loaded: run the startup hooks, then serve plugins. Blocks, releasing the GIL; not to
        be called on the loop's thread. A plugin whose hook fails is withdrawn and recorded."""

    def stop(self) -> None:
        """Ask for the stop; returns at once. Any thread."""

    def wait(self) -> None:
        """Block, releasing the GIL, until the stop is asked for, requests are drained, shutdown hooks have run and
        the loop was told to stop (``loop.stop()``)."""

    def is_ending(self) -> bool:
        """Whether the host has told the loop to stop: before that, whatever stops it is a plugin."""

    def finish(self) -> int:
        """After the loop has ended: end the runtime, release the lock. Returns the exit code. Idempotent."""

    def busy_threads(self) -> int:
        """How many Python threads are inside a handler: with one of them stuck, the interpreter is never finalized."""

@final
class Principal:
    """Who is asking."""

    @property
    def name(self) -> str:
        """``"owner"``, or the name that its token was made with."""

    @property
    def scopes(self) -> list[str]:
        """What it may do, of ``call``, ``approve`` and ``admin``."""

@final
class Caller:
    """``scope["plugbay.caller"]`` of a request: who asks, as the host's gate found it."""

    @property
    def principal(self) -> Principal:
        """Who asks."""

    @property
    def request_id(self) -> str:
        """Stands on every log line of this request, and in the response."""

@final
class ToolContext:
    """What ``plugbay.ToolContext`` describes."""

    @property
    def principal(self) -> Principal: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def log(self) -> logging.Logger: ...
    def progress(self, fraction: float, message: str = "") -> Awaitable[None]: ...

@final
class Connection:
    """What ``plugbay.Connection`` describes."""

    @property
    def id(self) -> str: ...
    @property
    def principal(self) -> Principal: ...
    @property
    def state(self) -> dict[str, Any]: ...
    @property
    def closed(self) -> bool: ...
    def send_json(self, frame: Any) -> Awaitable[None]: ...
    def close(self, code: int = 1000, reason: str = "") -> Awaitable[None]: ...
    def on_close(self, callback: Callable[[], Any]) -> None: ...
    def subscribe(self, topic: str) -> Awaitable[None]: ...
    def unsubscribe(self, topic: str) -> Awaitable[None]: ...
