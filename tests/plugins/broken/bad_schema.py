from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="bad-schema", name="Bad schema")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("bad.schema", "", lambda args: None, {"text": {"type": "strnig"}}))
