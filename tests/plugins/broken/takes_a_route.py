from fastapi import APIRouter

from plugbay import BackendPlugin, PluginHost, PluginManifest

router = APIRouter()


@router.get("/items/{id}")
def item(id: str) -> str:
    return id


class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="takes-a-route", name="Takes a route")

    def setup(self, host: PluginHost) -> None:
        host.add_router(router, prefix="shared")
