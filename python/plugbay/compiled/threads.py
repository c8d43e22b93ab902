"""The host's worker threads as AnyIO sees them: FastAPI's threads are AnyIO's, and what runs there may ask the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio._core import _eventloop

try:
    from anyio.lowlevel import EventLoopToken
except ImportError:  # older than 4.11, where a thread is known in another way
    EventLoopToken = None  # type: ignore[assignment, misc]

_known: Any = _eventloop.threadlocals
"""What AnyIO keeps for each thread."""


def claim(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``anyio.from_thread`` on the thread that calls this find ``loop``; for as long as the thread lives."""
    if not hasattr(_known, "current_token") and EventLoopToken is not None:
        _known.current_token = EventLoopToken(_eventloop.get_async_backend("asyncio"), loop)
