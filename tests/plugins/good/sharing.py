"""Routes at a prefix that is not the plugin's own."""

from fastapi import APIRouter

from plugbay import BackendPlugin, PluginHost, PluginManifest

router = APIRouter()


@router.get("/items/mine")
def mine() -> str:
    return "sharing"


class Sharing(BackendPlugin):
    manifest = PluginManifest(id="sharing", name="Sharing")

    def setup(self, host: PluginHost) -> None:
        host.add_router(router, prefix="shared")


PLUGIN = Sharing()
