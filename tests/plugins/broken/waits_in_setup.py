import threading

from plugbay import BackendPlugin, PluginHost, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="waits-in-setup", name="Waits")

    def setup(self, host: PluginHost) -> None:
        threading.Event().wait()
