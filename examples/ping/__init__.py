"""The reference plugin: one of everything that a plugin can offer.

Routes at /api/plugins/ping, the tools ping.echo and ping.countdown, the channel "ping", dash.ping, web files, an MCP
resource and a prompt, and hooks.
"""

import asyncio
from typing import Any

from fastapi import APIRouter

from plugbay import AgentTool, BackendPlugin, Connection, PluginHost, PluginManifest, ToolContext

from .facade import PingFacade

router = APIRouter()


@router.get("")
def ping() -> dict[str, bool]:
    """Answer at /api/plugins/ping itself."""
    return {"pong": True}


@router.get("/hello/{name}")
async def hello(name: str, excited: bool = False) -> dict[str, str]:
    """Greet somebody."""
    return {"greeting": f"Hello, {name}{'!' if excited else '.'}"}


async def countdown(start: int, ctx: ToolContext) -> list[int]:
    """Count down to zero, saying how far it is.

    Args:
        start: where to begin
    """
    numbers = list(range(start, -1, -1))
    for done, number in enumerate(numbers, 1):
        await ctx.progress(done / len(numbers), f"at {number}")
        await asyncio.sleep(0)
    return numbers


async def ping_channel(conn: Connection, message: dict[str, Any]) -> Any:
    """Reply to each message, and count those of each connection."""
    conn.state["count"] = conn.state.get("count", 0) + 1
    if message.get("event") == "follow":
        await conn.subscribe("ping/news")
    return {"pong": message.get("data"), "count": conn.state["count"]}


def about() -> str:
    """What the resource ping://about says."""
    return "This plugin answers every ping with a pong."


def greeting(name: str, language: str = "English") -> str:
    """Ask a model for a greeting.

    Args:
        name: whom to greet
        language: in which language
    """
    return f"Greet {name} warmly, in {language}, in one sentence."


class PingPlugin(BackendPlugin):
    manifest = PluginManifest(id="ping", name="Ping", version="1.0.0", description="One of everything.")

    def setup(self, host: PluginHost) -> None:
        def announce(args: dict[str, Any]) -> dict[str, bool]:
            host.publish("ping/news", {"text": args["text"]})
            return {"announced": True}

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
        host.add_agent_tool(AgentTool.from_function(countdown, name="ping.countdown"))
        host.add_agent_tool(
            AgentTool(
                name="ping.announce",
                description="Tell everybody who follows the news.",
                handler=announce,
                parameters={"text": {"type": "string", "minLength": 1}},
                required=["text"],
                output_schema={"type": "object", "properties": {"announced": {"const": True}}},
                side_effect=True,
                specifier_template="{text}",
            )
        )
        host.add_ws_channel("ping", ping_channel)
        host.add_dash_facade("ping", PingFacade)
        host.add_assets("web")
        host.add_resource("ping://about", about, name="About ping", mime_type="text/plain")
        host.add_prompt(greeting, name="ping.greeting")
        host.on_startup(lambda: host.log.info("ping is up"))
        host.on_shutdown(lambda: host.log.info("ping is down"))


PLUGIN = PingPlugin()
