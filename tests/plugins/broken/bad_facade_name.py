from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="bad-facade", name="Bad facade")

    def setup(self, host: PluginHost) -> None:
        host.add_dash_facade("_private", dict)
