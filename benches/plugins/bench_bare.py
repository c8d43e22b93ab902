"""The smallest handlers behind the bridge: bare functions, a bare ASGI application, and a tool of each kind."""

import asyncio
from typing import Any

from apps.bare import BODY, app
from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest

last: asyncio.Task[Any] | None = None


async def bare(request: object) -> bytes:
    """The body of every response, from a task of its own on the event loop, which it makes sure of."""
    global last
    task = asyncio.current_task()
    assert task is not None and task is not last, "each call has a task of its own"
    last = task
    return BODY


def bare_sync(request: object) -> bytes:
    """The body of every response, from a worker thread."""
    return BODY


async def item(args: dict[str, object]) -> dict[str, object]:
    """One item with its number, from the event loop."""
    return {"id": 7, **args}


def item_sync(args: dict[str, object]) -> dict[str, object]:
    """One item with its number, from a worker thread."""
    return {"id": 7, **args}


class Bare(BackendPlugin):
    """Offers the application and the tools."""

    manifest = PluginManifest(id="bench-bare", name="Bare", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer them; the application below ``/api/plugins/bench-bare``."""
        host.add_router(app)
        # What a compiled route will be; not part of what plugins are offered.
        host._draft.add_direct_mount("bench-bare-async", ["/item"], bare, True)
        host._draft.add_direct_mount("bench-bare-def", ["/item"], bare_sync, False)
        for name, handler in (("bench.item", item), ("bench.item_sync", item_sync)):
            host.add_agent_tool(
                AgentTool(
                    name=name,
                    description="Number an item.",
                    handler=handler,
                    parameters={
                        "name": {"type": "string"},
                        "price": {"type": "number"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    required=["name", "price", "tags"],
                )
            )


PLUGIN = Bare()
