from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="too-new", name="Too new", host_api=">=2")

    def setup(self, host: PluginHost) -> None:
        pass
