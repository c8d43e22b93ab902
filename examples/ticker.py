"""A stream of server-sent events: GET /api/plugins/ticker?count=3&interval_s=0.5.

Try it with: curl -N -H "Authorization: Bearer $(cat …/token)" http://127.0.0.1:8000/api/plugins/ticker
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from plugbay import BackendPlugin, PluginHost, PluginManifest

router = APIRouter()


async def ticks(count: int, interval_s: float) -> AsyncIterator[str]:
    """One event a tick. When the client goes away, this is cancelled where it waits."""
    for number in range(1, count + 1):
        yield f"id: {number}\nevent: tick\ndata: {json.dumps({'number': number})}\n\n"
        if number < count:
            await asyncio.sleep(interval_s)


@router.get("")
async def stream(
    count: Annotated[int, Query(ge=1, le=1000)] = 10, interval_s: Annotated[float, Query(ge=0, le=60)] = 1.0
) -> StreamingResponse:
    """Stream ticks."""
    return StreamingResponse(
        ticks(count, interval_s), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


class Ticker(BackendPlugin):
    manifest = PluginManifest(id="ticker", name="Ticker", version="1.0.0", description="Ticks as server-sent events.")

    def setup(self, host: PluginHost) -> None:
        host.add_router(router)


PLUGIN = Ticker
