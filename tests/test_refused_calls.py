"""Calls that no door can hand over: each is answered with its code and recorded all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import mcp_clients
import pytest
from kit import PATIENCE_S
from raw import Socket
from recorded import latest, news

from plugbay import ToolError
from plugbay.testing import RunningHost, running_host

PLUGIN = Path(__file__).parent / "plugins" / "gated.py"


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(PLUGIN, log_level="off") as host:
        assert host.registry.errors == []
        yield host


def one_frame(host: RunningHost, token: str, data: Any) -> str:
    with Socket(host.url, token) as socket:
        socket.send_json({"channel": "tools", "event": "call", "ref": 1, "data": data})
        while (answer := socket.receive_json()).get("event") != "error":
            pass
    return str(answer["data"]["code"])


def one_post(host: RunningHost, token: str, tool: str, body: bytes = b"{}") -> str:
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{host.url}/api/host/tools/{quote(tool)}", content=body, headers=headers)
    return str(answer.json()["code"])


def one_message(host: RunningHost, token: str, tool: str, arguments: Any) -> str:
    asked = mcp_clients.modern("tools/call", token, tool, arguments=arguments)
    answer = httpx.post(f"{host.url}/mcp", **asked).json()
    return str(answer["code"] if "code" in answer else answer["error"]["data"]["code"])


def one_old_message(host: RunningHost, token: str, tool: str, arguments: Any) -> str:
    """In a session of the old era, where the token may open one."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S) as client:
        opened = client.post("/mcp", json=mcp_clients.INITIALIZE)
        client.headers.update({"mcp-session-id": opened.headers.get("mcp-session-id", "none")})
        if opened.status_code == 200:
            client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        lines = client.post("/mcp", json=asked).text.splitlines()
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith(("{", "data: {"))][-1]
    return str(told["code"] if "code" in told else told["error"]["data"]["code"])


def in_python_with(host: RunningHost, tool: str, arguments: Any) -> str:
    return str(asyncio.run(host.registry.invoke_agent_tool(tool, arguments))["code"])


def on_dash_with(host: RunningHost, tool: str, arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        host.dash.tools[tool](**arguments)
    return str(caught.value.code)


Misfit = tuple[str, str, Callable[[RunningHost, str], str]]
"""The door's word, the code, and the call: it is given a token, and gives the code that it was told."""

BAD_NAME = "no name"

MISFITS: dict[str, Misfit] = {
    "a body that is no JSON": ("http", "malformed", lambda host, token: one_post(host, token, "gated.good", b"{")),
    "a body that is no object": ("http", "invalid", lambda host, token: one_post(host, token, "gated.good", b"[1]")),
    "a name that is none": ("http", "invalid", lambda host, token: one_post(host, token, BAD_NAME)),
    "a frame whose arguments are no object": (
        "ws", "invalid", lambda host, token: one_frame(host, token, {"tool": "gated.good", "arguments": [1]}),
    ),
    "a frame whose name is none": ("ws", "invalid", lambda host, token: one_frame(host, token, {"tool": BAD_NAME})),
    "a message whose arguments are no object": (
        "mcp", "invalid", lambda host, token: one_message(host, token, "gated.good", [1]),
    ),
    "an old message whose arguments are no object": (
        "mcp", "invalid", lambda host, token: one_old_message(host, token, "gated.good", [1]),
    ),
    "a message whose name is none": ("mcp", "invalid", lambda host, token: one_message(host, token, BAD_NAME, {})),
    "Python's arguments that are no JSON": (
        "python", "invalid", lambda host, _token: in_python_with(host, "gated.good", {"text": object()}),
    ),
    "Python's name that is none": ("python", "not_found", lambda host, _token: in_python_with(host, BAD_NAME, {})),
    "Python's arguments that are no object": (
        "python", "invalid", lambda host, _token: in_python_with(host, "gated.good", [1]),
    ),
    "arguments on dash that are no JSON": (
        "repl", "invalid", lambda host, _token: on_dash_with(host, "gated.good", {"text": object()}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_call_that_cannot_even_be_read_is_recorded_under_the_name_that_it_gave(host: RunningHost, name: str) -> None:
    door, code, call = MISFITS[name]
    after = latest(host)
    assert call(host, host.token) == code
    (record,) = news(host, after, 1)
    assert (record["door"], record["principal"], record["code"], record["outcome"], record["decision"]) == (
        door, "owner", code, "refused", None,
    )  # fmt: skip
    assert record["tool"] == (BAD_NAME if "name" in name else "gated.good")


@pytest.mark.parametrize("name", ["http", "ws", "mcp", "mcp, the old era"])
@pytest.mark.parametrize("tool", ["gated.good", "gated.nothing"])
def test_who_may_not_call_is_denied_and_recorded_and_not_told_what_there_is(
    host: RunningHost, name: str, tool: str
) -> None:
    calls: dict[str, Callable[[str], str]] = {
        "http": lambda token: one_post(host, token, tool),
        "ws": lambda token: one_frame(host, token, {"tool": tool}),
        "mcp": lambda token: one_message(host, token, tool, {}),
        "mcp, the old era": lambda token: one_old_message(host, token, tool, {}),
    }
    who = f"who-{name[:3]}-{len(name)}-{tool[6:]}"
    made = host.http.post("/api/host/tokens", json={"name": who, "scopes": ["approve"]}).raise_for_status().json()
    after = latest(host)
    assert calls[name](made["token"]) == "denied"
    (record,) = news(host, after, 1)
    assert (record["door"], record["principal"], record["tool"]) == (name.split(",")[0], who, tool)
    assert (record["decision"], record["reason"], record["code"]) == ("denied", "scope", "denied")
