from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="untyped-tool", name="Untyped tool")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(lambda *numbers: sum(numbers))
