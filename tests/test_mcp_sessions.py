"""Sessions of MCP's old era whose client does not read, goes away, comes back or gives two requests one name."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from kit import PATIENCE_S, Wire, happened, made, wire
from mcp_clients import INITIALIZE
from recorded import latest, news

from plugbay import AgentTool, PluginHost, ToolContext
from plugbay.testing import RunningHost, running_host

REPORTS = 2000
"""More than all that is between the host and a client can hold."""

poured = threading.Event()
gates: dict[str, tuple[asyncio.Event, asyncio.AbstractEventLoop]] = {}
begun: queue.SimpleQueue[str] = queue.SimpleQueue()


async def pours(args: dict[str, Any], ctx: ToolContext) -> None:
    number = 0
    while True:
        number += 1
        await ctx.progress(1 - 1 / number, "x" * 20_000)
        await asyncio.sleep(0)
        if number == REPORTS:
            poured.set()


async def waits(args: dict[str, Any]) -> str:
    """Wait for its test."""
    opened = asyncio.Event()
    gates[args["gate"]] = (opened, asyncio.get_running_loop())
    begun.put(args["gate"])
    await opened.wait()
    return f"behind {args['gate']}"


def open_gate(name: str) -> None:
    opened, loop = gates.pop(name)
    loop.call_soon_threadsafe(opened.set)


def setup(host: PluginHost) -> None:
    host.add_agent_tool(AgentTool("pours", "", pours))
    host.add_agent_tool(AgentTool("waits", "", waits))


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    # What an unread stream holds up is not let go for as long as a test waits.
    with running_host(made(setup), log_level="off", limits={"stall_time_s": 300, "call_time_s": 300}) as running:
        yield running


@contextmanager
def session(host: RunningHost) -> Iterator[httpx.Client]:
    """A client in a session of its own."""
    headers = {"Authorization": f"Bearer {host.token}", "Accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S) as http:
        http.headers["Mcp-Session-Id"] = http.post("/mcp", json=INITIALIZE).headers["mcp-session-id"]
        http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}).raise_for_status()
        yield http


def call(id: int, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments} | ({} if meta is None else {"_meta": meta})
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def messages(stream: str) -> list[dict[str, Any]]:
    """What a stream of events has brought."""
    data = (line.removeprefix("data:").strip() for line in stream.splitlines() if line.startswith("data:"))
    return [json.loads(text) for text in data if text]


@contextmanager
def unread(host: RunningHost, http: httpx.Client) -> Iterator[Wire]:
    """A call in the client's session that reports more than fits, to a stream that nobody reads."""
    poured.clear()
    body = json.dumps(call(60, "pours", {"progressToken": "t"})).encode()
    headers = [f"{name}: {http.headers[name]}" for name in ("Accept", "Mcp-Session-Id")]
    with wire(host, receive_bytes=4096) as stream:
        stream.ask(
            "POST", "/mcp", *headers, "Content-Type: application/json", f"Content-Length: {len(body)}", body=body
        )
        assert happened(poured)
        yield stream


def test_a_stream_that_is_not_read_holds_up_nothing_else_of_its_session(host: RunningHost) -> None:
    with session(host) as http, unread(host, http):
        (pong,) = messages(http.post("/mcp", json={"jsonrpc": "2.0", "id": 61, "method": "ping"}).text)
        assert (pong["id"], pong["result"]) == (61, {})


def test_a_call_whose_stream_is_not_read_ends_when_its_client_gives_it_up(host: RunningHost) -> None:
    after = latest(host)
    with session(host) as http, unread(host, http) as stream:
        given_up = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 60}}
        assert http.post("/mcp", json=given_up).status_code == 202
        (record,) = news(host, after, 1)
        assert (record["tool"], record["code"]) == ("pours", "cancelled")
        status, _, body = stream.answer()
        assert status == 200
        assert all("result" not in message for message in messages(body.decode()))


def test_a_session_ends_although_its_streams_are_not_read(host: RunningHost) -> None:
    after = latest(host)
    with session(host) as http, unread(host, http) as stream:
        with http.stream("GET", "/mcp") as own:
            assert own.status_code == 200
            assert http.delete("/mcp").status_code == 204
            for _ in own.iter_raw():
                pass
        (record,) = news(host, after, 1)
        assert (record["tool"], record["code"]) == ("pours", "cancelled")
        assert stream.answer()[0] == 200


def left(http: httpx.Client, id: int, gate: str) -> str:
    """Calls a tool that waits, and leaves once it does; the event that the client has got last."""
    with http.stream("POST", "/mcp", json=call(id, "waits", gate=gate)) as stream:
        last = next(line for line in stream.iter_lines() if line.startswith("id:"))
        assert begun.get(timeout=PATIENCE_S) == gate
    return last.removeprefix("id:").strip()


def resumed(http: httpx.Client, last: str) -> httpx.Response:
    return http.get("/mcp", headers={"Last-Event-ID": last})


def test_a_result_that_comes_while_its_client_is_away_is_there_when_it_comes_back(host: RunningHost) -> None:
    after = latest(host)
    with session(host) as http, session(host) as other:
        last = left(http, 5, "away")
        open_gate("away")
        news(host, after, 1)
        # What comes after the result in the same session is answered after it.
        assert http.post("/mcp", json={"jsonrpc": "2.0", "id": 6, "method": "ping"}).status_code == 200
        for _time in range(2):
            answer = resumed(http, last)
            assert answer.status_code == 200
            (result,) = messages(answer.text)
            assert (result["id"], result["result"]["content"][0]["text"]) == (5, "behind away")
        got = next(line for line in answer.text.splitlines() if line.startswith("id:")).removeprefix("id:").strip()
        assert messages(resumed(http, got).text) == [], "this client has got all"
        assert resumed(other, last).status_code == 404, "it is not this session's"


def test_a_client_that_comes_back_in_time_gets_its_result_when_it_comes(host: RunningHost) -> None:
    with session(host) as http:
        last = left(http, 5, "back")
        with http.stream("GET", "/mcp", headers={"Last-Event-ID": last}) as stream:
            assert stream.status_code == 200
            open_gate("back")
            (result,) = messages("\n".join(stream.iter_lines()))
        assert result["result"]["content"][0]["text"] == "behind back"
        (again,) = messages(resumed(http, last).text)
        assert again == result


@pytest.mark.parametrize("last", ["garbage", "", "0/", "0/99", "-1/0", "0/99999999999999999999"])
def test_who_asks_for_what_a_session_does_not_have_is_told_so(host: RunningHost, last: str) -> None:
    with session(host) as http:
        answer = resumed(http, last)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        with http.stream("GET", "/mcp", headers={"Last-Event-ID": "0"}) as stream:
            assert stream.status_code == 200, "that is the session's own stream"


def test_two_requests_at_a_time_may_not_have_one_name(host: RunningHost) -> None:
    after = latest(host)
    with session(host) as http:
        with http.stream("POST", "/mcp", json=call(7, "waits", gate="first")) as stream:
            assert begun.get(timeout=PATIENCE_S) == "first"
            (refused,) = messages(http.post("/mcp", json=call(7, "waits", gate="second")).text)
            assert (refused["id"], refused["error"]["code"]) == (7, -32600)
            assert refused["error"]["data"]["code"] == "conflict"
            open_gate("first")
            (result,) = messages("\n".join(stream.iter_lines()))
        assert result["result"]["content"][0]["text"] == "behind first"
        records = news(host, after, 2)
        assert [(record["tool"], record["outcome"]) for record in records] == [("waits", "refused"), ("waits", "ok")]
        with http.stream("POST", "/mcp", json=call(7, "waits", gate="third")) as stream:
            assert begun.get(timeout=PATIENCE_S) == "third"
            open_gate("third")
            assert "behind third" in stream.read().decode(), "its name is free again"
