"""What is judged is what runs: no spelling of the arguments shows the gate one value and the tool another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import anyio
import httpx
import pytest
from kit import PATIENCE_S, made
from mcp_clients import modern

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host

RULES = "[permissions]\nallow = ['remove(/safe)']\n"
EVERYTHING = "/"

NAMES = ("$serde_json::private::RawValue", "\\u0024serde_json::private::RawValue", "$serde_json::private::Number")
"""Members that a JSON library keeps for itself, in both spellings."""

removed: list[Any] = []


def setup(host: PluginHost) -> None:
    def remove(args: dict[str, Any]) -> str:
        path = args.get("path", EVERYTHING)
        removed.append(path)
        return str(path)

    path = {"path": {"type": "string"}}
    host.add_agent_tool(AgentTool("remove", "", remove, path, ["path"], side_effect=True, specifier_template="{path}"))
    host.add_agent_tool(AgentTool("deep", "", lambda args: reduce(lambda inner, _: [inner], range(130), [])))
    # A result that says one thing to who checks it and another to who reads it.
    promised = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    host.add_agent_tool(AgentTool("says", "", lambda args: {NAMES[0]: '{"a":1}'}, output_schema=promised))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    config = tmp_path_factory.mktemp("rules") / "plugbay.toml"
    config.write_text(RULES)
    limits = {"approval_time_s": 0.05, "pending_time_s": 0.05}
    with running_host(made(setup), config=str(config), limits=limits, log_level="off") as host:
        yield host


def over_http(host: RunningHost, text: str) -> str:
    headers = {"Content-Type": "application/json"}
    return host.http.post("/api/host/tools/remove", content=text, headers=headers).text


def over_ws(host: RunningHost, text: str) -> str:
    with host.websocket() as socket:
        socket.recv(PATIENCE_S)
        socket.send(f'{{"channel":"tools","event":"call","ref":1,"data":{{"tool":"remove","arguments":{text}}}}}')
        while True:
            frame = str(socket.recv(PATIENCE_S))
            if json.loads(frame)["event"] != "progress":
                return frame


def over_mcp(host: RunningHost, text: str, meta: str = "") -> str:
    request = modern("tools/call", host.token, "remove", arguments={})
    message = json.dumps(request.pop("json")).replace('"arguments": {}', f'"arguments": {text}')
    message = message.replace('"_meta": {', f'"_meta": {{{meta}')
    headers = request.pop("headers") | {"Content-Type": "application/json"}
    return httpx.post(f"{host.url}/mcp", content=message, headers=headers, **request).text


def over_rmcp(host: RunningHost, text: str) -> str:
    return over_mcp(host, text, '"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ')


def in_python(host: RunningHost, text: str) -> str:
    return str(anyio.run(host.registry.invoke_agent_tool, "remove", json.loads(text)))


DOORS = [over_http, over_ws, over_mcp, over_rmcp, in_python]


@pytest.mark.parametrize("door", DOORS, ids=[door.__name__ for door in DOORS])
@pytest.mark.parametrize("name", NAMES)
def test_a_tool_gets_no_other_arguments_than_the_gate_has_seen(
    host: RunningHost, door: Callable[[RunningHost, str], str], name: str
) -> None:
    removed.clear()
    inner = json.dumps(json.dumps({"path": "/safe"}))
    for text in (f'{{"{name}":{inner}}}', f'{{"path":{{"{name}":"\\"/safe\\""}}}}'):
        door(host, text)
    assert set(removed) <= {"/safe"}
    removed.clear()
    assert "/safe" in door(host, '{"path":"/safe"}')
    assert removed == ["/safe"]


def test_what_rmcp_would_read_as_another_value_is_refused_and_recorded(host: RunningHost) -> None:
    answer = json.loads(over_rmcp(host, f'{{"path": {{"{NAMES[1]}": "1"}}}}'))
    assert "$serde_json::private::" in answer["error"]["message"]
    assert answer["error"]["data"] == {"code": "invalid"}
    (record,) = host.http.get("/api/host/audit?limit=1").json()["records"]
    found = {name: record[name] for name in ("door", "tool", "outcome", "code")}
    assert found == {"door": "mcp", "tool": "remove", "outcome": "refused", "code": "invalid"}


def levels(value: Any) -> int:
    """How many levels a JSON value has."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(levels, inner), default=0)


@pytest.mark.parametrize("door", [over_http, over_ws, over_mcp, over_rmcp])
def test_arguments_of_more_levels_than_all_readers_take_reach_no_tool_and_no_record(
    host: RunningHost, door: Callable[[RunningHost, str], str]
) -> None:
    removed.clear()
    nested = "[]"
    for _ in range(3):
        nested = "[" * 60 + json.dumps({NAMES[0]: nested}) + "]" * 60
    for text in (f'{{"path":"/safe","x":{nested}}}', f'{{"path":"/safe","x":{"[" * 130}{"]" * 130}}}'):
        door(host, text)
    (record,) = host.http.get("/api/host/audit?limit=1").json()["records"]
    assert levels(record) < 130
    assert set(removed) <= {"/safe"}


def test_a_result_of_more_levels_than_all_readers_take_is_its_tools_failure(host: RunningHost) -> None:
    answer = host.http.post("/api/host/tools/deep")
    assert answer.json()["code"] == "plugin"
    assert "127 levels" in answer.json()["detail"]


def test_a_result_is_what_was_checked(host: RunningHost) -> None:
    answer = host.http.post("/api/host/tools/says")
    assert answer.json()["code"] == "plugin"
