"""A WebSocket echo as ASGI, for uvicorn: `/` echoes the text, `/json` reads and writes the JSON, as a channel does."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from apps import bare


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answers each text frame with itself; on `/json` with a reply that holds its data."""
    if scope["type"] != "websocket":
        await bare.app(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message["text"]
        if scope["path"] == "/json":
            frame = json.loads(text)
            text = json.dumps({**frame, "event": "reply"}, separators=(",", ":"))
        await send({"type": "websocket.send", "text": text})
