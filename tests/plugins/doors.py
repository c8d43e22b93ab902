"""Tools that end in each way that a call can end."""

import asyncio

from plugbay import AgentTool, BackendPlugin, PluginManifest


async def good(args):
    """Return what came."""
    return {"heard": args["text"], "error": "a word like any other"}


def failing(args):
    """Fail."""
    raise RuntimeError("no good")


async def slow(args):
    """Never return."""
    await asyncio.Event().wait()


def unsayable(args):
    """Return what JSON cannot hold."""
    return object()


TEXT = {"text": {"type": "string"}}


class Doors(BackendPlugin):
    manifest = PluginManifest("doors", "Doors")

    def setup(self, host):
        host.add_agent_tool(AgentTool("doors.good", "Good.", good, TEXT, ["text"], additional=False))
        host.add_agent_tool(AgentTool("doors.failing", "Failing.", failing))
        host.add_agent_tool(AgentTool("doors.slow", "Slow.", slow, timeout_s=0.1))
        host.add_agent_tool(AgentTool("doors.write", "Write.", good, TEXT, side_effect=True))
        host.add_agent_tool(AgentTool("doors.unsayable", "Unsayable.", unsayable))
        host.add_agent_tool(AgentTool("doors.broken", "Broken promise.", good, TEXT, output_schema={"type": "string"}))


PLUGIN = Doors()
