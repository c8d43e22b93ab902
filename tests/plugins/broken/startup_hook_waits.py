import threading

from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="startup-waits", name="Startup waits")

    def setup(self, host: PluginHost) -> None:
        host.on_startup(threading.Event().wait)
