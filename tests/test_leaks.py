"""Nothing of a plugin outlives it, and nothing grows with the number of requests."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from kit import PATIENCE_S, Wire, wire
from served import Served, write_plugin

from plugbay import _core, loader, registry
from plugbay.testing import RunningHost, running_host

EVERYTHING = '''
import contextlib

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from plugbay import AgentTool, BackendPlugin, PluginManifest, ToolContext

SEEN = {}


class Item(BaseModel):
    name: str


class Facade:
    def hello(self):
        return "hello"


def lifespan_of(app):
    return contextlib.nullcontext()


router = APIRouter()
app = FastAPI(lifespan=lifespan_of)


@router.get("/async")
async def asynchronous(q: str = "-") -> dict[str, str]:
    return {"q": q}


@router.post("/def")
def synchronous(item: Item) -> Item:
    return item


def depended():
    return "found"


@router.get("/depends")
async def depends(found: str = Depends(depended)):
    return found


@router.get("/raises")
async def raises():
    local = SEEN
    raise RuntimeError(f"with {len(local)} in a frame")


@router.get("/stream")
async def stream():
    async def pieces():
        for _ in range(3):
            yield b"piece"
    return StreamingResponse(pieces())


@router.websocket("/socket")
async def socket(socket: WebSocket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())


@app.get("/")
def index():
    return "index"


async def tool(args, ctx):
    await ctx.progress(0.5)
    return args


def plain_tool(args):
    return args


def typed(item: Item, ctx: ToolContext) -> Item:
    """Typed."""
    return item


async def channel(conn, message):
    conn.state["mine"] = conn
    conn.on_close(lambda: SEEN.setdefault("closed", conn))
    await conn.subscribe("room/1")
    return message.get("data")


def facade():
    return Facade()


def resource():
    return "text"


def prompt(name: str):
    return name


async def started():
    SEEN["started"] = True


def stopped():
    SEEN["stopped"] = True


class Plugin(BackendPlugin):
    manifest = PluginManifest(id="everything", name="Everything")

    def setup(self, host):
        self.host = host  # a circle, as authors make them
        host.add_router(router)
        host.add_router(app, prefix="everything-app")
        host.add_agent_tool(AgentTool("tool", "A tool.", tool))
        host.add_agent_tool(AgentTool("plain", "A tool.", plain_tool))
        host.add_agent_tool(typed)
        host.add_ws_channel("room", channel)
        host.add_dash_facade("thing", facade)
        host.add_resource("text://one", resource, name="one")
        host.add_prompt(prompt)
        host.on_startup(started)
        host.on_shutdown(stopped)


PLUGIN = Plugin()
'''

KINDS = [
    "PLUGIN", "Plugin", "Item", "Facade", "router", "app", "asynchronous", "synchronous", "depended", "raises",
    "stream", "socket", "index", "tool", "plain_tool", "typed", "channel", "facade", "resource", "prompt",
    "started", "stopped", "lifespan_of",
]  # fmt: skip
"""One of each kind of contribution, and what belongs to it."""


def use(host: RunningHost) -> None:
    """Use everything that the plugin offers."""
    at, http = "/api/plugins/everything", host.http
    assert http.get(f"{at}/async?q=1").json() == {"q": "1"}
    assert http.post(f"{at}/def", json={"name": "n"}).json() == {"name": "n"}
    assert http.post(f"{at}/def", json={}).status_code == 422
    assert http.get(f"{at}/depends").json() == "found"
    assert http.get(f"{at}/raises").status_code == 500
    assert http.get(f"{at}/stream").content == b"piece" * 3
    assert http.get(f"{at}/nowhere").status_code == 404
    assert http.get("/api/everything-app/").json() == "index"
    for name in ("tool", "plain"):
        assert http.post(f"/api/host/tools/{name}", json={"a": 1}).json() == {"result": {"a": 1}}
    assert http.post("/api/host/tools/typed", json={"item": {"name": "n"}}).json() == {"result": {"name": "n"}}
    assert http.get("/openapi.json").status_code == 200
    assert host.dash.thing.hello() == "hello"
    with host.websocket(f"{at}/socket") as socket:
        socket.send("echo")
        assert socket.recv(PATIENCE_S) == "echo"
    with host.websocket() as socket:
        assert json.loads(socket.recv(PATIENCE_S))["event"] == "hello"
        socket.send('{"channel":"room","ref":1,"data":7}')
        assert json.loads(socket.recv(PATIENCE_S))["data"] == 7
    with wire(host) as client:
        client.ask("POST", f"{at}/def", "content-length: 1000")


def module_of(file: Path) -> types.ModuleType:
    return next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(file))


def alive(references: dict[str, weakref.ref[Any]]) -> list[str]:
    return [name for name, reference in references.items() if reference() is not None]


def collected(references: dict[str, weakref.ref[Any]]) -> list[str]:
    """What is still alive once the loop and the workers have come to rest."""
    for _ in range(200):
        gc.collect()
        if not alive(references):
            break
    return alive(references)


def withdraw() -> None:
    assert _core.withdraw("everything")
    loader.let_go()


@pytest.mark.parametrize("end", [withdraw, registry.reset], ids=["withdraw", "reset"])
def test_everything_of_a_plugin_dies_when_it_is_taken_out_of_a_host_that_runs(
    tmp_path: Path, end: Callable[[], None]
) -> None:
    file = tmp_path / "everything.py"
    file.write_text(EVERYTHING)
    with running_host(file, log_level="off") as host:
        assert host.registry.errors == []
        use(host)
        module = module_of(file)
        references = {name: weakref.ref(getattr(module, name)) for name in KINDS}
        del module
        end()
        # What follows takes the places where the last answer of each kind might still stand.
        assert host.http.get("/healthz").status_code == 200
        assert host.http.get("/api/plugins/everything/async").status_code == 404
        assert "thing" not in dir(host.dash)
        assert collected(references) == []


def test_everything_of_a_plugin_dies_with_its_host(tmp_path: Path) -> None:
    file = tmp_path / "everything.py"
    file.write_text(EVERYTHING)
    with running_host(file, log_level="off") as host:
        use(host)
        module = module_of(file)
        references = {name: weakref.ref(getattr(module, name)) for name in KINDS}
        del module
    del host
    assert collected(references) == []


LIGHT = """
from fastapi import APIRouter

router = APIRouter()


@router.post("/async")
async def asynchronous(body: dict) -> dict:
    return body


@router.get("/def")
def synchronous():
    return "def"


@router.get("/raises")
async def raises():
    raise RuntimeError


def setup(host):
    host.add_router(router)
    host.add_agent_tool(AgentTool("echo", "Echoes.", lambda args: args))
"""


def test_memory_threads_and_descriptors_are_flat_over_many_requests(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "light", LIGHT)
    flags = ("--access-log", "off", "--log-level", "off", "--workers", "1")
    with Served(home, *flags, plugins=tmp_path / "plugins").ready() as served, served.client() as client:
        process = psutil.Process(served.process.pid)
        bearer = f"host: 127.0.0.1:{served.port}\r\nauthorization: Bearer {served.token}\r\n"
        body = json.dumps({"text": "x" * 1000})
        requests = [
            f"POST /api/plugins/light/async HTTP/1.1\r\n{bearer}content-length: {len(body)}\r\n"
            f"content-type: application/json\r\n\r\n{body}",
            f"GET /api/plugins/light/def HTTP/1.1\r\n{bearer}\r\n",
            f"POST /api/host/tools/echo HTTP/1.1\r\n{bearer}content-length: {len(body)}\r\n\r\n{body}",
        ]
        failing = f"GET /api/plugins/light/raises HTTP/1.1\r\n{bearer}\r\n"

        def ask(rounds: int) -> None:
            for _ in range(rounds):
                with Wire(served.url, served.token) as connection:
                    connection.send("".join([*requests * 50, failing]).encode())
                    assert [connection.answer()[0] for _ in range(151)] == [200] * 150 + [500]

        ask(30)
        # An allocator may take a step once; one leaked kilobyte a request would be 20 MB each time.
        for _ in range(3):
            before = process.memory_info().rss, process.num_threads(), process.num_fds()
            ask(140)
            after = process.memory_info().rss, process.num_threads(), process.num_fds()
            if after[0] - before[0] < 4 << 20:
                break
        assert after[0] - before[0] < 4 << 20
        assert after[1] <= before[1] + 4
        assert after[2] <= before[2] + 2
        assert client.get("/healthz").status_code == 200
        assert served.stop() == 0


def core_threads() -> set[int]:
    """Those of this process that start the processes of hosts."""
    found = set()
    for thread in psutil.Process().threads():
        # One may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/self/task/{thread.id}/comm").read_text() == "plugbay-spawn\n":
                found.add(thread.id)
    return found


def test_a_host_that_has_ended_keeps_no_thread_that_starts_processes() -> None:
    before = core_threads()
    with running_host():
        begun = core_threads() - before
        assert len(begun) == 1
    until = time.monotonic() + PATIENCE_S
    while (left := begun & core_threads()) and time.monotonic() < until:
        pass
    assert left == set()
