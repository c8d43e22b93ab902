"""Tools for the table of calls that goes through every door."""

import asyncio
import threading

from plugbay import AgentTool, BackendPlugin, PluginManifest

began = threading.Semaphore(0)
runs = []


def noted(args):
    """Note that it ran."""
    runs.append(args["text"])
    return {"heard": args["text"]}


def failing(args):
    """Fail."""
    raise RuntimeError("no good")


async def slow(args):
    """Never return."""
    await asyncio.Event().wait()


async def stuck(args):
    """Say that it began, and never return."""
    began.release()
    await asyncio.Event().wait()


def large(args):
    """Return more than is handed on."""
    return "x" * 5000


TEXT = {"text": {"type": "string"}, "pin": {"type": "integer", "writeOnly": True}}


class Gated(BackendPlugin):
    manifest = PluginManifest("gated", "Gated", "1.2.3")

    def setup(self, host):
        def add(name, handler, **more):
            host.add_agent_tool(AgentTool(f"gated.{name}", "A tool.", handler, TEXT, ["text"], **more))

        add("good", noted)
        add("write", noted, side_effect=True, specifier_template="{text}")
        add("asked", noted, side_effect=True, specifier_template="{text}")
        add("denied", noted, side_effect=True, specifier_template="{text}")
        add("failing", failing)
        add("slow", slow, timeout_s=0.2)
        add("stuck", stuck)
        add("large", large)
        add("single", stuck, max_concurrency=1)


PLUGIN = Gated()
