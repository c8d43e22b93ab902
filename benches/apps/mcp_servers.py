"""The echo tool on FastMCP and on the official SDK, and as many further tools as ``BENCH_TOOLS`` says."""

import os
from collections.abc import Callable
from typing import Any

from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

COUNT = int(os.environ.get("BENCH_TOOLS", "0"))


def echo(text: str) -> dict[str, str]:
    """Say it again."""
    return {"text": text}


def further(number: int) -> Callable[..., Any]:
    """A tool like others."""

    def tool(path: str, limit: int = 10, exact: bool = False) -> list[str]:
        """Look for something in a place, at most so often."""
        return [path]

    tool.__name__ = f"further_{number}"
    return tool


def filled(server: Any) -> Any:
    """The server with its tools."""
    for tool in (echo, *map(further, range(COUNT))):
        server.tool()(tool)
    return server


fast = filled(FastMCP("bench")).http_app(json_response=True, stateless_http=True)
sdk = filled(MCPServer("bench")).streamable_http_app(json_response=True, stateless_http=True)
