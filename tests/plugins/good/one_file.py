"""One of everything in one file, as the guide for authors writes it."""

from fastapi import APIRouter

from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest

router = APIRouter()


@router.get("")  # mounts at /api/plugins/ping
def ping():
    return {"pong": True}


async def ping_channel(conn, message):
    return {"pong": message["data"]}


class PingFacade:
    def ping(self):
        return "pong"


class PingPlugin(BackendPlugin):
    manifest = PluginManifest(id="ping", name="Ping", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        host.add_router(router)
        host.add_agent_tool(
            AgentTool(
                name="ping.echo",
                description="Echo back the given text.",
                handler=lambda args: {"echo": args.get("text", "")},
                parameters={"text": {"type": "string", "description": "text to echo"}},
                required=["text"],
            )
        )
        host.add_ws_channel("ping", ping_channel)  # async (conn, message)
        host.add_dash_facade("ping", PingFacade)  # → dash.ping in the REPL
        host.on_startup(lambda: ...)  # lifespan hooks
        host.on_shutdown(lambda: ...)


PLUGIN = PingPlugin()
