from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="hides-tools", name="Hides tools")

    def setup(self, host: PluginHost) -> None:
        host.add_dash_facade("tools", dict)
