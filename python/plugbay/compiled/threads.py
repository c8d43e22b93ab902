"""The host's worker threads as AnyIO sees them: FastAPI's threads are AnyIO's, and what runs there may ask the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio._core import _eventloop

try:
    from anyio.lowlevel import EventLoopToken
except ImportError:  # older than 4.11, where a thread is known in another way
    EventLoopToken = None  # type: ignore[assignment, misc]

KNOWN: Any = _eventloop.threadlocals
"""What AnyIO keeps for each thread; it has ``current_token`` on those that may ask the loop."""


def claim(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``anyio.from_thread`` on the thread that calls this find ``loop``; for as long as the thread lives."""
    if EventLoopToken is not None:
        KNOWN.current_token = EventLoopToken(_eventloop.get_async_backend("asyncio"), loop)
