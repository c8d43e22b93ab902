"""The same routers twice: under FastAPI's own application on uvicorn, and as plugins of a host; asked the same bytes.

Both serve on real sockets. Requests are pipelined on a few connections that are kept alive, so that thousands of them
take seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import pkgutil
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import tutorial
import uvicorn
from fastapi import FastAPI
from kit import made

from plugbay.testing import RunningHost, running_host

HOST = "twins.test"
"""The name that both are asked by: it stands in redirects."""

IGNORED = {
    "connection": "whether a connection is kept belongs to the server, not to the application",
    "transfer-encoding": "a body in pieces counts as one with its length: how it is cut belongs to the server",
    "date": "the servers' own clocks",
    "x-request-id": "the host names each request for its log",
}
"""The headers that are not compared, and why. All others are, with their values in their order."""

LANES, DEPTH = 6, 6
"""How many connections ask at once, and how many requests are under way on each."""

LARGE_BYTES = 16 << 10
"""A request of this size goes alone: nobody then waits for a reader who waits to be read."""


def topics() -> list[str]:
    """The names of the tutorial's modules."""
    return sorted(module.name for module in pkgutil.iter_modules(tutorial.__path__))


def topic(name: str) -> ModuleType:
    """A module of the tutorial."""
    return importlib.import_module(f"tutorial.{name}")


def place_of(name: str) -> str:
    """Where a topic stands, on both sides."""
    return f"/api/plugins/{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, byte for byte, without ``Host`` and ``Content-Length``, which are added."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    chunked: bool = False
    """Whether the body comes in pieces that say their lengths."""

    def wire(self) -> bytes:
        """Its bytes."""
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1", b"host: " + HOST.encode()]
        lines += [name + b": " + value for name, value in self.headers]
        body = self.body
        if self.chunked:
            lines.append(b"transfer-encoding: chunked")
            pieces = [piece for piece in (body[:5], body[5:]) if piece]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        elif body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(b"content-length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def __str__(self) -> str:
        body = self.body if len(self.body) < 400 else self.body[:300] + b" ... %d bytes" % len(self.body)
        target = self.target if len(self.target) < 400 else self.target[:300] + b" ... %d bytes" % len(self.target)
        how = " in chunks" if self.chunked else ""
        return f"{self.method} {target!r} {[f'{n.decode()}: {v!r}' for n, v in self.headers]} {body!r}{how}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: what is compared of it."""

    status: int
    headers: tuple[tuple[str, bytes], ...]
    """Names in the order in which they first appear, but for the length, which servers put where they like; the values
    of one name in their order."""
    body: bytes

    def __str__(self) -> str:
        body = self.body if len(self.body) < 1500 else self.body[:1200] + b" ... %d bytes" % len(self.body)
        return f"{self.status} {[f'{n}: {v!r}' for n, v in self.headers]}\n      {body!r}"


class Lane:
    """A connection that is kept alive as long as the other side wants."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._read = b""

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def send(self, asks: Sequence[Ask]) -> None:
        """Send requests, one behind the other."""
        data = b"".join(ask.wire() for ask in asks)
        for attempt in (0, 1):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(data)
                return
            except ConnectionError:
                # The other side had closed an idle connection, or answered before the whole body had come.
                if attempt or (len(asks) == 1 and self._readable()):
                    return
                self.close()

    def receive(self, asks: Sequence[Ask]) -> Iterator[Answer]:
        """The answers to what was sent; what stood behind an answer that ended the connection is asked again."""
        for number, ask in enumerate(asks):
            answer, over = self._answer(ask)
            if answer.status == 0:
                # The end of the answer before; or of one in an earlier batch.
                yield from self._again(asks[number:])
                return
            yield answer
            if over:
                yield from self._again(asks[number + 1 :])
                return

    def _again(self, asks: Sequence[Ask]) -> Iterator[Answer]:
        """Ask one by one, each on a connection of its own."""
        for late in asks:
            self.close()
            self.send([late])
            yield self._answer(late)[0]
        self.close()

    def _readable(self) -> bool:
        assert self._socket is not None
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _answer(self, ask: Ask) -> tuple[Answer, bool]:
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return Answer(0, (), b"the connection ended: " + self._read), True
        head, self._read = self._read[:end], self._read[end + 4 :]
        first, *lines = head.split(b"\r\n")
        status = int(first[9:12])
        pairs = [(name.lower().decode("latin-1"), value) for name, value in (line.split(b": ", 1) for line in lines)]
        found = dict(pairs)
        over = found.get("connection", b"").lower() == b"close"
        if ask.method == "HEAD" or status in (204, 304):
            body = b""
        elif found.get("transfer-encoding") == b"chunked":
            body = self._chunks()
        elif "content-length" in found:
            body = self._exactly(int(found["content-length"]))
        else:
            body = self._exactly(None)
        if found.get("transfer-encoding") == b"chunked":
            pairs.append(("content-length", b"%d" % len(body)))
        order = ["content-length", *dict.fromkeys(name for name, _ in pairs if name not in IGNORED)]
        pairs = [(name, _undated(value) if name == "set-cookie" else value) for name, value in pairs]
        kept = sorted((pair for pair in pairs if pair[0] not in IGNORED), key=lambda pair: order.index(pair[0]))
        return Answer(status, tuple(kept), body), over

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16) if self._socket is not None else b""
        except ConnectionError:
            return False
        self._read += data
        return bool(data)

    def _exactly(self, count: int | None) -> bytes:
        while count is None or len(self._read) < count:
            if not self._more():
                break
        if count is None:
            count = len(self._read)
        found, self._read = self._read[:count], self._read[count:]
        return found

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self._read.find(b"\r\n")) < 0:
                if not self._more():
                    return body + b" (cut)"
            size, self._read = int(self._read[:end], 16), self._read[end + 2 :]
            body += self._exactly(size)
            self._exactly(2)
            if size == 0:
                return body


class Side:
    """One of the two servers."""

    def __init__(self, port: int) -> None:
        self._lanes = [Lane(port) for _ in range(LANES)]

    def close(self) -> None:
        """Close its connections."""
        for lane in self._lanes:
            lane.close()

    def send(self, asks: Sequence[Ask]) -> None:
        """Send a batch over all lanes."""
        for number, lane in enumerate(self._lanes):
            if mine := asks[number::LANES]:
                lane.send(mine)

    def receive(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers to the batch, in its order."""
        found: list[Answer | None] = [None] * len(asks)
        for number, lane in enumerate(self._lanes):
            for turn, answer in enumerate(lane.receive(asks[number::LANES])):
                found[number + turn * LANES] = answer
        return [answer for answer in found if answer is not None]


class Twins:
    """Both sides, up."""

    def __init__(self, host: RunningHost, reference: int) -> None:
        self.host = host
        self._sides = (Side(reference), Side(urlsplit(host.url).port or 0))

    def close(self) -> None:
        """Close the connections."""
        for side in self._sides:
            side.close()

    def answers(self, asks: Iterable[Ask]) -> Iterator[tuple[Ask, Answer, Answer]]:
        """Ask both; each request with FastAPI's answer and the host's."""
        for batch in _batches(asks):
            for side in self._sides:
                side.send(batch)
            reference, ours = (side.receive(batch) for side in self._sides)
            yield from zip(batch, reference, ours, strict=True)

    def differences(self, asks: Iterable[Ask]) -> Compared:
        """Ask both, and keep what differs."""
        compared = Compared()
        for ask, reference, ours in self.answers(asks):
            compared.count[reference.status] += 1
            if reference != ours:
                compared.different.append((ask, reference, ours))
        return compared


class Compared:
    """What a comparison found."""

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        """How many answers of each status FastAPI gave."""
        self.different: list[tuple[Ask, Answer, Answer]] = []

    def report(self, most: int = 8) -> str:
        """For people: the first differences, each with both answers."""
        total = sum(self.count.values())
        lines = [f"{len(self.different)} of {total} answers differ ({dict(sorted(self.count.items()))})"]
        for ask, reference, ours in self.different[:most]:
            lines += [f"  {ask}", f"    FastAPI: {reference}", f"    Plugbay: {ours}"]
        return "\n".join(lines)


def _undated(cookie: bytes) -> bytes:
    """A cookie; in place of a moment of this minute, which is the clock's and not the application's, the word now."""

    def told(found: re.Match[bytes]) -> bytes:
        moment = parsedate_to_datetime(found[2].decode("latin-1"))
        return found[1] + b"now" if abs(moment.timestamp() - time.time()) < 60 else found[0]

    return re.sub(rb"(?i)(;\s*expires=)(\w{3}, [^;]+ GMT)", told, cookie)


def _batches(asks: Iterable[Ask]) -> Iterator[list[Ask]]:
    batch: list[Ask] = []
    for ask in asks:
        if len(ask.body) + len(ask.target) > LARGE_BYTES:
            yield [ask]
            continue
        batch.append(ask)
        if len(batch) == LANES * DEPTH:
            yield batch
            batch = []
    if batch:
        yield batch


def reference_app(name: str) -> FastAPI:
    """A topic under FastAPI alone, at the path where the host has it."""
    module = topic(name)
    if hasattr(module, "app"):
        found: FastAPI = module.app
        return found
    app = FastAPI()
    app.include_router(module.router, prefix=place_of(name))
    return app


class Reference:
    """All topics as one ASGI application: each below its own path, as a FastAPI application of its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._apps = {place_of(name): reference_app(name) for name in names}
        self._mounted = {place_of(name) for name in names if hasattr(topic(name), "app")}
        self._states: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        place = "/".join(scope["path"].split("/")[:4])
        root = place if place in self._mounted else ""
        await self._apps[place]({**scope, "root_path": root, "state": dict(self._states[place])}, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await receive()
            for place, app in self._apps.items():
                state = await stack.enter_async_context(app.router.lifespan_context(app))
                self._states[place] = dict(state or {})
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


@contextlib.contextmanager
def _uvicorn(names: Sequence[str]) -> Iterator[int]:
    """The topics on uvicorn; its port."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        config = uvicorn.Config(
            Reference(names), loop="uvloop", http="httptools", lifespan="on", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=600,
            # Without it a pipelined request sees what the one before it has put into its context.
            reset_contextvars=True,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="reference")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def twins(*names: str, **settings: Any) -> Iterator[Twins]:
    """Both sides with these topics; the host with these settings."""
    plugins = []
    for name in names:
        module = topic(name)
        thing = getattr(module, "app", None) or module.router
        plugins.append(made(lambda host, thing=thing: host.add_router(thing), id=name.replace("_", "-")))
    settings = {"auth": "none", "allow_host": [HOST], "log_level": "off", **settings}
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(running_host(*plugins, **settings))
        assert host.registry.errors == []
        both = Twins(host, stack.enter_context(_uvicorn(names)))
        stack.callback(both.close)
        yield both
