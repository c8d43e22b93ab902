from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="twice", name="Twice")

    def setup(self, host: PluginHost) -> None:
        for _ in range(2):
            host.add_agent_tool(AgentTool("twice.tool", "", lambda args: None))
