"""Clients of `/mcp` that ask and do not read, and uris that are too long: the host goes on, and so does its record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from kit import Wire, made
from mcp_clients import modern
from recorded import latest, news

from plugbay import AgentTool, PluginHost, ToolContext
from plugbay.testing import RunningHost, running_host


def setup(host: PluginHost) -> None:
    async def floods(args: dict[str, Any], ctx: ToolContext) -> None:
        number = 0
        while True:
            number += 1
            await ctx.progress(1 - 1 / number, "x" * 10_000)
            await asyncio.sleep(0)

    host.add_agent_tool(AgentTool("floods", "", floods, side_effect=True, timeout_s=1.0))
    host.add_resource("notes://large", lambda: "x" * 200_000, name="large", description="")
    host.add_resource("notes://{id}/meta", lambda id: id, name="meta", description="")


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(made(setup), mode="autonomous", log_level="off", limits={"result_bytes": 100_000}) as host:
        assert host.registry.errors == []
        yield host


def test_a_client_that_does_not_read_holds_up_neither_a_calls_limit_nor_its_record(host: RunningHost) -> None:
    request = modern("tools/call", host.token, "floods", arguments={})
    request["json"]["params"]["_meta"]["progressToken"] = "t"
    body = json.dumps(request["json"]).encode()
    headers = [f"{name}: {value}" for name, value in request["headers"].items() if name != "Authorization"]
    headers += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    before = latest(host)
    with Wire(host.url, host.token, receive_bytes=4096) as wire:
        wire.ask("POST", "/mcp", *headers, body=body)
        (record,) = news(host, before, 1)
        assert (record["outcome"], record["code"]) == ("failed", "timeout")
        assert record["duration_us"] < 10_000_000


def test_a_uri_longer_than_any_and_a_resource_that_is_too_large_are_refused(host: RunningHost) -> None:
    long = f"notes://{'a' * 10_000}"
    for uri, code in ((long, "too_large"), ("notes://large", "too_large"), ("notes://a/meta", None)):
        answer = httpx.post(f"{host.url}/mcp", **modern("resources/read", host.token, uri, uri=uri)).json()
        assert answer.get("error", {}).get("data", {}).get("code") == code, answer
