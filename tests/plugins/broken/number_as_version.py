from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="number-as-version", name="Version", version=1)

    def setup(self, host: PluginHost) -> None:
        pass
