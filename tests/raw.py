"""Clients that say exactly what they are told, byte for byte, and read what comes back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

WAIT_S = 20.0
"""How long an answer may take before a test fails; no test waits that long when all is well."""

HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
"""The headers that ask for a WebSocket."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Answer(NamedTuple):
    """The head of an answer, and what came behind it until the end."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def connect(url: str) -> socket.socket:
    """A connection to the host at ``url``."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=WAIT_S)


def request(
    url: str, target: str | bytes, headers: Iterable[tuple[str, str]] = (), *, method: str = "GET", body: bytes = b""
) -> bytes:
    """The bytes of a request that ends its connection; a ``Host`` among ``headers`` replaces the right one."""
    headers = list(headers)
    names = {name.lower() for name, _value in headers}
    target = target.encode("latin-1") if isinstance(target, str) else target
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    if "host" not in names:
        lines.append(b"Host: " + urlsplit(url).netloc.encode())
    if "connection" not in names:
        lines.append(b"Connection: close")
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def say(url: str, message: bytes) -> Answer | None:
    """Say ``message`` on a connection of its own and hear the first answer; ``None`` when there is none."""
    heard = b""
    with connect(url) as line:
        line.sendall(message)
        while not _is_whole(heard):
            try:
                piece = line.recv(65536)
            except ConnectionError:
                break
            if not piece:
                break
            heard += piece
    if not heard:
        return None
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.") and head[9:12].isdigit(), f"this is no answer: {heard[:200]!r}"
    return Answer(int(head[9:12]), head, body)


def _is_whole(heard: bytes) -> bool:
    """Whether an answer that says its length, or that has no body, has come; any other goes on until the end."""
    head, end, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and (head[9:12] == b"101" or (length is not None and len(body) >= int(length[1])))


class Frame(NamedTuple):
    """A frame of a WebSocket."""

    opcode: int
    data: bytes

    @property
    def json(self) -> Any:
        """Its text as JSON."""
        assert self.opcode == TEXT, self
        return json.loads(self.data)

    @property
    def close_code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE, self
        return int(struct.unpack("!H", self.data[:2])[0])


class Socket:
    """A WebSocket whose client breaks whatever rule it is told to break."""

    def __init__(self, url: str, token: str | None, path: str = "/ws", headers: Iterable[tuple[str, str]] = ()) -> None:
        self.line = connect(url)
        credential = [] if token is None else [("Authorization", f"Bearer {token}")]
        self.line.sendall(request(url, path, [*HANDSHAKE, *credential, *headers]))
        self._heard = b""
        while b"\r\n\r\n" not in self._heard:
            piece = self.line.recv(65536)
            assert piece, f"refused: {self._heard!r}"
            self._heard += piece
        self.head, _, self._heard = self._heard.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101"), self.head

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def send(self, data: bytes, first: int = 0x80 | TEXT, *, masked: bool = True) -> None:
        """Send a frame whose first byte is ``first``: by default a whole text."""
        self.line.sendall(frame(data, first, masked=masked))

    def send_json(self, value: Any) -> None:
        """Send a value as a text frame."""
        self.send(json.dumps(value).encode())

    def receive(self) -> Frame | None:
        """The next frame; ``None`` at the end."""
        while (found := _split(self._heard)) is None:
            try:
                piece = self.line.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            self._heard += piece
        one, self._heard = found
        return one

    def receive_json(self) -> Any:
        """The next frame, a text, as JSON."""
        one = self.receive()
        assert one is not None, "the connection ended"
        return one.json

    def hear_out(self) -> list[Frame]:
        """All frames until the end; a close is answered, as the protocol asks."""
        frames = []
        while (one := self.receive()) is not None:
            frames.append(one)
            if one.opcode == CLOSE:
                with contextlib.suppress(OSError):
                    self.send(one.data[:2], 0x80 | CLOSE)
        return frames


def frame(data: bytes, first: int = 0x80 | TEXT, *, masked: bool = True) -> bytes:
    """The bytes of a client's frame."""
    mask = os.urandom(4) if masked else b""
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head = bytes([first, bit | len(data)])
    elif len(data) < 65536:
        head = bytes([first, bit | 126]) + struct.pack("!H", len(data))
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", len(data))
    if not masked:
        return head + data
    key = int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)])
    return head + mask + (int.from_bytes(data) ^ key).to_bytes(len(data))


def _split(heard: bytes) -> tuple[Frame, bytes] | None:
    """The first frame of a server, whole, and what follows it."""
    if len(heard) < 2:
        return None
    length, start = heard[1] & 0x7F, 2
    if length > 125:
        width = 2 if length == 126 else 8
        length, start = int.from_bytes(heard[2 : 2 + width]), 2 + width
    if len(heard) < start + length:
        return None
    return Frame(heard[0] & 0x0F, heard[start : start + length]), heard[start + length :]
