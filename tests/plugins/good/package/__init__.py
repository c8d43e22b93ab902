"""A package with relative imports, one of them late."""

from plugbay import BackendPlugin, PluginHost, PluginManifest

from .inner import words


class Package(BackendPlugin):
    manifest = PluginManifest(id="package", name="Package")

    def setup(self, host: PluginHost) -> None:
        from .inner.numbers import double

        host.add_agent_tool(words.shout)
        host.add_agent_tool(double)


PLUGIN = Package()
