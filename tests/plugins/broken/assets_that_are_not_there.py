from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="no-assets", name="No assets")

    def setup(self, host: PluginHost) -> None:
        host.add_assets("web")
