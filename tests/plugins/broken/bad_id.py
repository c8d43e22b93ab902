from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="Not Good", name="Bad id")

    def setup(self, host: PluginHost) -> None:
        pass
