from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="exits-in-setup", name="Exits")

    def setup(self, host: PluginHost) -> None:
        raise SystemExit("enough")
