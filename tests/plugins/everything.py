"""One of each thing that can be reached from outside: routes, sockets, web files, tools, a channel."""

import asyncio
import threading
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from pydantic import BaseModel, Field

from plugbay import AgentTool, BackendPlugin, PluginManifest

calls = APIRouter(tags=["everything"])


class Note(BaseModel):
    """A note."""

    title: str = Field(max_length=80)
    mood: Literal["good", "bad"] = "good"


@calls.get("/plain")
async def plain() -> dict[str, bool]:
    """Says yes."""
    return {"plain": True}


@calls.get("/thread")
def thread() -> dict[str, bool]:
    """Says yes on another thread."""
    return {"thread": True}


@calls.get("/notes/{number}")
async def read_note(number: int, q: str = "") -> dict[str, object]:
    """A note."""
    return {"number": number, "q": q}


@calls.post("/notes", status_code=201)
async def add_note(note: Note) -> Note:
    """Keeps a note."""
    return note


@calls.delete("/notes/{number}", status_code=204)
async def remove_note(number: int) -> None:
    """Forgets a note."""


@calls.put("/files/{path:path}")
async def put_file(path: str, request: Request) -> dict[str, object]:
    """Counts bytes."""
    return {"path": path, "bytes": len(await request.body())}


@calls.get("/mirror")
async def mirror(request: Request) -> dict[str, object]:
    """What came in."""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]
    return {"headers": headers, "query": request.scope["query_string"].decode("latin-1")}


@calls.get("/split")
async def split(value: str) -> Response:
    """Puts what came in into a header."""
    return Response("split", headers={"x-echo": value})


@calls.get("/broken")
async def broken() -> None:
    """Fails."""
    raise RuntimeError("broken on purpose")


@calls.get("/logged")
async def logged(text: str, request: Request) -> dict[str, bool]:
    """Writes what came in to the log."""
    plugin.log.warning("heard %s", text)
    return {"logged": True}


@calls.websocket("/sock/{name}")
async def sock(socket: WebSocket, name: str) -> None:
    """Says what was said."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{name}: {text}")


mounted = FastAPI()


@mounted.get("/inner")
async def inner() -> dict[str, bool]:
    """Says yes from an app of its own."""
    return {"inner": True}


def echo(text: str) -> str:
    """Return the text."""
    return text


def write(path: str) -> str:
    """Change something."""
    return f"wrote {path}"


async def talk(conn, message):
    """Answer what was said; `hear` subscribes, `tell` publishes."""
    match message.get("event"):
        case "hear":
            await conn.subscribe("everything/talk")
        case "tell":
            plugin.publish("everything/talk", message["data"])
        case "wait":
            await asyncio.Event().wait()
        case "block":
            threading.Event().wait()
        case _:
            return message.get("data")
    return None


class Everything(BackendPlugin):
    manifest = PluginManifest("everything", "Everything", version="1.0.0")

    def setup(self, host):
        self.log, self.publish = host.log, host.publish
        host.add_router(calls)
        host.add_router(mounted, prefix="everything-app")
        host.add_assets(Path(__file__).parent / "everything-files")
        host.add_agent_tool(AgentTool.from_function(echo, name="everything.echo"))
        host.add_agent_tool(AgentTool.from_function(write, name="everything.write", side_effect=True))
        host.add_ws_channel("everything", talk)


PLUGIN = plugin = Everything()
