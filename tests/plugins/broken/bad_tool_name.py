from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="bad-tool-name", name="Bad tool name")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("read a file", "", lambda args: None))
