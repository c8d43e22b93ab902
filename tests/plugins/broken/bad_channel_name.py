from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="bad-channel", name="Bad channel")

    def setup(self, host: PluginHost) -> None:
        host.add_ws_channel("Loud Channel", lambda conn, message: None)
