"""Large messages on `/mcp`: what one of them costs, and whom it holds up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit import made
from mcp_clients import modern
from recorded import latest, news
from served import Served

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host

LIMIT_BYTES = 300_000


def setup(host: PluginHost) -> None:
    host.add_agent_tool(AgentTool("counts", "", lambda args: len(args["a"])))


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(made(setup), log_level="off", limits={"mcp_body_bytes": LIMIT_BYTES}) as running:
        yield running


def request(token: str, tool: str, arguments: bytes, is_plain: bool = False) -> dict[str, Any]:
    """A call with arguments of so many bytes; one that is not plain names its progress."""
    asked = modern("tools/call", token, tool, arguments={})
    meta = asked["json"]["params"]["_meta"]
    if not is_plain:
        meta["progressToken"] = "t"
    body = json.dumps(asked.pop("json")).encode().replace(b'"arguments": {}', b'"arguments": ' + arguments)
    return {**asked, "content": body, "headers": {**asked["headers"], "Content-Type": "application/json"}}


def zeros(size: int) -> bytes:
    """An object of so many bytes, and of as many parts as fit."""
    return b'{"a":[' + b"0," * ((size - 10) // 2) + b"0]}"


def test_a_message_that_is_too_large_to_be_taken_apart_is_refused_and_recorded(host: RunningHost) -> None:
    after = latest(host)
    answer = httpx.post(f"{host.url}/mcp", **request(host.token, "counts", zeros(LIMIT_BYTES)))
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert (error["code"], error["data"]["code"]) == (-32600, "too_large")
    assert "mcp_body_bytes" in error["message"] and str(LIMIT_BYTES) in error["message"]
    (record,) = news(host, after, 1)
    assert (record["door"], record["tool"], record["code"]) == ("mcp", "counts", "too_large")


@pytest.mark.parametrize(("size", "is_plain"), [(LIMIT_BYTES - 10_000, False), (4 * LIMIT_BYTES, True)])
def test_a_message_that_is_large_and_no_larger_is_answered(host: RunningHost, size: int, is_plain: bool) -> None:
    """A plain call may be as large as any request."""
    asked = request(host.token, "counts", zeros(size), is_plain)
    assert len(asked["content"]) > 256 << 10
    answer = httpx.post(f"{host.url}/mcp", **asked)
    assert answer.status_code == 200
    assert answer.json()["result"]["structuredContent"] == asked["content"].count(b"0,") + 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"[" * 300_000, 400, -32700), (b'{"jsonrpc":"2.0","id":1,"a":"' + b"x" * 290_000 + b'"}', 400, -32600)],
)
def test_what_is_wrong_with_a_large_message_is_told_as_of_a_small_one(
    host: RunningHost, body: bytes, status: int, code: int
) -> None:
    headers = {
        "Authorization": f"Bearer {host.token}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    answer = httpx.post(f"{host.url}/mcp", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def peak(host: Served) -> int:
    """The most memory that a host has had, in KiB."""
    status = Path(f"/proc/{host.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_many_large_messages_take_little_more_memory_than_one(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "--workers", "8").ready() as host, ThreadPoolExecutor(8) as threads:
        asked = request(host.token, "nothing", zeros(3 << 20))

        def ask(_number: int) -> int:
            return int(httpx.post(f"{host.url}/mcp", **asked).json()["error"]["code"])

        before = peak(host)
        assert ask(0) == -32602
        one = peak(host) - before
        assert list(threads.map(ask, range(8))) == [-32602] * 8
        assert peak(host) - before < 2.5 * one


def test_a_large_message_holds_up_nobody_else(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "--workers", "1").ready() as host, ThreadPoolExecutor(1) as threads:
        asked = request(host.token, "nothing", zeros(3 << 20))

        def ask() -> float:
            begun = time.monotonic()
            assert httpx.post(f"{host.url}/mcp", **asked).json()["error"]["code"] == -32602
            return time.monotonic() - begun

        with host.client() as http:
            waited, asking = [], threads.submit(ask)
            while not asking.done():
                begun = time.monotonic()
                assert http.get("/healthz").status_code == 200
                waited.append(time.monotonic() - begun)
        # Read by the one worker, it would take nearly all of that time from whoever asks meanwhile.
        assert max(waited) < asking.result() / 2
