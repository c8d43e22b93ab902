"""What dash.ping is."""

import asyncio


class PingFacade:
    """Pings from the console: dash.ping.once(), dash.ping.soon()."""

    def __init__(self) -> None:
        self.count = 0

    def once(self) -> str:
        """Ping at once."""
        self.count += 1
        return "pong"

    async def soon(self) -> str:
        """Ping from the host's event loop; the console waits."""
        await asyncio.sleep(0)
        return self.once()
