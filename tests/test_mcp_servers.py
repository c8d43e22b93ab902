"""The tools of an outside MCP server, mounted with `[mcp.servers.NAME]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mcp_clients import client, run
from mcp_mounted import by_command, call, mounting

from plugbay.testing import RunningHost

NAMES = {
    "add",
    "chart",
    "climb",
    "count",
    "fail",
    "grow",
    "helpers",
    "leave",
    "picture",
    "portrait",
    "shout",
    "variables",
    "wait",
}


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with mounting(
        **by_command(
            trust_annotations=True,
            read_only=["var*", "raed*"],
            specifiers={"add": "{a}", "ad": "{a}"},
            env={"GIVEN": "yes"},
        )
    ) as running:
        yield running


def test_its_tools_are_tools_of_this_host(host: RunningHost) -> None:
    tools = {tool["name"]: tool for tool in host.http.get("/api/host/tools").json()["tools"]}
    assert set(tools) == {f"out.{name}" for name in NAMES}
    assert tools["out.add"]["plugin"] == "out"
    assert tools["out.add"]["parameters"]["required"] == ["a", "b"]
    # What it says of side effects counts only where the operator believes it, or says it.
    assert [name for name, tool in tools.items() if not tool["side_effect"]] == ["out.add", "out.variables"]
    assert tools["out.add"]["specifier_template"] == "{a}"
    (plugin,) = host.http.get("/api/host/plugins").json()["plugins"]
    assert (plugin["id"], plugin["name"], plugin["version"], plugin["kind"]) == ("out", "outside", "7.1", "mcp")


def test_what_is_said_of_tools_that_it_does_not_have_is_an_error(host: RunningHost) -> None:
    first, second = sorted(error.message for error in host.registry.errors)
    assert first.startswith(
        'read_only of [mcp.servers.out] names "raed*", and the server has no such tool: it has add, '
    )
    assert second.startswith('specifiers of [mcp.servers.out] names "ad"')


def test_a_call_answers_as_any_tool_does(host: RunningHost) -> None:
    assert call(host, "out.add", a=1, b=2) == {"result": 3}
    code, message = call(host, "out.add", a="x", b=2)
    assert code == "invalid"
    assert "/a" in message
    assert call(host, "out.fail")[0] == "upstream"


def test_it_gets_no_variable_of_the_host_but_those_it_needs(host: RunningHost, monkeypatch: Any) -> None:
    names = set(call(host, "out.variables")["result"])
    assert "GIVEN" in names
    assert not {name for name in names if name.startswith(("PLUGBAY", "PYTEST"))}


def test_pictures_and_progress_pass_through_to_mcp(host: RunningHost) -> None:
    said: list[Any] = []

    async def work() -> None:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            said.append((round(progress, 2), message))

        async with client(host.url, host.token, "auto") as connected:
            (picture,) = (await connected.call_tool("out.picture", {})).content
            assert (picture.type, picture.data) == ("image", "AAAA")
            await connected.call_tool("out.count", {}, progress_callback=heard)

    run(work)
    assert said == [(0.0, "at 0"), (0.33, "at 1"), (0.67, "at 2")]


def test_progress_without_a_total_passes_through_and_grows(host: RunningHost) -> None:
    said: list[Any] = []

    async def work() -> None:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            said.append((round(progress, 2), message))

        async with client(host.url, host.token, "auto") as connected:
            await connected.call_tool("out.climb", {}, progress_callback=heard)

    run(work)
    assert said == [(0.0, "at 0"), (0.5, "at 1"), (0.67, "at 2")]


def test_a_picture_stays_beside_structured_content_that_was_not_promised(host: RunningHost) -> None:
    async def work() -> None:
        async with client(host.url, host.token, "auto") as connected:
            chart = await connected.call_tool("out.chart", {})
            assert [block.type for block in chart.content] == ["image"]
            assert chart.structured_content == {"numbers": [1, 2]}
            portrait = await connected.call_tool("out.portrait", {})
            assert portrait.structured_content["result"][0]["data"] == "AAAA"

    run(work)
    assert set(call(host, "out.chart")) == {"content", "structuredContent"}
    # What a tool has promised to look like is its result, and nothing else.
    assert set(call(host, "out.portrait")) == {"result"}
