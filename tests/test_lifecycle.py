"""The life of a host as a process: how it starts, how it ends, and that no plugin can keep it from ending."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from kit import PATIENCE_S, Wire
from served import Served, write_plugin
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ORDERLY = """
import asyncio, os, pathlib
from fastapi import APIRouter

router = APIRouter()
begun, go = os.open(os.environ["BEGUN"], os.O_RDWR), os.open(os.environ["GO"], os.O_RDWR)
diary = pathlib.Path(os.environ["DIARY"])


def note(word):
    with diary.open("a") as file:
        file.write(word + " ")


@router.get("/slow")
def slow():
    os.write(begun, b"1")
    os.read(go, 1)
    note("answered")
    return "finished"


@router.get("/quick")
async def quick():
    return "quick"


def setup(host):
    host.add_router(router)
    for number in (1, 2):
        host.on_startup(lambda number=number: note(f"up{number}"))
    host.on_shutdown(lambda: note("down1"))

    @host.on_shutdown
    async def down2():
        await asyncio.sleep(0)
        note("down2")
"""

STUCK = """
import ctypes, os, time

libc = ctypes.PyDLL(None)  # its calls keep the interpreter
said = os.open(os.environ["SAID"], os.O_RDWR)


async def asleep(args):
    os.write(said, b"1")
    time.sleep(3600)


def asleep_in_a_thread(args):
    os.write(said, b"1")
    time.sleep(3600)


def holds(args):
    libc.write(said, b"1", 1)
    libc.sleep(3600)


def setup(host):
    for handler in (asleep, asleep_in_a_thread, holds):
        host.add_agent_tool(AgentTool(handler.__name__, "Never ends.", handler))
"""

NEVER_SET_UP = """
import threading


def setup(host):
    threading.Event().wait(3600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


@pytest.fixture
def pipes(tmp_path: Path) -> dict[str, str]:
    for name in ("BEGUN", "GO", "SAID"):
        os.mkfifo(tmp_path / name)
    names = {name: str(tmp_path / name) for name in ("BEGUN", "GO", "SAID")}
    return {**names, "DIARY": str(tmp_path / "diary")}


def take(path: str) -> None:
    """Wait for a byte in a named pipe."""
    with Path(path).open("rb", buffering=0) as pipe:
        assert pipe.read(1)


def put(path: str) -> None:
    with Path(path).open("wb", buffering=0) as pipe:
        pipe.write(b"1")


def test_ready_json_is_the_one_line_on_standard_output(home: Path, folder: Path) -> None:
    write_plugin(folder, "loud", "print('I am imported')\n\n\ndef setup(host):\n    print('I am set up')\n")
    with Served(home, plugins=folder) as served:
        assert served.process.stdout is not None
        line = served.process.stdout.readline()
        port = json.loads(line)["port"]
        assert line == json.dumps({"ready": True, "port": port}) + "\n"
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        running = json.loads((home / "host.json").read_text())
        assert (running["pid"], running["url"]) == (served.process.pid, f"http://127.0.0.1:{port}")
        assert served.stop() == 0
        assert served.process.stdout.read() == ""
        assert "I am imported" in served.log and "I am set up" in served.log
        assert not (home / "host.json").exists()


def test_sigterm_drains_then_closes_sockets_then_runs_the_hooks_in_reverse(
    home: Path, folder: Path, pipes: dict[str, str]
) -> None:
    write_plugin(folder, "orderly", ORDERLY)
    with Served(home, plugins=folder, **pipes).ready() as served, ThreadPoolExecutor() as threads:
        headers = {"Authorization": f"Bearer {served.token}"}
        with (
            served.client() as client,
            connect(f"ws://127.0.0.1:{served.port}/ws", additional_headers=headers, proxy=None) as socket,
        ):
            assert json.loads(socket.recv())["event"] == "hello"
            slow = threads.submit(client.get, "/api/plugins/orderly/slow")
            take(pipes["BEGUN"])
            served.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE_S)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
            with pytest.raises(httpx.ConnectError):
                httpx.get(served.url)
            assert not slow.done()
            put(pipes["GO"])
            assert slow.result(PATIENCE_S).json() == "finished"
        assert served.ended() == 0
    assert Path(pipes["DIARY"]).read_text() == "up1 up2 answered down2 down1 "
    assert not (home / "host.json").exists()


def stuck(home: Path, folder: Path, pipes: dict[str, str], drain_time_s: float) -> Served:
    """A host with a plugin that can sleep on the loop and hold the interpreter, and one that is stuck in its setup."""
    write_plugin(folder, "stuck", STUCK)
    write_plugin(folder, "unready", NEVER_SET_UP)
    limits = {"PLUGBAY_LIMITS_DRAIN_TIME_S": str(drain_time_s), "PLUGBAY_LIMITS_HOOK_TIME_S": "1"}
    return Served(home, plugins=folder, **pipes, **limits).ready()


def get_stuck(served: Served, pipes: dict[str, str]) -> list[Wire]:
    clients = [Wire(served.url, served.token) for _ in range(3)]
    for client, tool in zip(clients, ("asleep_in_a_thread", "asleep", "holds"), strict=True):
        client.ask("POST", f"/api/host/tools/{tool}", "content-length: 0")
        take(pipes["SAID"])
    return clients


def test_sigterm_ends_a_host_whose_plugins_are_all_stuck_and_leaves_no_child(
    home: Path, folder: Path, pipes: dict[str, str]
) -> None:
    with stuck(home, folder, pipes, drain_time_s=1.0) as served:
        clients = get_stuck(served, pipes)
        children = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGTERM)
        # The drain time, the grace after it, and patience for a busy machine; nothing here lasts an hour.
        served.process.wait(10.0)
        served.ended()
        assert "the stop took too long" in served.log
        assert not any(child.is_running() for child in children)
        assert not (home / "host.json").exists()
        for client in clients:
            client.socket.close()


def test_a_second_signal_ends_it_at_once(home: Path, folder: Path, pipes: dict[str, str]) -> None:
    with stuck(home, folder, pipes, drain_time_s=3600.0) as served:
        clients = get_stuck(served, pipes)
        served.process.send_signal(signal.SIGINT)
        served.logged("a second signal ends at once")
        served.process.send_signal(signal.SIGTERM)
        assert served.ended() == 128 + 15
        assert "ended by a second signal" in served.log
        assert not (home / "host.json").exists()
        for client in clients:
            client.socket.close()


def test_a_signal_while_a_plugin_is_being_loaded_ends_it(home: Path, folder: Path, pipes: dict[str, str]) -> None:
    text = "import os, threading\n\n\ndef setup(host):\n"
    text += "    os.write(os.open(os.environ['SAID'], os.O_RDWR), b'1')\n    threading.Event().wait(3600)\n"
    write_plugin(folder, "slow", text)
    with Served(home, plugins=folder, PLUGBAY_LIMITS_DRAIN_TIME_S="1", **pipes) as served:
        take(pipes["SAID"])
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(10.0)
        assert not (home / "host.json").exists()


def test_a_stream_that_never_ends_does_not_take_the_time_of_the_shutdown_hooks(
    home: Path, folder: Path, pipes: dict[str, str]
) -> None:
    text = ORDERLY.replace(
        "def setup(host):",
        """from fastapi.responses import StreamingResponse


@router.get("/events")
async def events():
    async def ticks():
        yield "data: 1\\n\\n"
        await asyncio.Event().wait()
    return StreamingResponse(ticks(), media_type="text/event-stream")


def setup(host):""",
        1,
    )
    write_plugin(folder, "orderly", text)
    served = Served(home, plugins=folder, PLUGBAY_LIMITS_DRAIN_TIME_S="2", **pipes).ready()
    with served, Wire(served.url, served.token) as client:
        client.ask("GET", "/api/plugins/orderly/events").head()
        assert client.next_chunk() == b"data: 1\n\n"
        assert served.stop() == 0
    assert Path(pipes["DIARY"]).read_text() == "up1 up2 down2 down1 "


def test_a_second_host_on_the_same_home_is_told_of_the_first_and_ends_with_3(home: Path) -> None:
    with Served(home).ready() as first:
        with Served(home) as second:
            assert second.ended() == 3
            assert str(first.process.pid) in second.log and first.url in second.log
        with first.client() as client:
            assert client.get("/healthz").status_code == 200
        assert first.stop() == 0
    with Served(home).ready() as again:
        assert again.stop() == 0


def test_a_host_that_was_killed_does_not_bar_the_next(home: Path) -> None:
    with Served(home).ready() as first:
        first.process.kill()
        first.ended()
    with Served(home).ready() as second:
        assert second.stop() == 0


THIRTY = """
import sys
from fastapi import APIRouter
from plugbay import AgentTool, BackendPlugin, PluginManifest
from plugbay.testing import running_host

router = APIRouter()
router.add_api_route("/def", lambda: "def")


@router.get("/async")
async def asynchronous():
    return "async"


class Plugin(BackendPlugin):
    manifest = PluginManifest(id="demo", name="Demo")

    def setup(self, host):
        host.add_router(router)
        host.add_agent_tool(AgentTool("echo", "Echoes.", lambda args: args))


for _ in range(30):
    with running_host(Plugin, home=sys.argv[1], log_level="error") as host:
        assert host.http.get("/api/plugins/demo/def").json() == "def"
        assert host.http.get("/api/plugins/demo/async").json() == "async"
        assert host.http.post("/api/host/tools/echo", json={}).json() == {"result": {}}
        with host.websocket() as socket:
            socket.recv()
"""


def test_a_host_starts_and_stops_thirty_times_in_one_process_without_a_word(home: Path) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", THIRTY, str(home)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_no_request_is_lost_when_the_stop_comes_under_load(home: Path, folder: Path, pipes: dict[str, str]) -> None:
    write_plugin(folder, "orderly", ORDERLY)
    with Served(home, "--access-log", "off", plugins=folder, **pipes).ready() as served:
        answered, lost = asyncio.run(load(served))
        assert served.ended() == 0
    assert lost == []
    assert answered >= 500


async def load(served: Served) -> tuple[int, list[str]]:
    """Ask on many connections, stop the host in the midst; the number of answers, and what was lost.

    A request is lost when its connection was taken and it got no whole answer, but for one that the host closed while
    it was idle: HTTP cannot tell that apart, and clients repeat it.
    """
    answered, lost = 0, []
    head = f"GET /api/plugins/orderly/quick HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n"
    request = f"{head}authorization: Bearer {served.token}\r\n\r\n".encode()

    async def client() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        while True:
            try:
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                if getattr(error, "partial", b""):
                    lost.append(repr(error))
                break
            body = await reader.readexactly(len(b'"quick"'))
            if not answer.startswith(b"HTTP/1.1 200") or body != b'"quick"':
                lost.append(repr(answer + body))
            answered += 1
            if answered == 500:
                served.process.send_signal(signal.SIGTERM)
            if b"connection: close" in answer.lower():
                break
        writer.close()

    await asyncio.gather(*(client() for _ in range(20)))
    return answered, lost
