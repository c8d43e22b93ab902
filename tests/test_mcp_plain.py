"""A call over MCP in its plainest form is read by the host itself; the answer has the bytes of `rmcp`'s."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit import happened, made, wire
from mcp_clients import client, modern, run
from served import Served, write_plugin

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host

DENIED = "[permissions]\ndeny = ['forbidden']\n"
HEADERED = {"region": {"type": "string", "x-mcp-header": "Region"}}
TRACED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""What stands in a message that is not in its plainest form, and changes nothing."""

SAYS = """
def say() -> dict[str, int]:
    "Say."
    return {"said": 1}

def setup(host):
    host.add_agent_tool(say)
"""

began, cancelled = threading.Event(), threading.Event()


def setup(host: PluginHost) -> None:
    async def slow(args: dict[str, Any]) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def fails(args: dict[str, Any]) -> None:
        raise RuntimeError("no good")

    def is_given(args: dict[str, Any]) -> Any:
        # The order of members means nothing in JSON; `rmcp` does not keep it.
        return dict(sorted(args.items()))

    integers = {"type": "array", "items": {"type": "integer"}}
    image = {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}
    host.add_agent_tool(AgentTool("echo", "", is_given, {"text": {"type": "string"}, "more": {}}, ["text"]))
    host.add_agent_tool(AgentTool("text", "", lambda args: "hällo"))
    host.add_agent_tool(AgentTool("none", "", lambda args: None))
    host.add_agent_tool(AgentTool("wide", "", lambda args: 2**80))
    host.add_agent_tool(AgentTool("image", "", lambda args: image))
    host.add_agent_tool(AgentTool("numbers", "", lambda args: [1, 2], output_schema=integers))
    host.add_agent_tool(AgentTool("strings", "", lambda args: ["1"], output_schema=integers))
    host.add_agent_tool(AgentTool("fails", "", fails))
    host.add_agent_tool(AgentTool("write", "", is_given, side_effect=True))
    host.add_agent_tool(AgentTool("forbidden", "", is_given))
    host.add_agent_tool(AgentTool("headered", "", is_given, HEADERED))
    host.add_agent_tool(AgentTool("slow", "", slow))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    config = tmp_path_factory.mktemp("config") / "plugbay.toml"
    config.write_text(DENIED)
    limits = {"pending_time_s": 0.05}
    with running_host(made(setup), limits=limits, config=str(config)) as running:
        yield running


def answered(host: RunningHost, name: str, arguments: Any, capabilities: Any = None, **message: Any) -> Any:
    """Both answers to a call, without what is of this one call: as it is, and as a message that `rmcp` reads."""

    def ask(**meta: str) -> Any:
        request = modern("tools/call", host.token, name, arguments=arguments)
        request["json"].update(message)
        request["json"]["params"]["_meta"].update(meta)
        request["json"]["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities or {}
        answer = httpx.post(f"{host.url}/mcp", **request)
        headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
        known = re.sub(rb"approvals/[\w-]+|(?<=Id\":\")[\w-]+|(?<=State\":\")[\w-]+", b"ID", answer.content)
        headers.pop("content-length")
        return answer.status_code, headers, known

    return ask(), ask(traceparent=TRACED)


CALLS: list[tuple[str, Any]] = [
    ("echo", {"text": "hi"}),
    ("echo", {"text": "\u2028 \U0001f600 \\ \" \n", "more": [1.0, 1e300, None, {"a": {"b": []}}]}),
    ("echo", {"text": 1}),
    ("echo", {}),
    ("echo", {"text": "hi", "less": 1}),
    ("text", {}),
    ("none", {}),
    ("wide", {}),
    ("image", {}),
    ("numbers", {}),
    ("strings", {}),
    ("fails", {}),
    ("write", {}),
    ("forbidden", {}),
    ("nothing", {}),
    ("not a name", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_a_plain_call_is_answered_as_any_other(host: RunningHost, name: str, arguments: Any) -> None:
    plain, other = answered(host, name, arguments)
    assert plain == other
    assert plain[0] == 200


def test_what_rmcp_would_misread_is_passed_on_as_it_is_or_refused(host: RunningHost) -> None:
    arguments = {"more": {"$serde_json::private::RawValue": "{}"}, "text": "hi"}
    plain, other = (json.loads(body) for _, _, body in answered(host, "echo", arguments))
    assert plain["result"]["structuredContent"] == arguments
    assert "$serde_json::private::" in other["error"]["message"]


@pytest.mark.parametrize("id", [0, -3, 2**53, "a", "", 'é"'])
def test_the_answer_has_the_id_of_the_message(host: RunningHost, id: Any) -> None:
    plain, other = answered(host, "text", {}, id=id)
    assert plain == other
    assert json.loads(plain[2])["id"] == id


@pytest.mark.parametrize("elicitation", [{}, {"url": {}}, {"form": {}, "url": {}}])
def test_a_client_that_can_ask_a_person_is_told_to(host: RunningHost, elicitation: Any) -> None:
    plain, other = answered(host, "write", {}, {"elicitation": elicitation})
    assert plain == other
    asked = json.loads(plain[2])["result"]["resultType"] == "input_required"
    assert asked == ("url" in elicitation)


def test_a_tool_whose_arguments_stand_in_headers_is_called_with_them_alone(host: RunningHost) -> None:
    plain, other = answered(host, "headered", {"region": "north"})
    assert plain == other
    assert (plain[0], json.loads(plain[2])["error"]["code"]) == (400, -32020)
    request = modern("tools/call", host.token, "headered", arguments={"region": "north"})
    request["headers"]["Mcp-Param-Region"] = "north"
    result = httpx.post(f"{host.url}/mcp", **request).json()["result"]
    assert result["structuredContent"] == {"region": "north"}


@pytest.mark.parametrize(
    ("header", "value"),
    [("Mcp-Name", "text"), ("Mcp-Method", "tools/list"), ("MCP-Protocol-Version", "2025-11-25"), ("Mcp-Name", None)],
)
def test_headers_that_say_something_else_are_refused(host: RunningHost, header: str, value: str | None) -> None:
    request = modern("tools/call", host.token, "echo", arguments={"text": "hi"})
    del request["headers"][header]
    if value is not None:
        request["headers"][header] = value
    assert httpx.post(f"{host.url}/mcp", **request).status_code == 400


def test_both_ways_leave_the_same_record(host: RunningHost) -> None:
    text = "the same record"
    answered(host, "echo", {"text": text})
    records = host.http.get("/api/host/audit", params={"tool": "echo"}).raise_for_status().json()["records"]
    mine = [record for record in records if record["arguments"] == {"text": text}]
    for record in mine:
        for name in ("id", "call", "time", "duration_us"):
            del record[name]
    assert len(mine) == 2
    assert mine[0] == mine[1]
    assert mine[0]["door"] == "mcp"


def test_a_client_that_leaves_cancels_its_plain_call(host: RunningHost) -> None:
    began.clear()
    cancelled.clear()
    request = modern("tools/call", host.token, "slow", arguments={})
    body = json.dumps(request["json"])
    lines = [f"{name}: {value}" for name, value in request["headers"].items() if name != "Authorization"]
    with wire(host) as gone:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
        gone.ask("POST", "/mcp", *lines, body=body.encode())
        assert happened(began)
    assert happened(cancelled)


def test_the_usual_message_of_a_client_is_a_plain_one(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "says", SAYS)
    with Served(home, "--log-level", "debug", plugins=tmp_path / "plugins").ready() as served:

        async def work() -> None:
            async with client(served.url, served.token, "auto") as connected:
                assert (await connected.call_tool("say", {})).structured_content == {"said": 1}

        run(work)
        served.logged("a plain call of say")
