"""An MCP server of others' making, as tests mount it: standard streams, or HTTP when it is given a port."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import CallToolResult, ImageContent, ToolAnnotations

server = MCPServer("outside", version="7.1")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no good")


@server.tool()
async def count(ctx: Context) -> str:
    """Say how far it is."""
    for number in range(3):
        await ctx.report_progress(number, 3, f"at {number}")
    return "counted"


@server.tool()
async def climb(ctx: Context) -> str:
    """Say how far it is, not knowing how far it goes."""
    for number in range(3):
        await ctx.report_progress(number, message=f"at {number}")
    return "climbed"


@server.tool()
def picture() -> list[ImageContent]:
    """Show a picture."""
    return [ImageContent(type="image", data="AAAA", mime_type="image/png")]


@server.tool()
def chart() -> CallToolResult:
    """Show a picture, and the numbers in it."""
    return CallToolResult(content=[*picture()], structured_content={"numbers": [1, 2]})


@server.tool(structured_output=True)
def portrait() -> list[ImageContent]:
    """Show a picture, having said what the result looks like."""
    return picture()


@server.tool()
def variables() -> list[str]:
    """Name the variables of its environment."""
    return sorted(os.environ)


@server.tool()
async def wait() -> str:
    """Wait for ever; says on the error stream how that went."""
    print("outside: waiting", file=sys.stderr, flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("outside: cancelled", file=sys.stderr, flush=True)
    return "never"


@server.tool()
async def grow(ctx: Context) -> str:
    """Offer one tool more, and say so."""
    server.add_tool(lambda: "new", name="grown", description="Be new.")
    await ctx.session.send_tool_list_changed()
    return "grown"


@server.tool()
def helpers() -> list[int]:
    """Start three processes: in its group, in a group of its own, and in a session of its own."""
    kinds: list[dict[str, Any]] = [{}, {"process_group": 0}, {"start_new_session": True}]
    return [subprocess.Popen(["sleep", "1000"], **kind).pid for kind in kinds]


@server.tool()
def shout(mebibytes: int) -> str:
    """Say a long message, which is one line."""
    return "x" * (mebibytes << 20)


@server.tool()
def leave() -> str:
    """End the server."""
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
