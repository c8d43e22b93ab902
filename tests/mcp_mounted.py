"""A host that mounts an outside MCP server, as tests use it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from kit import PATIENCE_S

from plugbay.testing import RunningHost, running_host

OUTSIDE = Path(__file__).parent / "outside.py"


@contextmanager
def mounting(**entry: Any) -> Iterator[RunningHost]:
    """A host with the outside server as `out`, once that was tried."""
    with running_host(mode="autonomous", mcp={"servers": {"out": entry}}) as host:
        until(lambda: names(host.http) or host.registry.errors)
        yield host


def until(happened: Callable[[], Any]) -> None:
    """Ask until it is so: the start of a host waits but a little for servers of others."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "it did not come to pass"


def names(http: httpx.Client) -> set[str]:
    """The names of the outside server's tools."""
    tools = http.get("/api/host/tools").raise_for_status().json()["tools"]
    return {tool["name"] for tool in tools if tool["plugin"] == "out"}


def by_command(**more: Any) -> dict[str, Any]:
    """The server as a child process."""
    return {"command": sys.executable, "args": [str(OUTSIDE)], **more}


def call(host: RunningHost, tool: str, **arguments: Any) -> Any:
    """What a call gives: its result, or its code and message."""
    answer = host.http.post(f"/api/host/tools/{tool}", json=arguments).json()
    return answer["result"] if "result" in answer else (answer["code"], answer["detail"])
