"""The bridge: nothing that Python does stops the core, and nothing that one handler does stops the others."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from kit import PATIENCE_S, Told, happened, made, mounted, wire
from served import Served, write_plugin
from websockets.sync.client import connect

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host

HOG = """
import ctypes, os

libc = ctypes.PyDLL(None)  # its calls keep the interpreter
byte = ctypes.create_string_buffer(1)
said, go = os.open(os.environ["SAID"], os.O_RDWR), os.open(os.environ["GO"], os.O_RDWR)


def setup(host):
    async def join(conn, message):
        await conn.subscribe("news")

    def hog(args):
        host.publish("news", "just before")
        libc.write(said, b"1", 1)
        libc.read(go, byte, 1)
        libc.write(said, b"2", 1)
        return "let go"

    host.add_ws_channel("news", join)
    host.add_agent_tool(AgentTool("hog", "Holds the interpreter.", hog))
"""

SLEEPER = """
import os, time
from fastapi import APIRouter

router = APIRouter()
asleep, wake = os.open(os.environ["ASLEEP"], os.O_RDWR), os.open(os.environ["WAKE"], os.O_RDWR)


@router.get("/sleep")
async def sleep():
    os.write(asleep, b"1")
    os.read(wake, 1)  # the line that blocks
    os.write(asleep, b"2")
    return "awake"


@router.get("/quick")
async def quick():
    return "quick"


def setup(host):
    host.add_router(router)
"""


class Pipe:
    """A named pipe, held open by both sides."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._end = os.open(path, os.O_RDWR)

    def put(self, byte: bytes) -> None:
        os.write(self._end, byte)

    def take(self) -> bytes:
        return os.read(self._end, 1)

    def is_empty(self) -> bool:
        os.set_blocking(self._end, False)
        try:
            os.read(self._end, 1)
        except BlockingIOError:
            return True
        finally:
            os.set_blocking(self._end, True)
        return False

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[dict[str, Pipe]]:
    made = {name: Pipe(tmp_path / name) for name in ("SAID", "GO", "ASLEEP", "WAKE")}
    yield made
    for pipe in made.values():
        pipe.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def call(client: httpx.Client, tool: str, **arguments: Any) -> httpx.Response:
    return client.post(f"/api/host/tools/{tool}", json=arguments)


def hogging(home: Path, folder: Path, pipes: dict[str, Pipe]) -> Served:
    """A host with a plugin that holds the interpreter and one that blocks the loop."""
    write_plugin(folder, "hog", HOG)
    write_plugin(folder, "sleeper", SLEEPER)
    return Served(home, plugins=folder, **{name: pipe.path for name, pipe in pipes.items()}).ready()


def test_the_core_serves_while_one_plugin_holds_the_interpreter_and_another_blocks_the_loop(
    home: Path, tmp_path: Path, pipes: dict[str, Pipe], threads: ThreadPoolExecutor
) -> None:
    with hogging(home, tmp_path / "plugins", pipes) as served, served.client() as client:
        headers = {"Authorization": f"Bearer {served.token}"}
        with connect(f"ws://127.0.0.1:{served.port}/ws", additional_headers=headers, proxy=None) as socket:
            assert json.loads(socket.recv())["event"] == "hello"
            socket.send('{"channel": "news", "ref": 1}')
            assert json.loads(socket.recv())["event"] == "reply"

            slept = threads.submit(client.get, "/api/plugins/sleeper/sleep")
            assert pipes["ASLEEP"].take() == b"1"
            hogged = threads.submit(call, client, "hog")
            assert pipes["SAID"].take() == b"1"

            for _ in range(100):
                assert client.get("/healthz").json() == {"status": "ok"}
            assert client.get("/").status_code == 200
            assert client.get("/api/host/plugins").status_code == 200
            assert b"plugbay_" in client.get("/metrics").content
            assert client.get("/api/host/status").json()["engines"]["python"]["workers"]["busy"] == 1
            assert json.loads(socket.recv())["data"] == "just before"
            socket.send('{"channel": "system", "event": "ping", "ref": 2}')
            assert json.loads(socket.recv())["event"] == "pong"

            assert pipes["SAID"].is_empty() and pipes["ASLEEP"].is_empty()
            pipes["GO"].put(b"x")
            assert hogged.result(PATIENCE_S).json() == {"result": "let go"}
            assert pipes["ASLEEP"].is_empty()
            pipes["WAKE"].put(b"x")
            assert slept.result(PATIENCE_S).json() == "awake"
        assert served.stop() == 0


def test_what_blocks_the_loop_is_blamed_by_plugin_file_and_line(
    home: Path, tmp_path: Path, pipes: dict[str, Pipe], threads: ThreadPoolExecutor
) -> None:
    with hogging(home, tmp_path / "plugins", pipes) as served, served.client() as client:
        slept = threads.submit(client.get, "/api/plugins/sleeper/sleep")
        assert pipes["ASLEEP"].take() == b"1"
        served.logged(r"WARN .*plugin sleeper blocks the event loop at .*/sleeper.py:\d+ in sleep")
        blocked = client.get("/api/host/status").json()["engines"]["python"]["event_loop"]["blocked"]
        line = SLEEPER.splitlines().index("    os.read(wake, 1)  # the line that blocks") + 3
        assert blocked["plugin"] == "sleeper"
        assert blocked["place"].endswith(f"sleeper.py:{line} in sleep")
        pipes["WAKE"].put(b"x")
        assert slept.result(PATIENCE_S).json() == "awake"
        served.logged("the event loop runs again")
        assert client.get("/api/host/status").json()["engines"]["python"]["event_loop"]["blocked"] is None
        assert served.stop() == 0
        assert served.log.count("blocks the event loop") == 1


class Gate:
    """Handlers that say that they have begun, and wait to be let go."""

    def __init__(self) -> None:
        self.begun = Told()
        self.go = threading.Event()

    def wait(self, args: Any) -> str:
        """A ``def`` that blocks."""
        self.begun("begun")
        return "done" if happened(self.go) else "late"


def blocking(id: str, gate: Gate, **options: Any) -> Any:
    """A plugin with a tool that blocks and one that does not."""

    def setup(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool(f"{id}.wait", "Waits.", gate.wait, **options))
        host.add_agent_tool(AgentTool(f"{id}.quick", "Does not.", lambda args: "quick"))

    return made(setup, id)


def test_a_def_handler_that_blocks_delays_no_other(threads: ThreadPoolExecutor) -> None:
    gate = Gate()
    with running_host(blocking("a", gate), blocking("b", gate)) as host:
        for _ in range(3):
            waiting = threads.submit(call, host.http, "a.wait")
            assert gate.begun.next() == "begun"
            for tool in ("a.quick", "b.quick") * 20:
                assert call(host.http, tool).json() == {"result": "quick"}
            assert not waiting.done()
            gate.go.set()
            assert waiting.result(PATIENCE_S).json() == {"result": "done"}
            gate.go.clear()


def test_a_def_route_that_blocks_delays_no_other(threads: ThreadPoolExecutor) -> None:
    gate, router = Gate(), APIRouter()
    router.add_api_route("/wait", lambda: gate.wait(None))
    router.add_api_route("/quick", lambda: "quick")
    with running_host(mounted(router)) as host:
        waiting = threads.submit(host.http.get, "/api/plugins/demo/wait")
        assert gate.begun.next() == "begun"
        assert host.http.get("/api/plugins/demo/quick").json() == "quick"
        gate.go.set()
        assert waiting.result(PATIENCE_S).json() == "done"


@pytest.mark.parametrize("compiled", [False, True], ids=["asgi", "compiled"])
def test_a_plugin_that_blocks_on_all_its_anyio_threads_delays_no_other_plugin(compiled: bool) -> None:
    gate, blocked, free = Gate(), APIRouter(), APIRouter()

    @blocked.get("/wait")
    async def wait(word: str = Depends(lambda: gate.wait(None))) -> str:
        return word

    @blocked.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(gate.wait(None) for _ in range(1))

    @free.get("/quick")
    async def quick(word: str = Depends(lambda: "quick")) -> str:
        return word

    slow = made(lambda host: host.add_router(blocked, compiled=compiled), "slow")
    other = made(lambda host: host.add_router(free, compiled=compiled), "quick")
    with running_host(slow, other) as host, ThreadPoolExecutor(41) as threads:
        assert {row["compiled"] for row in host.http.get("/api/host/routes").json()["routes"]} == {compiled}
        paths = ["/api/plugins/slow/wait", "/api/plugins/slow/stream"] * 20
        waiting = [threads.submit(httpx.get, **_as(host, path)) for path in [*paths, paths[0]]]
        assert [gate.begun.next() for _ in range(40)] == ["begun"] * 40
        assert host.http.get("/api/plugins/quick/quick").json() == "quick"
        assert compiled or gate.begun.nothing(), "compiled ones have worker threads beside those forty"
        gate.go.set()
        assert {answer.result(PATIENCE_S).text.strip('"') for answer in waiting} == {"done"}


def _as(host: RunningHost, path: str) -> dict[str, Any]:
    """A request of a client of its own, so that none waits for another's connection."""
    return {"url": f"{host.url}{path}", "headers": host.http.headers, "timeout": PATIENCE_S}


def test_many_blocking_handlers_of_one_plugin_run_at_once(threads: ThreadPoolExecutor) -> None:
    barrier = threading.Barrier(20)
    tool = AgentTool("meet", "Waits for nineteen others.", lambda args: barrier.wait(PATIENCE_S) >= 0)
    with running_host(made(lambda host: host.add_agent_tool(tool))) as host:
        answers = [threads.submit(call, host.http, "meet") for _ in range(20)]
        assert [answer.result(PATIENCE_S).json() for answer in answers] == [{"result": True}] * 20


def test_beyond_half_of_the_threads_a_plugin_is_busy_and_the_others_are_not(threads: ThreadPoolExecutor) -> None:
    gate = Gate()
    with running_host(blocking("a", gate), blocking("b", gate), limits={"worker_threads": 8}) as host:
        for _ in range(2):
            calls = [threads.submit(call, host.http, "a.wait") for _ in range(12)]
            refused = _first(calls, 8)
            assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "busy")}
            assert {(answer.headers["retry-after"], answer.json()["plugin"]) for answer in refused} == {("1", "a")}
            assert [gate.begun.next() for _ in range(4)] == ["begun"] * 4
            assert gate.begun.nothing()
            assert call(host.http, "a.quick").json()["code"] == "busy"
            assert call(host.http, "b.quick").json() == {"result": "quick"}
            gate.go.set()
            done = [each.result(PATIENCE_S) for each in calls]
            assert Counter(answer.status_code for answer in done) == {200: 4, 503: 8}
            assert call(host.http, "a.quick").json() == {"result": "quick"}
            gate.go.clear()


def _first(calls: list[Future[httpx.Response]], count: int) -> list[httpx.Response]:
    """The answers of the first calls that end."""
    ended = Told()
    for each in calls:
        each.add_done_callback(lambda done: ended(done.result()))
    return [ended.next() for _ in range(count)]


def test_a_full_queue_is_busy_and_what_stands_in_it_is_answered(threads: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def blocks(args: Any) -> str:
        return gate.wait(args)

    async def quick(args: Any) -> str:
        return "quick"

    def setup(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("blocks", "Blocks the loop.", blocks))
        host.add_agent_tool(AgentTool("quick", "Does not.", quick))

    with running_host(made(setup), limits={"bridge_questions": 4}) as host:
        waiting = threads.submit(call, host.http, "blocks")
        assert gate.begun.next() == "begun"
        calls = [threads.submit(call, host.http, "quick") for _ in range(10)]
        for refused in _first(calls, 6):
            assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "1")
        assert sum(not each.done() for each in calls) == 4
        gate.go.set()
        assert waiting.result(PATIENCE_S).json() == {"result": "done"}
        assert Counter(each.result(PATIENCE_S).status_code for each in calls) == {200: 4, 503: 6}


def test_a_caller_that_goes_away_cancels_its_task_and_its_place_in_the_queue() -> None:
    told = Told()

    async def forever(args: Any, ctx: Any) -> None:
        told("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told(f"cancelled {ctx.cancelled}")
            raise

    tool = AgentTool("forever", "Never ends.", forever)
    with running_host(made(lambda host: host.add_agent_tool(tool))) as host:
        with wire(host) as client:
            client.ask("POST", "/api/host/tools/forever", "content-length: 0")
            assert told.next() == "begun"
        assert told.next() == "cancelled True"
        with host.websocket() as socket:
            socket.send('{"channel":"tools","event":"call","ref":1,"data":{"tool":"forever"}}')
            assert told.next() == "begun"
            socket.send('{"channel":"tools","event":"cancel","ref":1}')
            assert told.next() == "cancelled True"
            socket.send('{"channel":"tools","event":"call","ref":2,"data":{"tool":"forever"}}')
            assert told.next() == "begun"
        assert told.next() == "cancelled True"


def test_each_call_has_a_context_of_its_own_and_each_async_one_a_task() -> None:
    variable = contextvars.ContextVar("variable", default="untouched")
    tasks: list[asyncio.Task[Any] | None] = []

    async def asynchronous(args: Any) -> list[Any]:
        before = variable.get()
        variable.set("touched")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        tasks.append(task)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return [before, variable.get(), task in asyncio.all_tasks()]
        return []

    def synchronous(args: Any) -> list[Any]:
        before = variable.get()
        variable.set("touched")
        return [before, variable.get(), threading.current_thread() is not threading.main_thread()]

    def setup(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("async", "Looks.", asynchronous))
        host.add_agent_tool(AgentTool("def", "Looks.", synchronous))

    with running_host(made(setup)) as host:
        for _ in range(20):
            for tool in ("async", "def"):
                assert call(host.http, tool).json() == {"result": ["untouched", "touched", True]}
        assert len(set(map(id, tasks))) == 20


RAISING = """
async def asynchronous(args):
    raise ValueError("wrong in async")


def synchronous(args):
    raise ValueError("wrong in def")


def setup(host):
    host.add_agent_tool(AgentTool("async", "Raises.", asynchronous))
    host.add_agent_tool(AgentTool("def", "Raises.", synchronous))
"""


def test_an_exception_is_in_the_log_once_with_its_traceback(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "raising", RAISING)
    with Served(home, plugins=tmp_path / "plugins").ready() as served, served.client() as client:
        for tool in ("async", "def"):
            answer = call(client, tool)
            assert (answer.status_code, answer.json()["code"], answer.json()["plugin"]) == (500, "plugin", "raising")
            assert answer.json()["detail"] == f"ValueError: wrong in {tool}"
        assert served.stop() == 0
        assert served.log.count("Traceback") == 2
        assert served.log.count('raise ValueError("wrong in async")') == 1
        assert served.log.count('raise ValueError("wrong in def")') == 1


def test_a_def_that_outlives_its_limit_is_a_timeout_and_its_thread_is_stuck_and_replaced() -> None:
    gate = Gate()
    plugins = [blocking(id, gate, timeout_s=0.2) for id in ("a", "b", "c")]
    with running_host(*plugins, limits={"worker_threads": 4}) as host:
        for tool in ("a.wait", "a.wait", "b.wait", "b.wait"):
            answer = call(host.http, tool)
            assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
        workers = host.http.get("/api/host/status").json()["engines"]["python"]["workers"]
        assert sorted(each["plugin"] for each in workers["stuck"]) == ["a", "a", "b", "b"]
        assert workers["outlived"] == 4
        for _ in range(10):
            assert call(host.http, "c.quick").json() == {"result": "quick"}
        assert call(host.http, "a.quick").json()["code"] == "busy"
        gate.go.set()
        _until(lambda: host.http.get("/api/host/status").json()["engines"]["python"]["workers"]["stuck"] == [])
        assert call(host.http, "a.quick").json() == {"result": "quick"}


def _until(condition: Callable[[], bool]) -> None:
    """Ask again until it is so."""
    for _ in range(10_000):
        if condition():
            return
    raise AssertionError("it never came to be")


def test_no_question_is_stranded_whatever_is_asked_answered_and_given_up() -> None:
    async def quick(args: Any) -> int:
        return int(args["n"])

    async def yields(args: Any) -> int:
        for _ in range(args["n"] % 5):
            await asyncio.sleep(0)
        return int(args["n"])

    def plain(args: Any) -> int:
        return int(args["n"])

    def blocks(args: Any) -> int:
        threading.Event().wait(0.002)
        return int(args["n"])

    async def forever(args: Any) -> None:
        await asyncio.Event().wait()

    kinds = [quick, yields, plain, blocks, forever]

    def setup(host: PluginHost) -> None:
        for handler in kinds:
            number = {"n": {"type": "integer"}}
            host.add_agent_tool(AgentTool(handler.__name__, "One of many.", handler, parameters=number))

    async def one(client: httpx.AsyncClient, choice: random.Random, number: int) -> str:
        handler = choice.choice(kinds)
        asked = client.post(f"/api/host/tools/{handler.__name__}", json={"n": number})
        if handler is forever or choice.random() < 0.1:
            try:
                await asyncio.wait_for(asked, choice.random() * 0.02)
            except TimeoutError:
                return "given up"
            return "answered"
        answer = await asked
        assert answer.json() == {"result": number} or answer.json()["code"] == "busy", answer.text
        return "answered"

    async def worker(client: httpx.AsyncClient, seed: int) -> Counter[str]:
        choice = random.Random(seed)
        return Counter([await one(client, choice, number) for number in range(100)])

    async def all_of(host: RunningHost) -> Counter[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=host.url, headers=host.http.headers, timeout=PATIENCE_S, limits=limits
        ) as client:
            return sum(await asyncio.gather(*(worker(client, seed) for seed in range(30))), Counter())

    with running_host(made(setup)) as host:
        ended = asyncio.run(all_of(host))
        assert ended.total() == 3000
        assert ended["answered"] > 1500
        status = host.http.get("/api/host/status").json()["engines"]["python"]
        assert status["event_loop"]["waiting"] == status["workers"]["waiting"] == 0
        _until(lambda: _running(host) == 0)


def _running(host: RunningHost) -> int:
    return int(host.http.get("/api/host/status").json()["engines"]["python"]["event_loop"]["tasks"])
