from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="greeter", name="Takes an id")

    def setup(self, host: PluginHost) -> None:
        pass
