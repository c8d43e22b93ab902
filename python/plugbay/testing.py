"""A whole host inside a test: real sockets, a home folder of its own, the plugins that the test chooses.

::

    @pytest.fixture
    def host():
        with running_host("plugins/ping.py") as host:
            yield host


    def test_ping_answers(host):
        assert host.http.get("/api/plugins/ping").json() == {"pong": True}
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from plugbay import discovery
from plugbay._registry import Registry, registry
from plugbay._runner import BackgroundHost, HostSettings
from plugbay.host import BackendPlugin
from plugbay.loader import Given
from plugbay.repl import Dash, dash_of_host

if TYPE_CHECKING:
    import httpx
    from websockets.sync.client import ClientConnection

PluginSource = str | Path | ModuleType | BackendPlugin | type[BackendPlugin]


class RunningHost:
    """A host that serves, and clients for it."""

    def __init__(self, host: BackgroundHost) -> None:
        self._host = host
        self._closing = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a trailing slash."""
        return self._host.core.url

    @property
    def token(self) -> str:
        """The owner's token."""
        return self._host.core.token

    @property
    def home(self) -> Path:
        """Its home folder."""
        return self._host.settings.home

    @property
    def registry(self) -> Registry:
        """What plugins there are, and what went wrong."""
        return registry

    @cached_property
    def http(self) -> httpx.Client:
        """A client that asks this host as its owner; close to no time-out, since the host has its own."""
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"}
        return self._closing.enter_context(httpx.Client(base_url=self.url, headers=headers, timeout=60.0))

    @cached_property
    def dash(self) -> Dash:
        """What ``dash`` is in the REPL."""
        return dash_of_host(self._host)

    def websocket(self, path: str = "/ws", **options: Any) -> ClientConnection:
        """Open a WebSocket as the owner: a connection of ``websockets.sync``, to be used in ``with``.

        ``options`` are those of ``websockets.sync.client.connect``. Needs the package ``websockets``.
        """
        from websockets.sync.client import connect

        headers = {"Authorization": f"Bearer {self.token}", **options.pop("additional_headers", {})}
        url = f"ws{self.url.removeprefix('http')}{path}"
        connection: ClientConnection = connect(url, additional_headers=headers, proxy=None, **options)
        return connection

    def _close(self) -> None:
        self._closing.close()
        self._host.stop()


@contextlib.contextmanager
def running_host(
    *plugins: PluginSource,
    plugins_dirs: Iterable[str | Path] = (),
    home: str | Path | None = None,
    **settings: Any,
) -> Iterator[RunningHost]:
    """Run a host on a free port of 127.0.0.1 for as long as the ``with`` block lasts.

    ``plugins`` are loaded in their order: paths of a module, a package or a folder of plugins; modules; instances or
    subclasses of ``BackendPlugin``. ``plugins_dirs`` are folders that are looked at as ``serve`` does. Nothing else is
    loaded. ``home`` is a fresh folder unless it is given. ``settings`` are those of ``serve``, such as
    ``mode="autonomous"`` or ``limits={"call_time_s": 1}``.

    What goes wrong with a plugin is in ``host.registry.errors``. Raises ``ConflictError`` when a host runs in this
    process already, ``InvalidError`` for a bad setting.
    """

    def sources(in_force: HostSettings) -> Iterator[discovery.Found | Given]:
        seen: Counter[str] = Counter()
        for plugin in plugins:
            for found in _source(plugin):
                # Several instances of one class are several plugins.
                seen[found.source] += 1
                count = seen[found.source]
                yield dataclasses.replace(found, source=f"{found.source} ({count})") if count > 1 else found
        for folder in plugins_dirs:
            yield from discovery.in_folder(Path(folder).absolute())

    with contextlib.ExitStack() as stack:
        if home is None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="plugbay-"))
        flags = {"port": 0, "access_log": False, "log_level": "warn", "home": str(home), **settings}
        host = BackgroundHost(flags, sources)
        running = RunningHost(host)
        stack.callback(running._close)
        host.start()
        yield running


def _source(plugin: PluginSource) -> Iterator[discovery.Found | Given]:
    if isinstance(plugin, str | Path):
        yield from discovery.at(Path(plugin))
    elif isinstance(plugin, ModuleType):
        yield Given(getattr(plugin, "__file__", None) or plugin.__name__, plugin)
    else:
        kind = plugin if isinstance(plugin, type) else type(plugin)
        yield Given(f"{kind.__module__}.{kind.__qualname__}", plugin)
