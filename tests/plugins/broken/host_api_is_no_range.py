from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="no-range", name="No range", host_api="one")

    def setup(self, host: PluginHost) -> None:
        pass
