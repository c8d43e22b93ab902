from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="takes-a-tool", name="Takes a tool")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("mine", "", lambda args: None))
        host.add_agent_tool(AgentTool("greet", "", lambda args: None))
