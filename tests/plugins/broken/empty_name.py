from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="empty-name", name=" ")

    def setup(self, host: PluginHost) -> None:
        pass
