from plugbay import BackendPlugin, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="async-setup", name="Async setup")

    async def setup(self, host):
        pass
