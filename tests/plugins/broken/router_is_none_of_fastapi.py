from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="no-router", name="No router")

    def setup(self, host: PluginHost) -> None:
        host.add_router({"routes": []})
