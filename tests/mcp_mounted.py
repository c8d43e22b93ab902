"""A host that mounts an outside MCP server, as tests use it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plugbay.testing import RunningHost, running_host

OUTSIDE = Path(__file__).parent / "outside.py"


@contextmanager
def mounting(**entry: Any) -> Iterator[RunningHost]:
    """A host with the outside server as `out`."""
    with running_host(mode="autonomous", mcp={"servers": {"out": entry}}) as host:
        yield host


def by_command(**more: Any) -> dict[str, Any]:
    """The server as a child process."""
    return {"command": sys.executable, "args": [str(OUTSIDE)], **more}


def call(host: RunningHost, tool: str, **arguments: Any) -> Any:
    """What a call gives: its result, or its code and message."""
    answer = host.http.post(f"/api/host/tools/{tool}", json=arguments).json()
    return answer["result"] if "result" in answer else (answer["code"], answer["detail"])
