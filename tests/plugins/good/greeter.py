"""A plugin class as PLUGIN, and a typed function as a tool."""

from plugbay import BackendPlugin, PluginHost, PluginManifest


def greet(name: str) -> str:
    """Greet somebody."""
    return f"hello {name}"


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="greeter", name="Greeter", version="1.2.3")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(greet)
