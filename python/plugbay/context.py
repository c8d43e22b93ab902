"""What a handler is given beside its arguments: who asks, the call it runs in, the connection that it talks on.

The objects themselves are the core's; these are their faces, for annotations and for readers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol


class Principal(Protocol):
    """Who is asking."""

    @property
    def name(self) -> str:
        """``"owner"``, or the name that its token was made with."""

    @property
    def scopes(self) -> Sequence[str]:
        """What it may do, of ``call``, ``approve`` and ``admin``."""


class ToolContext(Protocol):
    """What a tool's handler may know of its call, and say while it runs."""

    @property
    def principal(self) -> Principal:
        """Who asks."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. An ``async def`` handler is cancelled; a ``def`` looks here."""

    @property
    def log(self) -> logging.Logger:
        """The plugin's logger."""

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Say how far the call is, from 0 to 1. Awaited in ``async def``; in a plain ``def`` simply called."""


class Connection(Protocol):
    """One open ``/ws`` socket, as a channel's handler sees it."""

    @property
    def id(self) -> str:
        """Unique among all connections of this host."""

    @property
    def principal(self) -> Principal:
        """Who is at the other end."""

    @property
    def state(self) -> MutableMapping[str, Any]:
        """A dict of the plugin's own for this connection."""

    @property
    def closed(self) -> bool:
        """Whether it is gone: what is sent then reaches nobody."""

    def send_json(self, frame: Mapping[str, Any]) -> Awaitable[None]:
        """Send any frame. A client that does not read is closed with 1013 when its outbox is full.

        Raises ``InvalidError`` when ``frame`` is not a JSON object.
        """

    def close(self, code: int = 1000, reason: str = "") -> Awaitable[None]:
        """Close the connection after what waits was sent."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()``, plain or async, once this connection is gone."""

    def subscribe(self, topic: str) -> Awaitable[None]:
        """Receive what is published to a topic of this plugin's channels."""

    def unsubscribe(self, topic: str) -> Awaitable[None]:
        """No longer receive what is published to a topic."""
