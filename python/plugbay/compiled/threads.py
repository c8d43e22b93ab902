"""Threads for what may block: the host's workers as AnyIO sees them, and how a coroutine waits for a function there.

FastAPI's threads are AnyIO's, and what runs there may ask the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from anyio._core import _eventloop
from anyio.lowlevel import EventLoopToken
from anyio.to_thread import run_sync

from plugbay import _core
from plugbay._plugin_threads import threads

KNOWN: Any = _eventloop.threadlocals
"""What AnyIO keeps for each thread; it has ``current_token`` on those that may ask the loop."""

_GIVEN_BACK = object()
"""What a function that was not run has returned."""


def claim(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``anyio.from_thread`` on the thread that calls this find ``loop``; for as long as the thread lives."""
    KNOWN.current_token = EventLoopToken(_eventloop.get_async_backend("asyncio"), loop)
    # Who leaves does not interrupt what runs here.
    KNOWN.current_cancel_scope = None


class Blocking:
    """Runs one function of a plugin that may block, off the loop, for the coroutines of compiled routes.

    What was quick the last time runs on the host's worker threads, which share their wake-ups; what was slow, or
    finds no thread there, on AnyIO's, where FastAPI runs it.
    """

    def __init__(self, plugin: str, claim: Callable[[], None]) -> None:
        self._errands = _core.Errands(plugin)
        self._claim = claim

    async def __call__(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, or raises; it runs in a copy of the context of this."""
        errands = self._errands
        if not errands.are_slow:
            future, ticket = errands.send(self._run, call, _GIVEN_BACK)
            try:
                result = await future
            except asyncio.CancelledError:
                ticket.abandon()
                raise
            if result is not _GIVEN_BACK:
                return result
        # What Starlette's run_in_threadpool does, and the limiter need not be looked for.
        return await run_sync(self._timed, call, limiter=threads())

    def _run(self, call: Callable[[], Any]) -> Any:
        if not hasattr(KNOWN, "current_token"):
            self._claim()
        return call()

    def _timed(self, call: Callable[[], Any]) -> Any:
        began = perf_counter()
        try:
            return call()
        finally:
            self._errands.lasted(perf_counter() - began)
