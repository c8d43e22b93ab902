"""The ASGI lifespan of a mounted app, driven by the host's startup and shutdown hooks.

An app that does not speak the protocol is fine: it raises before it has answered, and is left alone from then on.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from plugbay.errors import HandlerError

Message = dict[str, Any]
App = Callable[..., Awaitable[None]]


class Lifespan:
    """The lifespan of one app: one task from ``startup`` to ``shutdown``, since what it opens and closes needs one.

    ``state`` is the dict that the app fills at its startup; the core copies it into the ``state`` of each scope.
    ``loop`` is the loop that it was started on.
    """

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._app: App | None = app
        self._task: asyncio.Task[None] | None = None
        self._answered = False
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()

    async def startup(self) -> None:
        """Start the app. Raises ``HandlerError`` with the app's own words when it says that it cannot start."""
        if self._app is None:
            return
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(self._app), name="plugbay-lifespan")
        self._said.put_nowait("startup")
        message = await self._heard.get()
        if message["type"] == "lifespan.startup.failed":
            raise _failure("start", message)

    async def shutdown(self) -> None:
        """Stop the app, if it was started. Raises ``HandlerError`` when it failed since."""
        task, self._task, self._app = self._task, None, None
        if task is None:
            return
        self._said.put_nowait("shutdown")
        await asyncio.wait([task])
        while not self._heard.empty():
            message = self._heard.get_nowait()
            if message["type"] in ("lifespan.shutdown.failed", "raised"):
                raise _failure("stop", message)

    def abandon(self) -> None:
        """Cancel the app's task; for a plugin that was withdrawn before its shutdown. Callable from any thread."""
        task, self._task, self._app = self._task, None, None
        if task is not None:
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    async def _run(self, app: App) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            # Raising before any answer is how an app says that it does not speak the protocol.
            text = "".join(traceback.format_exception(error))
            self._heard.put_nowait({"type": "raised" if self._answered else "ended", "message": text})
        else:
            self._heard.put_nowait({"type": "ended"})

    async def _receive(self) -> Message:
        return {"type": f"lifespan.{await self._said.get()}"}

    async def _send(self, message: Message) -> None:
        self._answered = True
        self._heard.put_nowait(message)


def _failure(verb: str, message: Message) -> HandlerError:
    """The app's failure in one line; what it sent, for Starlette a whole traceback, is kept as a note."""
    text = str(message.get("message") or "it gave no reason").strip()
    error = HandlerError(f"the app failed to {verb}: {text.splitlines()[-1]}")
    error.add_note(text)
    return error
