"""What tests share: plugins made on the spot, a client that speaks raw bytes, and how long an event may take."""

from __future__ import annotations

import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from plugbay import BackendPlugin, PluginHost, PluginManifest
from plugbay.testing import RunningHost

Command = Callable[..., subprocess.CompletedProcess[str]]
"""Runs `plugbay` with these words and gives how it ended."""

PATIENCE_S = 30.0
"""How long a test waits for an event that must come; it never waits for time to pass."""


class Made(BackendPlugin):
    """A plugin from a function."""

    def __init__(self, id: str, setup: Callable[[PluginHost], Any]) -> None:
        self.manifest = PluginManifest(id=id, name=id)
        self._setup = setup

    def setup(self, host: PluginHost) -> None:
        self._setup(host)


def made(setup: Callable[[PluginHost], Any], id: str = "demo") -> Made:
    """A plugin whose ``setup`` is this function."""
    return Made(id, setup)


def mounted(app: Any, id: str = "demo") -> Made:
    """A plugin that mounts this router or app at its own prefix."""
    return Made(id, lambda host: host.add_router(app))


class Told:
    """What an app tells its test, in order; ``next`` waits for it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, word: Any) -> None:
        self._queue.put(word)

    def next(self) -> Any:
        """The next word. Fails when none comes."""
        return self._queue.get(timeout=PATIENCE_S)

    def nothing(self) -> bool:
        """Whether nothing more was told so far."""
        return self._queue.empty()


def happened(event: threading.Event) -> bool:
    """Whether an event comes to pass."""
    return event.wait(PATIENCE_S)


class Wire:
    """A connection to a host that speaks raw bytes."""

    def __init__(self, url: str, token: str, receive_bytes: int | None = None) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._token = token
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((parts.hostname, parts.port))
        self._read = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> Wire:
        """Send a request with these header lines."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}", f"authorization: Bearer {self._token}", *headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one is its end."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """The status and the headers of the next response."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split()[1]), [(name.lower(), value) for name, value in pairs]

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        while len(self._read) < count:
            self._more()
        found, self._read = self._read[:count], self._read[count:]
        return found

    def next_chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        while b"\r\n" not in self._read:
            self._more()
        size, _, self._read = self._read.partition(b"\r\n")
        found = self.exactly(int(size, 16))
        assert self.exactly(2) == b"\r\n"
        return found

    def rest(self) -> bytes:
        """Everything until the connection ends."""
        while True:
            try:
                self._more()
            except (EOFError, ConnectionResetError):
                found, self._read = self._read, b""
                return found

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response, whole; of repeated headers the last."""
        status, pairs = self.head()
        headers = dict(pairs)
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(iter(self.next_chunk, b""))
        return status, headers, self.exactly(int(headers.get("content-length", 0)))

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError("the connection has ended")
        self._read += data


def wire(host: RunningHost, receive_bytes: int | None = None) -> Wire:
    """A raw connection to a running host, as its owner."""
    return Wire(host.url, host.token, receive_bytes)
