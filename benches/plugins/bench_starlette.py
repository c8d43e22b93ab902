"""The Starlette application of `apps/starlette_app.py` as a plugin."""

from apps.starlette_app import app
from plugbay import BackendPlugin, PluginHost, PluginManifest


class Mounted(BackendPlugin):
    """Offers the application."""

    manifest = PluginManifest(id="bench-starlette", name="Starlette", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer it below ``/api/plugins/bench-starlette``."""
        host.add_router(app)


PLUGIN = Mounted()
