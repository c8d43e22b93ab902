from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="half-way", name="Half way")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("half.way", "Never seen.", lambda args: None))
        host.add_ws_channel("half-way", lambda conn, message: None)
        host.add_dash_facade("half_way", dict)
        raise ValueError("half way")
