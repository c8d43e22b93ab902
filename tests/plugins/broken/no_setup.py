from plugbay import BackendPlugin, PluginManifest


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="no-setup", name="No setup")
