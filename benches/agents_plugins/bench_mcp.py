"""The tools of `apps/mcp_servers.py` as a plugin."""

from apps.tools import further
from plugbay import BackendPlugin, PluginHost, PluginManifest


async def echo(text: str) -> dict[str, str]:
    """Say it again."""
    return {"text": text}


class Tools(BackendPlugin):
    """Offers the tools."""

    manifest = PluginManifest(id="bench-mcp", name="Tools", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer them."""
        for tool in (echo, *further()):
            host.add_agent_tool(tool)


PLUGIN = Tools()
