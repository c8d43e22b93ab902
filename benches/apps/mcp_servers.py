"""The echo tool on FastMCP and on the official SDK, and as many further tools as ``BENCH_TOOLS`` says."""

from typing import Any

from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

from apps.tools import further


def echo(text: str) -> dict[str, str]:
    """Say it again."""
    return {"text": text}


def filled(server: Any) -> Any:
    """The server with its tools."""
    for tool in (echo, *further()):
        server.tool()(tool)
    return server


fast = filled(FastMCP("bench")).http_app(json_response=True, stateless_http=True)
sdk = filled(MCPServer("bench")).streamable_http_app(json_response=True, stateless_http=True)
