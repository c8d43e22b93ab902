from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="not-json", name="Not JSON")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("not.json", "", lambda args: None, {"text": {"default": {1, 2}}}))
