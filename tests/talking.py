"""A plugin whose channels do what they are told, and clients that talk with them over the shared socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from plugbay import BackendPlugin, PluginHost, PluginManifest
from plugbay.testing import RunningHost

WAIT_S = 20.0
MAILBOX = 8


class Signals:
    """What tests and handlers tell each other."""

    def __init__(self) -> None:
        self.host: PluginHost | None = None
        self.renew()

    def renew(self) -> None:
        """Forget what was said."""
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.closed: list[str] = []
        self.all_closed = threading.Event()

    def note(self, what: str) -> None:
        self.closed.append(what)
        if len(self.closed) >= 3:
            self.all_closed.set()


signals = Signals()


async def echo(conn: Any, message: Any) -> Any:
    """Reply with the data."""
    return message.get("data")


def plain_echo(conn: Any, message: Any) -> Any:
    """Reply with the data, on a thread."""
    return message.get("data")


async def counting(conn: Any, message: Any) -> Any:
    """Count in the connection's state, leaving the loop in between."""
    before = conn.state.get("count", 0)
    await asyncio.sleep(0)
    conn.state["count"] = before + 1
    return {"count": conn.state["count"], "data": message.get("data")}


def plain_counting(conn: Any, message: Any) -> Any:
    """The same, on a thread."""
    conn.state["count"] = conn.state.get("count", 0) + 1
    return {"count": conn.state["count"], "data": message.get("data")}


async def waiting(conn: Any, message: Any) -> Any:
    """Wait until the test opens the gate."""
    signals.entered.release()
    await asyncio.to_thread(signals.gate.wait, WAIT_S)
    return message.get("data")


def plain_waiting(conn: Any, message: Any) -> Any:
    """The same, on a thread."""
    signals.entered.release()
    signals.gate.wait(WAIT_S)
    return message.get("data")


async def failing(conn: Any, message: Any) -> None:
    """Fail."""
    raise RuntimeError("no good")


def plain_failing(conn: Any, message: Any) -> None:
    """Fail, on a thread."""
    raise RuntimeError("no good")


def unsayable(conn: Any, message: Any) -> Any:
    """Return what JSON cannot hold."""
    return {"an object": object()}


async def acting(conn: Any, message: Any) -> Any:
    """Do what the event says."""
    data = message.get("data")
    match message["event"]:
        case "who":
            return {"id": conn.id, "name": conn.principal.name, "scopes": list(conn.principal.scopes)}
        case "message":
            return message
        case "subscribe":
            await conn.subscribe(data)
        case "unsubscribe":
            await conn.unsubscribe(data)
        case "publish":
            assert signals.host is not None
            signals.host.publish(*data)
        case "send":
            for one in data:
                await conn.send_json(one)
        case "send badly":
            await conn.send_json([data])
        case "flood":
            for _ in range(data):
                await conn.send_json({"channel": "acting", "data": "x" * 1000})
        case "close":
            await conn.close(*data)
        case "on_close":
            conn.on_close(lambda: signals.note(f"plain {conn.state['name']}"))
            conn.on_close(gone(conn))
            conn.on_close(fails)
            conn.on_close(lambda: signals.note("after a failure"))
            conn.state["name"] = data
    return None


def gone(conn: Any) -> Any:
    """A callback that is a coroutine function."""

    async def callback() -> None:
        await asyncio.sleep(0)
        signals.note(f"async {conn.state['name']}")

    return callback


def fails() -> None:
    """A callback that fails."""
    raise RuntimeError("no good")


HANDLERS = [
    echo,
    plain_echo,
    counting,
    plain_counting,
    waiting,
    plain_waiting,
    failing,
    plain_failing,
    unsayable,
    acting,
]


class Talks(BackendPlugin):
    manifest = PluginManifest("talks", "Talks")

    def setup(self, host: PluginHost) -> None:
        signals.host = host
        for handler in HANDLERS:
            host.add_ws_channel(handler.__name__, handler)


async def other_channel(conn: Any, message: Any) -> None:
    """Try to hear another plugin's topic."""
    await conn.subscribe(message["data"])


class Neighbour(BackendPlugin):
    manifest = PluginManifest("neighbour", "Neighbour")

    def setup(self, host: PluginHost) -> None:
        host.add_ws_channel("neighbour", other_channel)


class Client:
    """One open socket, with its hello heard."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.hello = self.hear()

    def say(self, channel: str, event: str | None = None, data: Any = None, ref: Any = None) -> None:
        """Send a frame, without the fields that are nothing."""
        fields = {"channel": channel, "event": event, "data": data, "ref": ref}
        self.socket.send(json.dumps({name: value for name, value in fields.items() if value is not None}))

    def hear(self) -> Any:
        """The next frame."""
        return json.loads(self.socket.recv(timeout=WAIT_S))

    def ask(self, channel: str, event: str | None = None, data: Any = None, ref: Any = 1) -> Any:
        """Send a frame with a ref, and give the next that carries the ref."""
        self.say(channel, event, data, ref)
        while (answer := self.hear()).get("ref") != ref:
            pass
        return answer

    def close_code(self) -> int | None:
        """Hear the socket out; the code that it was closed with."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.socket.recv(timeout=WAIT_S)
        return self.socket.close_code


@contextlib.contextmanager
def opened(host: RunningHost) -> Iterator[Client]:
    with host.websocket() as socket:
        yield Client(socket)
