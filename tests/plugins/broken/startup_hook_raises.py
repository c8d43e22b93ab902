from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="startup-raises", name="Startup raises")

    def setup(self, host: PluginHost) -> None:
        def wake_up() -> None:
            raise ConnectionError("nobody is there")

        host.add_agent_tool(AgentTool("startup.raises", "Never served.", lambda args: None))
        host.on_startup(wake_up)
