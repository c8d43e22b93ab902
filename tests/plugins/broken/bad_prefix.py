from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="bad-prefix", name="Bad prefix")

    def setup(self, host: PluginHost) -> None:
        host.add_router(lambda scope, receive, send: None, prefix="plugins/other")
