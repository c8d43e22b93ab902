"""The smallest handlers: ASGI for every server that speaks it, RSGI for granian."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b'{"id":7,"name":"lamp","price":12.5,"tags":["home","light"]}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}
END = {"type": "http.response.body", "body": BODY}


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answers every HTTP request with the same JSON."""
    if scope["type"] == "lifespan":
        while True:
            moment = await receive()
            await send({"type": f"{moment['type']}.complete"})
            if moment["type"] == "lifespan.shutdown":
                return
    await send(START)
    await send(END)


async def rsgi(_scope: Any, protocol: Any) -> None:
    """The same over granian's own interface."""
    protocol.response_str(200, [("content-type", "application/json")], BODY.decode())
