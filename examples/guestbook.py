"""An application that was there before Plugbay: plain Starlette with a lifespan, mounted unchanged at /api/guestbook.

The application knows nothing of Plugbay; the class at the end is all that it takes.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


class State(TypedDict):
    """What the application has while it runs."""

    entries: list[str]


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    """Open the book, and close it at the end."""
    entries = ["the book is open"]
    yield {"entries": entries}
    entries.clear()


async def read(request: Request) -> JSONResponse:
    """The entries, and the way back to them."""
    return JSONResponse({"entries": request.state.entries, "self": str(request.url_for("read"))})


async def write(request: Request) -> PlainTextResponse:
    """Add the body as an entry."""
    request.state.entries.append((await request.body()).decode())
    return PlainTextResponse("thank you", status_code=201)


async def echo(socket: WebSocket) -> None:
    """Say back what is said."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", read, name="read"),
        Route("/", write, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ],
)

# What makes a plugin of it:

from plugbay import BackendPlugin, PluginHost, PluginManifest  # noqa: E402


class Guestbook(BackendPlugin):
    manifest = PluginManifest(id="guestbook", name="Guestbook", version="1.0.0", description="A Starlette application.")

    def setup(self, host: PluginHost) -> None:
        host.add_router(app, prefix="guestbook")


PLUGIN = Guestbook
