from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="host-channel", name="Channel of the host")

    def setup(self, host: PluginHost) -> None:
        host.add_ws_channel("system", lambda conn, message: None)
