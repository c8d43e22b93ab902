"""Channels: an echo for each kind of handler, and a topic that everybody hears."""

from typing import Any

from plugbay import BackendPlugin, PluginHost, PluginManifest


class Channels(BackendPlugin):
    """Offers the channels ``bench``, ``bench-sync`` and ``bench-fanout``."""

    manifest = PluginManifest(id="bench-channel", name="Channels", version="1.0.0")

    def setup(self, host: PluginHost) -> None:
        """Offer them."""

        async def echo(_conn: Any, message: dict[str, Any]) -> Any:
            return message["data"]

        def echo_sync(_conn: Any, message: dict[str, Any]) -> Any:
            return message["data"]

        async def fan_out(conn: Any, message: dict[str, Any]) -> None:
            if message["event"] == "subscribe":
                await conn.subscribe("bench-fanout/all")
            else:
                host.publish("bench-fanout/all", message["data"])

        host.add_ws_channel("bench", echo)
        host.add_ws_channel("bench-sync", echo_sync)
        host.add_ws_channel("bench-fanout", fan_out)


PLUGIN = Channels()
