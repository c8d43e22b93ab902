import asyncio

from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="startup-yields", name="Startup yields")

    def setup(self, host: PluginHost) -> None:
        async def for_ever() -> None:
            while True:
                await asyncio.sleep(0.001)

        host.on_startup(for_ever)
