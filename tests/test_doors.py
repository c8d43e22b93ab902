"""One answer at every door: the same calls over HTTP, the socket, Python, both kinds of `dash` and the command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw import WAIT_S, Socket

from plugbay import ToolError, connect
from plugbay.repl import Dash
from plugbay.testing import RunningHost, running_host

PLUGIN = Path(__file__).parent / "plugins" / "doors.py"

FAILED, MISUSED = 1, 2

CALLS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "good": ("doors.good", {"text": "hi"}, None),
    "a wrong argument": ("doors.good", {"text": 1}, "invalid"),
    "a missing argument": ("doors.good", {}, "invalid"),
    "one argument too many": ("doors.good", {"text": "hi", "more": 1}, "invalid"),
    "unknown": ("doors.nothing", {}, "not_found"),
    "failing": ("doors.failing", {}, "plugin"),
    "slow": ("doors.slow", {}, "timeout"),
    "denied": ("doors.write", {"text": "x"}, "denied"),
    "a result that is not JSON": ("doors.unsayable", {}, "plugin"),
    "a result that breaks its promise": ("doors.broken", {"text": "x"}, "plugin"),
}
"""Each call: the tool, the arguments, and the code that it ends with."""

RESULT = {"heard": "hi", "error": "a word like any other"}

Outcome = tuple[Any, str | None, str | None]
"""What a call gave: its result; or ``None``, its code and its message."""


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(PLUGIN, log_level="off", permissions={"deny": ["doors.write"]}) as host:
        assert host.registry.errors == []
        yield host


def over_http(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    answer = host.http.post(f"/api/host/tools/{tool}", json=arguments)
    body = answer.json()
    return (body["result"], None, None) if answer.status_code == 200 else (None, body["code"], body["detail"])


def over_the_socket(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    with Socket(host.url, host.token) as socket:
        assert socket.receive_json()["event"] == "hello"
        wish = {"tool": tool, "arguments": arguments}
        socket.send_json({"channel": "tools", "event": "call", "ref": "r", "data": wish})
        answer = socket.receive_json()
    assert (answer["channel"], answer["ref"]) == ("tools", "r")
    data = answer["data"]
    return (data["result"], None, None) if answer["event"] == "result" else (None, data["code"], data["message"])


def in_python(host: RunningHost, tool: str, arguments: dict[str, Any]) -> Outcome:
    answer = asyncio.run(host.registry.invoke_agent_tool(tool, arguments))
    return (None, answer["code"], answer["error"]) if "code" in answer else (answer, None, None)


def on_dash(dash: Dash, tool: str, arguments: dict[str, Any]) -> Outcome:
    try:
        return dash.tools[tool](**arguments), None, None
    except KeyError:
        # A name that is none is refused when it is looked up, as of every mapping.
        return None, "not_found", None
    except ToolError as error:
        return None, error.code, error.message


def on_dash_awaited(dash: Dash, tool: str, arguments: dict[str, Any]) -> Outcome:
    try:
        return asyncio.run(dash.tools[tool].call_async(**arguments)), None, None
    except KeyError:
        return None, "not_found", None
    except ToolError as error:
        return None, error.code, error.message


DOORS: dict[str, Callable[[RunningHost, str, dict[str, Any]], Outcome]] = {
    "HTTP": over_http,
    "the socket": over_the_socket,
    "Python": in_python,
    "dash": lambda host, tool, arguments: on_dash(host.dash, tool, arguments),
    "dash, awaited": lambda host, tool, arguments: on_dash_awaited(host.dash, tool, arguments),
    "dash of another process": lambda host, *call: on_dash(connect(host.url, host.token), *call),
    "dash of another process, awaited": lambda host, *call: on_dash_awaited(connect(host.url, host.token), *call),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_alike_at_every_door(host: RunningHost, name: str) -> None:
    tool, arguments, code = CALLS[name]
    outcomes = {door: ask(host, tool, arguments) for door, ask in DOORS.items()}
    messages = {message for _result, _code, message in outcomes.values() if message is not None}
    for door, (result, found, _message) in outcomes.items():
        assert found == code, door
        assert result == (RESULT if code is None else None), door
    assert len(messages) == (code is not None), messages


def command(tool: str, text: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`plugbay tool call`, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "plugbay", "tool", "call", tool, text, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("running", [True, False], ids=["a host that runs", "no host"])
def test_a_call_on_the_command_line_ends_with_its_exit_code(request: pytest.FixtureRequest, running: bool) -> None:
    if running:
        host: RunningHost = request.getfixturevalue("host")
        words, environment = ["--url", host.url], {"PLUGBAY_TOKEN": host.token}
    else:
        words, environment = [], {"PLUGINS_DIR": str(PLUGIN.parent)}
    calls = {name: command(tool, json.dumps(arguments), *words, **environment)
             for name, (tool, arguments, _code) in CALLS.items()}  # fmt: skip
    for name, process in calls.items():
        _tool, _arguments, code = CALLS[name]
        out, err = process.communicate(timeout=WAIT_S)
        if code is None:
            assert (process.returncode, json.loads(out)) == (0, RESULT), err
        else:
            assert process.returncode == (MISUSED if code in ("invalid", "not_found") else FAILED), (name, err)
            assert out == ""
            assert "plugbay: " in err and "Traceback" not in err, name


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "malformed"), (b"[]", "invalid"), (b"\xff", "malformed"), (b"1", "invalid")]
)
def test_a_body_that_is_no_object_of_arguments_is_refused_at_both_wires(
    host: RunningHost, body: bytes, code: str
) -> None:
    answer = host.http.post("/api/host/tools/doors.good", content=body)
    assert answer.json()["code"] == code
    if code == "invalid":
        assert over_the_socket(host, "doors.good", json.loads(body))[1] == code


def test_no_body_and_no_arguments_are_an_empty_object(host: RunningHost) -> None:
    assert host.http.post("/api/host/tools/doors.failing").json()["code"] == "plugin"
    with Socket(host.url, host.token) as socket:
        socket.receive()
        socket.send_json({"channel": "tools", "event": "call", "ref": 1, "data": {"tool": "doors.failing"}})
        assert socket.receive_json()["data"]["code"] == "plugin"
