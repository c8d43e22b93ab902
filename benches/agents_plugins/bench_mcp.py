"""The tools of `apps/mcp_servers.py` as a plugin."""

import os
from collections.abc import Callable
from typing import Any

from plugbay import BackendPlugin, PluginHost, PluginManifest

COUNT = int(os.environ.get("BENCH_TOOLS", "0"))


async def echo(text: str) -> dict[str, str]:
    """Say it again."""
    return {"text": text}


def further(number: int) -> Callable[..., Any]:
    """A tool like others."""

    def tool(path: str, limit: int = 10, exact: bool = False) -> list[str]:
        """Look for something in a place, at most so often."""
        return [path]

    tool.__name__ = f"further_{number}"
    return tool


class Tools(BackendPlugin):
    """Offers the tools."""

    manifest = PluginManifest(id="bench-mcp", name="Tools", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer them."""
        for tool in (echo, *map(further, range(COUNT))):
            host.add_agent_tool(tool)


PLUGIN = Tools()
