"""The FastAPI router of `apps/items.py` as a plugin."""

from apps.items import router
from plugbay import BackendPlugin, PluginHost, PluginManifest


class Items(BackendPlugin):
    """Offers the router."""

    manifest = PluginManifest(id="bench", name="Items", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer it below ``/api/plugins/bench``."""
        host.add_router(router)


PLUGIN = Items()
