"""One registration, one gate, one record: the same table of calls through every door."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import mcp_clients
import pytest
from kit import PATIENCE_S
from mcp.shared.exceptions import MCPError
from raw import Socket
from recorded import latest, news

from plugbay import ToolError
from plugbay.testing import RunningHost, running_host

PLUGIN = Path(__file__).parent / "plugins" / "gated.py"

CALLS_OF_A_SOCKET = 4

RULES = f"""
[permissions]
deny = ["gated.denied"]
ask = ["gated.asked"]
allow = ["gated.write"]

[limits]
approval_time_s = 4
result_bytes = 1000
mailbox_messages = {CALLS_OF_A_SOCKET}
"""


class Case(NamedTuple):
    """One call, and all that is to come of it."""

    tool: str
    arguments: dict[str, Any]
    code: str | None
    decision: str | None
    outcome: str
    answer: str | None = None


CASES = {
    "good": Case("good", {"text": "hi", "pin": 1234}, None, "allowed", "ok"),
    "a wrong argument": Case("good", {"text": 1}, "invalid", None, "refused"),
    "unknown": Case("nothing", {"text": "hi"}, "not_found", None, "refused"),
    "failing": Case("failing", {"text": "hi"}, "plugin", "allowed", "failed"),
    "slow": Case("slow", {"text": "hi"}, "timeout", "allowed", "failed"),
    "too large a result": Case("large", {"text": "hi"}, "too_large", "allowed", "failed"),
    "a side effect that a rule allows": Case("write", {"text": "hi"}, None, "allowed", "ok"),
    "denied": Case("denied", {"text": "hi"}, "denied", "denied", "refused"),
    "asked and allowed": Case("asked", {"text": "please"}, None, "asked_allowed", "ok", "once"),
    "asked and refused": Case("asked", {"text": "never"}, "denied", "asked_denied", "refused", "deny"),
}
"""Each call. One that nobody answers, and one that is cancelled, have tests of their own."""

Outcome = tuple[Any, str | None]
"""What a call gave: its result; or ``None`` and its code."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    config = tmp_path_factory.mktemp("rules") / "plugbay.toml"
    config.write_text(RULES)
    with running_host(PLUGIN, log_level="off", config=str(config)) as host:
        assert host.registry.errors == []
        yield host


@pytest.fixture(scope="module")
def approver(host: RunningHost) -> Iterator[httpx.Client]:
    """A person who is not the one that calls."""
    made = host.http.post("/api/host/tokens", json={"name": "ann", "scopes": ["approve"]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    with httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S) as client:
        yield client


def over_http(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    answer = host.http.post(f"/api/host/tools/{tool}", json=arguments)
    body = answer.json()
    return (body["result"], None) if answer.status_code == 200 else (None, body["code"])


def over_the_socket(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    with Socket(host.url, host.token) as socket:
        wish = {"tool": tool, "arguments": arguments}
        socket.send_json({"channel": "tools", "event": "call", "ref": "r", "data": wish})
        while (answer := socket.receive_json()).get("event") not in ("result", "error"):
            pass
    return (answer["data"]["result"], None) if answer["event"] == "result" else (None, answer["data"]["code"])


def in_python(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    answer = asyncio.run(host.registry.invoke_agent_tool(tool, arguments))
    return (None, answer["code"]) if "code" in answer else (answer, None)


def on_dash(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    try:
        return host.dash.tools[tool](**arguments), None
    except KeyError:
        # The name is looked up before anything is called, so that this is no call.
        return None, "not_found"
    except ToolError as error:
        return None, error.code


def on_the_command_line(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    done = command(host, tool, arguments)
    out, err = done.communicate(timeout=PATIENCE_S)
    if done.returncode == 0:
        return json.loads(out), None
    assert "Traceback" not in err
    return None, str(done.returncode)


def over_mcp(mode: str, host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    async def call() -> Outcome:
        async with mcp_clients.client(host.url, host.token, mode) as connected:

            async def heard(*_report: Any) -> None:
                pass

            try:
                # Who hears of progress is told that a person is asked, and so waits to the end.
                answer = await connected.call_tool(tool, arguments, progress_callback=heard)
            except MCPError as error:
                return None, error.error.data["code"]
            if answer.is_error:
                return None, (answer.meta or {})["plugbay/code"]
            return answer.structured_content, None

    outcome: Outcome = mcp_clients.run(call)
    return outcome


def command(host: RunningHost, tool: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
    """`plugbay tool call`, started."""
    words = ["tool", "call", tool, "--url", host.url, "--json", "-"]
    environment = {**os.environ, "PLUGBAY_TOKEN": host.token}
    process = subprocess.Popen(
        [sys.executable, "-m", "plugbay", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(arguments))
        process.stdin.close()
    process.stdin = None
    return process


DOORS: dict[str, tuple[str, Callable[[RunningHost, str, dict[str, Any]], Outcome]]] = {
    "HTTP": ("http", over_http),
    "the socket": ("ws", over_the_socket),
    "Python": ("python", in_python),
    "dash": ("repl", on_dash),
    "the command line": ("http", on_the_command_line),
    "MCP's old era": ("mcp", partial(over_mcp, "legacy")),
    "MCP's new era": ("mcp", partial(over_mcp, "auto")),
}
"""Each door, the word for it in the record, and how to call there. A further door is a further line."""


def settled(host: RunningHost, after: int, count: int) -> list[dict[str, Any]]:
    """The new records, once so many calls are at their end.

    The command line asks for an answer at once, says where a person answers, and comes back: that is a record more.
    """
    while True:
        records = news(host, after, 1)
        ended = [record for record in records if record["decision"] != "asked_pending"]
        if len(ended) >= count:
            assert len(ended) == count
            return [record for record in records if record not in ended] + ended
        news(host, records[-1]["id"], 1)


def answer_next(approver: httpx.Client, decision: str) -> str:
    """Wait for an approval, answer it, and give its id."""
    while not (waiting := approver.get("/api/host/approvals").raise_for_status().json()["approvals"]):
        pass
    said = {"digest": waiting[0]["digest"], "decision": decision}
    answered = approver.post(f"/api/host/approvals/{waiting[0]['id']}", json=said)
    assert answered.status_code == 200, answered.text
    return str(waiting[0]["id"])


def what_it_says(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what is of one call alone."""
    own = {"id", "call", "time", "duration_us", "door", "approval"}
    return {name: value for name, value in record.items() if name not in own}


@pytest.mark.parametrize("name", CASES)
def test_a_call_is_decided_answered_and_recorded_alike_at_every_door(
    host: RunningHost, approver: httpx.Client, name: str
) -> None:
    case = CASES[name]
    records = []
    for door, (word, ask) in DOORS.items():
        after = latest(host)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, host, f"gated.{case.tool}", case.arguments)
            approval = None if case.answer is None else answer_next(approver, case.answer)
            result, code = asked.result(PATIENCE_S)
        assert result == (None if case.code else {"heard": case.arguments["text"]}), door
        if door == "the command line":
            assert code == (None if case.code is None else "2" if case.code in ("invalid", "not_found") else "1")
        else:
            assert code == case.code, door
        if (door, case.code) == ("dash", "not_found"):
            continue
        *pending, record = settled(host, after, 1)
        assert all(earlier["approval"] == approval for earlier in pending), door
        assert (record["door"], record["principal"], record["approval"]) == (word, "owner", approval), door
        records.append(what_it_says(record))
    assert all(record == records[0] for record in records), records
    said = records[0]
    assert (said["code"], said["decision"], said["outcome"]) == (case.code, case.decision, case.outcome)
    assert said["answered_by"] == (None if case.answer is None else "ann")
    if case.code != "not_found":
        assert (said["plugin"], said["version"]) == ("gated", "1.2.3")
        shown = case.arguments | ({"pin": "[hidden]"} if "pin" in case.arguments else {})
        assert said["arguments"] == shown


def test_an_approval_that_nobody_answers_is_a_denial_at_every_door(host: RunningHost) -> None:
    after = latest(host)
    with ThreadPoolExecutor(len(DOORS)) as pool:
        asked = {
            door: pool.submit(ask, host, "gated.asked", {"text": f"from {door}"})
            for door, (_word, ask) in DOORS.items()
        }
        for door, outcome in asked.items():
            assert outcome.result(PATIENCE_S) == (None, "1" if door == "the command line" else "denied"), door
    records = settled(host, after, len(DOORS))[-len(DOORS) :]
    assert {(record["decision"], record["code"], record["outcome"]) for record in records} == {
        ("asked_lapsed", "denied", "refused")
    }
    assert sorted(record["arguments"]["text"] for record in records) == sorted(f"from {door}" for door in DOORS)


def cancel_over_http(host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    with httpx.Client(base_url=host.url, headers={"Authorization": f"Bearer {host.token}"}) as client:

        def leave() -> None:
            begun()
            client.close()

        thread = threading.Thread(target=leave)
        thread.start()
        with contextlib.suppress(httpx.HTTPError, RuntimeError):
            client.post(f"/api/host/tools/{tool}", json={"text": "x"}, timeout=0.5)
        thread.join(PATIENCE_S)


def cancel_over_the_socket(host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    with Socket(host.url, host.token) as socket:
        wish = {"tool": tool, "arguments": {"text": "x"}}
        socket.send_json({"channel": "tools", "event": "call", "ref": 1, "data": wish})
        begun()
        socket.send_json({"channel": "tools", "event": "cancel", "ref": 1})
        while (answer := socket.receive_json()).get("event") != "error":
            pass
        assert answer["data"]["code"] == "cancelled"


def cancel_in_python(host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    async def run() -> None:
        task = asyncio.ensure_future(host.registry.invoke_agent_tool(tool, {"text": "x"}))
        await asyncio.to_thread(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def cancel_on_dash(host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    async def run() -> None:
        task = asyncio.ensure_future(host.dash.tools[tool].call_async(text="x"))
        await asyncio.to_thread(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def cancel_on_the_command_line(host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    process = command(host, tool, {"text": "x"})
    begun()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)


def cancel_over_mcp(mode: str, host: RunningHost, tool: str, begun: Callable[[], None]) -> None:
    async def call() -> None:
        async with mcp_clients.client(host.url, host.token, mode) as connected, anyio.create_task_group() as group:
            group.start_soon(connected.call_tool, tool, {"text": "x"})
            await anyio.to_thread.run_sync(begun)
            group.cancel_scope.cancel()

    mcp_clients.run(call)


CANCELS = {
    "HTTP": cancel_over_http,
    "the socket": cancel_over_the_socket,
    "Python": cancel_in_python,
    "dash": cancel_on_dash,
    "the command line": cancel_on_the_command_line,
    "MCP's old era": partial(cancel_over_mcp, "legacy"),
    "MCP's new era": partial(cancel_over_mcp, "auto"),
}


@pytest.mark.parametrize("door", CANCELS)
def test_a_call_that_its_caller_leaves_is_recorded_as_cancelled(host: RunningHost, door: str) -> None:
    began = semaphore()
    after = latest(host)

    def begun() -> None:
        assert began.acquire(timeout=PATIENCE_S)

    CANCELS[door](host, "gated.stuck", begun)
    (record,) = news(host, after, 1)
    assert (record["door"], record["code"], record["outcome"], record["decision"]) == (
        DOORS[door][0],
        "cancelled",
        "cancelled",
        "allowed",
    )


def test_whoever_leaves_while_a_person_is_asked_has_denied_the_call(host: RunningHost, approver: httpx.Client) -> None:
    after = latest(host)

    def asked() -> None:
        while not approver.get("/api/host/approvals").json()["approvals"]:
            pass

    cancel_over_the_socket(host, "gated.asked", asked)
    (record,) = news(host, after, 1)
    assert (record["decision"], record["outcome"]) == ("asked_denied", "cancelled")
    assert record["approval"] is not None


def test_a_tool_that_allows_one_call_at_a_time_is_busy_for_the_second(host: RunningHost) -> None:
    began = semaphore()

    def second() -> None:
        assert began.acquire(timeout=PATIENCE_S)
        for _word, ask in (DOORS["HTTP"], DOORS["dash"]):
            assert ask(host, "gated.single", {"text": "y"}) == (None, "busy")

    cancel_over_the_socket(host, "gated.single", second)


def test_a_call_too_many_of_one_connection_is_busy_and_recorded(host: RunningHost) -> None:
    after, began = latest(host), semaphore()
    with Socket(host.url, host.token) as socket:
        for ref, tool in enumerate(["gated.stuck"] * CALLS_OF_A_SOCKET + ["gated.good"]):
            wish = {"tool": tool, "arguments": {"text": "x"}}
            socket.send_json({"channel": "tools", "event": "call", "ref": ref, "data": wish})
        while (answer := socket.receive_json()).get("event") != "error":
            pass
        assert (answer["ref"], answer["data"]["code"]) == (CALLS_OF_A_SOCKET, "busy")
        (record,) = news(host, after, 1)
        assert (record["tool"], record["code"], record["outcome"]) == ("gated.good", "busy", "refused")
        for _call in range(CALLS_OF_A_SOCKET):
            assert began.acquire(timeout=PATIENCE_S)
    assert len(news(host, record["id"], CALLS_OF_A_SOCKET)) == CALLS_OF_A_SOCKET


def semaphore() -> threading.Semaphore:
    """What the plugin's stuck tools release when they begin."""
    modules = [module for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(PLUGIN)]
    found: threading.Semaphore = modules[0].began
    return found
