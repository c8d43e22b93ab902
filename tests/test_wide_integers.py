"""Integers that many programs cannot hold: at every door they keep their digits, or are refused with a reason."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from kit import PATIENCE_S, made
from mcp_clients import INITIALIZE, modern

from plugbay import AgentTool, PluginHost, ToolError
from plugbay.testing import RunningHost, running_host

HELD = [2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1]
"""What floating-point numbers do not hold, and 64 bits do."""

WIDE = [2**64, -(2**63) - 1, 10**40]


def setup(host: PluginHost) -> None:
    number = {"number": {"type": "integer"}}
    host.add_agent_tool(AgentTool("big.text", "Say its digits.", lambda args: f"n{args['number']}", number))
    host.add_agent_tool(AgentTool("big.same", "Give it back.", lambda args: args["number"], number))
    host.add_agent_tool(AgentTool("big.power", "Raise two.", lambda args: {"is": 2 ** args["number"]}, number))
    shape = {"type": "object", "properties": {"is": {"type": "integer"}}}
    power = AgentTool(
        "big.promise", "Raise two.", lambda args: {"is": 2 ** args["number"]}, number, output_schema=shape
    )
    host.add_agent_tool(power)


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(made(setup), log_level="off") as host:
        assert host.registry.errors == []
        yield host


Outcome = tuple[Any, str | None]


def over_http(host: RunningHost, tool: str, number: int) -> Outcome:
    answer = host.http.post(f"/api/host/tools/{tool}", json={"number": number}).json()
    return answer.get("result"), answer.get("code")


def over_the_socket(host: RunningHost, tool: str, number: int) -> Outcome:
    with host.websocket() as socket:
        wish = {"tool": tool, "arguments": {"number": number}}
        socket.send(json.dumps({"channel": "tools", "event": "call", "ref": 1, "data": wish}))
        while (answer := json.loads(socket.recv(timeout=PATIENCE_S)))["event"] not in ("result", "error"):
            pass
    return answer["data"].get("result"), answer["data"].get("code")


def in_python(host: RunningHost, tool: str, number: int) -> Outcome:
    answer = asyncio.run(host.registry.invoke_agent_tool(tool, {"number": number}))
    return (None, answer["code"]) if isinstance(answer, dict) and "code" in answer else (answer, None)


def on_dash(host: RunningHost, tool: str, number: int) -> Outcome:
    try:
        return host.dash.tools[tool](number=number), None
    except ToolError as error:
        return None, error.code


def on_the_command_line(host: RunningHost, tool: str, number: int) -> Outcome:
    command = [sys.executable, "-m", "plugbay", "tool", "call", tool, "--url", host.url, "--json", "-"]
    environment = {**os.environ, "PLUGBAY_TOKEN": host.token}
    text = json.dumps({"number": number})
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
    return (json.loads(done.stdout), None) if done.returncode == 0 else (None, {2: "invalid"}[done.returncode])


def read(answer: dict[str, Any]) -> Outcome:
    if "error" in answer:
        return None, answer["error"]["data"]["code"]
    result = answer["result"]
    if result.get("isError"):
        return None, result["_meta"]["plugbay/code"]
    text = result["content"][0]["text"]
    shown = result.get("structuredContent", text)
    # The text and what is structured say the same.
    assert shown in (text, json.loads(text) if text[0] != "n" else text)
    return json.loads(text) if text[0] != "n" else text, None


def over_mcp(host: RunningHost, tool: str, number: int) -> Outcome:
    return read(
        httpx.post(f"{host.url}/mcp", **modern("tools/call", host.token, tool, arguments={"number": number})).json()
    )


def over_mcp_of_old(host: RunningHost, tool: str, number: int) -> Outcome:
    headers = {"Authorization": f"Bearer {host.token}", "Accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S) as client:
        opened = client.post("/mcp", json=INITIALIZE)
        client.headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        params = {"name": tool, "arguments": {"number": number}}
        answer = client.post("/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})
        client.delete("/mcp")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
    return read(json.loads([line for line in lines if line.startswith("{")][-1]))


DOORS: dict[str, Callable[[RunningHost, str, int], Outcome]] = {
    "HTTP": over_http,
    "the socket": over_the_socket,
    "Python": in_python,
    "dash": on_dash,
    "the command line": on_the_command_line,
    "MCP": over_mcp,
    "MCP of old": over_mcp_of_old,
}


@pytest.mark.parametrize("door", DOORS)
def test_what_64_bits_hold_keeps_its_digits_both_ways(host: RunningHost, door: str) -> None:
    for number in HELD:
        assert DOORS[door](host, "big.text", number) == (f"n{number}", None)
        assert DOORS[door](host, "big.same", number) == (number, None)


@pytest.mark.parametrize("door", DOORS)
def test_what_64_bits_do_not_hold_is_refused_as_an_argument(host: RunningHost, door: str) -> None:
    for number in WIDE:
        assert DOORS[door](host, "big.text", number) == (None, "invalid")


@pytest.mark.parametrize("door", DOORS)
def test_a_wide_result_keeps_its_digits_unless_its_promise_cannot_be_kept(host: RunningHost, door: str) -> None:
    assert DOORS[door](host, "big.power", 70) == ({"is": 2**70}, None)
    expected = (None, "plugin") if door.startswith("MCP") else ({"is": 2**70}, None)
    assert DOORS[door](host, "big.promise", 70) == expected
