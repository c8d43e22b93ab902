"""AnyIO's threads, on which FastAPI and Starlette run what may block: forty for each plugin, not forty for all of them.

Under an ASGI server one app has them to itself. Here plugins share a loop, and one whose routes block must not hold up
the routes of another.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

App = Callable[..., Awaitable[None]]

THREADS = 40
"""How many threads a plugin has for what blocks: as many as AnyIO gives an app of its own."""

_plugin: ContextVar[str] = ContextVar("plugbay_plugin", default="")

_BACKEND = "anyio._backends._asyncio"

_divided: asyncio.AbstractEventLoop | None = None
"""The loop whose threads were given to the plugins."""

_limiters: _EachItsOwn | None = None
"""The limiters of the plugins on that loop."""


name_plugin = _plugin.set
"""Count the blocking work of a context as the work of a plugin, by its id; for a thread where no loop runs."""


def work_for(plugin: str) -> None:
    """Count the blocking work of the running task as the work of a plugin, by its id.

    Each plugin gets threads of its own on the running loop as soon as AnyIO's part for asyncio is there. It is slow to
    import, and AnyIO does that when it is first asked for a thread: a host that starts does without.
    """
    _plugin.set(plugin)
    if _divided is not asyncio.get_running_loop() and _BACKEND in sys.modules:
        _divide()


class OfPlugin:
    """An app whose blocking work is counted as a plugin's; in all else it is the app."""

    def __init__(self, app: App, plugin: str) -> None:
        self._app = app
        self._name = plugin

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        work_for(self._name)
        await self._app(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _divide() -> None:
    """Give each plugin threads of its own on the running loop; nothing changes where AnyIO is not as expected."""
    global _divided, _limiters
    # Another thread may be importing it.
    limiter = getattr(sys.modules[_BACKEND], "_default_thread_limiter", None)
    if limiter is not None:
        _limiters = _EachItsOwn()
        limiter.set(_limiters)
        _divided = asyncio.get_running_loop()


def threads() -> Any:
    """The limiter of the plugin that the running task works for; ``None`` where AnyIO is not as expected."""
    if _divided is not asyncio.get_running_loop():
        importlib.import_module(_BACKEND)
        _divide()
    return None if _limiters is None else _limiters.own()


class _EachItsOwn:
    """AnyIO's default limiter: whoever asks is asked of the limiter of the plugin that it works for."""

    def __init__(self) -> None:
        self._limiters: dict[str, Any] = {}

    def own(self) -> Any:
        """The plugin's own."""
        plugin = _plugin.get()
        limiter = self._limiters.get(plugin)
        if limiter is None:
            from anyio import CapacityLimiter

            limiter = self._limiters[plugin] = CapacityLimiter(THREADS)
        return limiter

    async def __aenter__(self) -> None:
        await self.own().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.own().__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own(), name)

    @property
    def total_tokens(self) -> float:
        """How many threads the plugin has; it may set another number, as with AnyIO's own."""
        tokens: float = self.own().total_tokens
        return tokens

    @total_tokens.setter
    def total_tokens(self, tokens: float) -> None:
        self.own().total_tokens = tokens
