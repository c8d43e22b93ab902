"""The smallest handlers behind the bridge: a bare ASGI application, and a tool of each kind."""

from apps.bare import app
from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


async def item(_args: dict[str, object]) -> dict[str, object]:
    """One item, from the event loop."""
    return {"id": 7}


def item_sync(_args: dict[str, object]) -> dict[str, object]:
    """One item, from a worker thread."""
    return {"id": 7}


class Bare(BackendPlugin):
    """Offers the application and the tools."""

    manifest = PluginManifest(id="bench-bare", name="Bare", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer them; the application below ``/api/plugins/bench-bare``."""
        host.add_router(app)
        host.add_agent_tool(AgentTool(name="bench.item", description="One item.", handler=item))
        host.add_agent_tool(AgentTool(name="bench.item_sync", description="One item.", handler=item_sync))


PLUGIN = Bare()
