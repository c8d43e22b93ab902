"""A router whose routes are nested, one of them a WebSocket."""

from fastapi import APIRouter, WebSocket

from plugbay import BackendPlugin, PluginHost, PluginManifest

router = APIRouter()
inner = APIRouter(prefix="/inner")


@router.get("")
def root() -> str:
    return "root"


@inner.get("/items/{id}")
async def item(id: int) -> int:
    return id


@inner.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


router.include_router(inner)


class Web(BackendPlugin):
    manifest = PluginManifest(id="web", name="Web")

    def setup(self, host: PluginHost) -> None:
        host.add_router(router)


PLUGIN = Web()
