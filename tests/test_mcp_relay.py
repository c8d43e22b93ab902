"""`plugbay mcp --stdio`, line by line: what a client may begin with, and what happens when its host or itself goes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import PATIENCE_S
from mcp_clients import INITIALIZE
from served import Served, write_plugin

TOOLS = """
import asyncio, sys
from plugbay import ToolContext

released = asyncio.Event()

async def wait(args, ctx: ToolContext):
    await ctx.progress(0.5, "half way")
    print("somebody waits", file=sys.stderr, flush=True)
    await released.wait()
    return "released"

async def release(args):
    released.set()
    return "all of them"

async def big(args):
    return "x" * 400_000

async def at(args):
    return args["region"]

REGION = {"region": {"type": "string", "x-mcp-header": "Region"}}

def setup(host):
    for handler in (wait, release, big):
        host.add_agent_tool(AgentTool(handler.__name__, "", handler, side_effect=False))
    host.add_agent_tool(AgentTool("at", "", at, parameters=REGION, required=("region",), side_effect=False))
"""

INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def old(id: int, method: str, **params: Any) -> dict[str, Any]:
    """A request of the eras with sessions."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def new(id: int, method: str, progress: str | None = None, **params: Any) -> dict[str, Any]:
    """A request of the era of 2026-07-28."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    }
    if progress is not None:
        meta["progressToken"] = progress
    return old(id, method, **params, _meta=meta)


def call(id: int, tool: str, progress: str | None = None, **arguments: Any) -> dict[str, Any]:
    """A call of the era of 2026-07-28."""
    return new(id, "tools/call", progress, name=tool, arguments=arguments)


def lines(*messages: dict[str, Any]) -> bytes:
    """What a client writes."""
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


class Talk:
    """The command, whose lines are read all along."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put(json.loads(line))

    def say(self, *messages: dict[str, Any]) -> None:
        """Write messages."""
        assert self.process.stdin is not None
        self.process.stdin.write(lines(*messages))
        self.process.stdin.flush()

    def hear(self) -> Any:
        """The next message. Fails when none comes."""
        return self._heard.get(timeout=PATIENCE_S)

    def answers(self, *ids: int) -> dict[int, Any]:
        """The next messages, which are answers to these and to no other."""
        heard = {message["id"]: message for message in (self.hear() for _ in ids)}
        assert set(heard) == set(ids)
        return heard


def command(home: Path) -> subprocess.Popen[bytes]:
    """The command, started."""
    words = [sys.executable, "-m", "plugbay", "mcp", "--stdio"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, env={**os.environ, "PLUGBAY_HOME": str(home)}, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )


@contextmanager
def talking(home: Path) -> Iterator[Talk]:
    """A client that has said nothing yet."""
    with command(home) as process:
        try:
            yield Talk(process)
        finally:
            process.kill()


@pytest.fixture
def served(home: Path, tmp_path: Path) -> Iterator[Served]:
    """A host with the tools above."""
    write_plugin(tmp_path / "plugins", "waiting", TOOLS)
    with Served(home, plugins=tmp_path / "plugins").ready() as served:
        yield served


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_call_of_the_old_era_ends_with_its_host(home: Path, served: Served, comes_back: bool) -> None:
    with talking(home) as talk:
        talk.say(INITIALIZE, INITIALIZED, old(2, "tools/call", name="wait", arguments={}))
        talk.answers(1)
        served.logged("somebody waits")
        served.process.kill()
        served.process.wait(PATIENCE_S)
        if comes_back:
            with Served(home, "--port", str(served.port)).ready():
                assert "error" in talk.answers(2)[2]
                # The session is begun anew, and goes on.
                talk.say(old(3, "tools/list"))
                assert talk.answers(3)[3]["result"]["tools"] == []
        else:
            assert "error" in talk.answers(2)[2]


@pytest.mark.usefixtures("served")
def test_many_calls_of_the_new_era_hold_up_nothing(home: Path) -> None:
    waiting = range(1, 101)
    with talking(home) as talk:
        talk.say(new(0, "server/discover"))
        talk.answers(0)
        talk.say(*(call(id, "wait") for id in waiting))
        talk.say(new(200, "tools/list"))
        talk.answers(200)
        talk.say(call(201, "release"))
        talk.answers(201, *waiting)


@pytest.mark.usefixtures("served")
def test_a_session_begins_without_the_word_that_it_has_begun(home: Path) -> None:
    with talking(home) as talk:
        talk.say(INITIALIZE, old(2, "tools/list"), old(3, "tools/list"))
        assert all("result" in answer for answer in talk.answers(1, 2, 3).values())
        talk.say(INITIALIZED, old(4, "tools/list"))
        assert "result" in talk.answers(4)[4]


FIRST: dict[str, dict[str, Any]] = {
    "that it has begun": INITIALIZED,
    "that its roots are others": {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
}


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_a_notification_may_come_first(home: Path, first: dict[str, Any]) -> None:
    with talking(home) as talk:
        talk.say(first, INITIALIZE, INITIALIZED, old(2, "tools/list"))
        assert all("result" in answer for answer in talk.answers(1, 2).values())
    with talking(home) as talk:
        talk.say(first, new(1, "tools/list"))
        assert "result" in talk.answers(1)[1]


@pytest.mark.usefixtures("served")
def test_a_request_of_the_old_era_may_come_before_its_session(home: Path) -> None:
    with talking(home) as talk:
        talk.say(old(9, "tools/list"), INITIALIZE, INITIALIZED, old(2, "tools/list"))
        answers = talk.answers(9, 1, 2)
        assert "error" in answers[9]
        assert "result" in answers[2]


@pytest.mark.usefixtures("served")
def test_the_new_era_may_begin_with_listening(home: Path) -> None:
    with talking(home) as talk:
        talk.say(new(1, "subscriptions/listen", notifications={"toolsListChanged": True}), new(2, "tools/list"))
        heard = [talk.hear(), talk.hear()]
        assert {message.get("id") or message["method"] for message in heard} == {
            2, "notifications/subscriptions/acknowledged",
        }  # fmt: skip


@pytest.mark.usefixtures("served")
def test_the_new_era_may_begin_with_a_call_that_reports_progress(home: Path) -> None:
    with talking(home) as talk:
        talk.say(call(1, "wait", progress="p"))
        assert talk.hear()["params"]["message"] == "half way"
        talk.say(call(2, "release"))
        talk.answers(1, 2)


@pytest.mark.parametrize("end", ["SIGTERM", "end of input"])
def test_a_client_that_does_not_read_can_end_it(home: Path, served: Served, end: str) -> None:
    with command(home) as process, served.client() as http:
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(lines(*(call(id, "big") for id in range(8))))
            process.stdin.flush()
            # More is on its way than a pipe holds.
            assert os.read(process.stdout.fileno(), 1) == b"{"
            if end == "SIGTERM":
                process.send_signal(signal.SIGTERM)
            else:
                process.stdin.close()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
        assert [token["name"] for token in http.get("/api/host/tokens").json()["tokens"]] == ["owner"]


@pytest.mark.usefixtures("served")
def test_a_tool_that_wants_headers_is_called_without_a_list(home: Path) -> None:
    with talking(home) as talk:
        talk.say(call(1, "at", region="here"), call(2, "at", region="there"))
        answers = talk.answers(1, 2)
        assert [answers[id]["result"]["content"][0]["text"] for id in (1, 2)] == ["here", "there"]


ASKED: dict[str, tuple[dict[str, Any], ...]] = {
    "the new era": (new(3, "tools/list"),),
    "the old era": (INITIALIZE, INITIALIZED, old(3, "tools/list")),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_what_is_asked_before_the_end_is_answered(
    home: Path, served: Served, asked: tuple[dict[str, Any], ...]
) -> None:
    with command(home) as process:
        # The last line has no end.
        heard, _ = process.communicate(lines(*asked).removesuffix(b"\n"), timeout=PATIENCE_S)
    answers = {answer["id"]: answer for answer in map(json.loads, heard.splitlines())}
    assert process.returncode == 0
    assert {tool["name"] for tool in answers[3]["result"]["tools"]} == {"at", "big", "release", "wait"}
    with served.client() as http:
        assert [token["name"] for token in http.get("/api/host/tokens").json()["tokens"]] == ["owner"]


@pytest.mark.usefixtures("served")
def test_an_end_waits_for_no_call_without_end(home: Path) -> None:
    with command(home) as process:
        asked = lines(new(1, "subscriptions/listen", notifications={"toolsListChanged": True}), call(2, "wait"))
        process.communicate(asked, timeout=PATIENCE_S)
    assert process.returncode == 0
