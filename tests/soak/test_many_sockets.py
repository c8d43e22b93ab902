"""Thousands of sockets: what each costs, that none is left behind, and that one which stands still pays alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from raw import HANDSHAKE, frame, request
from served import Served
from system import Process
from websockets.asyncio.client import connect

pytestmark = pytest.mark.soak

IDLE = 5000
HELD, HELD_S = 10_000, 600.0
LIVE = 999
ROUNDS = 3000
"""Each opens and closes a hundred sockets: as many in all as 500 a second in ten minutes."""


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Served]:
    """A host that takes so many."""
    limits = {"PLUGBAY_LIMITS_CONNECTIONS": str(HELD + 100)}
    with Served(tmp_path / "home", "--access-log", "off", **limits) as host:
        yield host.ready()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(host: Served, number: int) -> list[Connection]:
    """So many sockets on ``/ws`` whose hello was read."""
    asked = request(host.url, "/ws", [*HANDSHAKE, ("Authorization", f"Bearer {host.token}")])

    async def one() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port, limit=4096)
        writer.write(asked)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}}")
        return reader, writer

    sockets: list[Connection] = []
    for start in range(0, number, 100):
        sockets += await asyncio.gather(*(one() for _ in range(min(100, number - start))))
    return sockets


async def until(condition: Any, within_s: float) -> float:
    """Wait for a condition; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def test_an_idle_socket_costs_at_most_eight_kilobytes(served: Served, process: Process) -> None:
    async def hold() -> float:
        for _reader, writer in await opened(served, 200):
            writer.close()
        files = process.files - 100
        await until(lambda: process.files <= files, 10)
        before = process.rss_bytes
        sockets = await opened(served, IDLE)
        cost = (process.rss_bytes - before) / len(sockets)
        for _reader, writer in sockets:
            writer.close()
        return cost

    cost = asyncio.run(hold())
    print(f"\nan idle socket: {cost / 1000:.1f} kB")
    assert cost <= 8000


def test_sockets_that_come_and_go_leave_nothing_behind(served: Served, process: Process) -> None:
    async def churn() -> tuple[int, int, int, int, float]:
        async def round(number: int) -> None:
            for reader, writer in await opened(served, number):
                writer.write(frame(b"\x03\xe8", 0x88))
                await reader.read()
                writer.close()

        start = process.files
        for _ in range(ROUNDS // 10):
            await round(100)
        await until(lambda: process.files <= start, 10)
        files, rss = process.files, process.rss_bytes
        began = time.monotonic()
        for _ in range(ROUNDS):
            await round(100)
        rate = 100 * ROUNDS / (time.monotonic() - began)
        await until(lambda: process.files <= files, 10)
        return files, process.files, rss, process.rss_bytes, rate

    files, files_after, rss, rss_after, rate = asyncio.run(churn())
    growth = rss_after / rss - 1
    print(
        f"\n{100 * ROUNDS:,} sockets at {rate:.0f}/s: {files} files, then {files_after}; memory {growth * 100:+.1f} %"
    )
    assert files_after <= files
    assert growth < 0.01


class Idle(asyncio.Protocol):
    """A client that answers pings and says nothing else."""

    opened, lost = 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 101 "):
            type(self).opened += 1
        # An idle socket is sent one short frame at a time.
        elif data[0] == 0x89:
            self._transport.write(frame(data[2:], 0x8A))

    def connection_lost(self, error: Exception | None) -> None:
        type(self).lost += 1


def test_ten_thousand_idle_sockets_are_held_for_ten_minutes(crowded: Served) -> None:
    process = Process(crowded.process.pid)
    asked = request(crowded.url, "/ws", [*HANDSHAKE, ("Authorization", f"Bearer {crowded.token}")])

    async def hold() -> tuple[int, float]:
        loop = asyncio.get_running_loop()

        async def one() -> asyncio.Transport:
            transport, _protocol = await loop.create_connection(Idle, "127.0.0.1", crowded.port)
            transport.write(asked)
            return transport

        transports: list[asyncio.Transport] = []
        for _ in range(HELD // 100):
            transports += await asyncio.gather(*(one() for _ in range(100)))
        began, cpu_s, most = time.monotonic(), process.processor_s, 0
        while (past_s := time.monotonic() - began) < HELD_S:
            most = max(most, process.rss_bytes)
            await asyncio.sleep(1)
        share = (process.processor_s - cpu_s) / past_s
        assert (Idle.opened, Idle.lost) == (HELD, 0)
        for transport in transports:
            transport.close()
        return most, share

    most, share = asyncio.run(hold())
    print(f"\n{HELD:,} sockets for {HELD_S:.0f} s: at most {most / 1e6:.0f} MB, {share * 100:.1f} % of a core")
    assert most < 150e6
    assert share < 0.1


def test_a_client_that_stands_still_is_closed_and_all_others_hear_everything(served: Served, process: Process) -> None:
    """999 live clients and one stopped one; what is told is far more than an outbox and the kernel's buffers hold."""
    script = (
        "import socket, sys\n"
        "line = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)\n"
        "line.sendall(bytes.fromhex(sys.argv[2]))\n"
        "heard = b''\n"
        "while b'reply' not in heard: heard += line.recv(4096)\n"
        "print('hears', flush=True)\n"
        "sys.stdin.read()\n"
    )
    credential = ("Authorization", f"Bearer {served.token}")
    hear = json.dumps({"channel": "everything", "event": "hear", "ref": 1}).encode()
    said = request(served.url, "/ws", [*HANDSHAKE, credential]) + frame(hear)
    still = subprocess.Popen(
        [sys.executable, "-c", script, str(served.port), said.hex()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert still.stdout is not None
    assert still.stdout.readline() == "hears\n"
    os.kill(still.pid, signal.SIGSTOP)
    messages, data = 400, "x" * 16_000

    async def crowd() -> tuple[int, float]:
        files = process.files
        sockets = await opened(served, LIVE)
        for reader, writer in sockets:
            writer.write(frame(hear))
            await reader.readuntil(b'"data":null}')
        before = process.rss_bytes
        peak = 0

        async def listen(reader: asyncio.StreamReader) -> int:
            count = 0
            while count < messages:
                await reader.readuntil(b'"topic":"everything/talk"')
                count += 1
            return count

        async def tell() -> float:
            nonlocal peak
            slowest = 0.0
            headers = {"Authorization": credential[1]}
            url = f"ws://127.0.0.1:{served.port}/ws"
            async with connect(url, additional_headers=headers, proxy=None, max_size=None) as teller:
                await teller.recv()
                for number in range(messages):
                    began = time.perf_counter()
                    await teller.send(
                        json.dumps({"channel": "everything", "event": "tell", "data": data, "ref": number})
                    )
                    await teller.recv()
                    slowest = max(slowest, time.perf_counter() - began)
                    peak = max(peak, process.rss_bytes)
                    await asyncio.sleep(0.02)
            return slowest

        for reader, _writer in sockets:
            reader._limit = 1 << 20  # type: ignore[attr-defined]
        *heard, slowest = await asyncio.gather(*(listen(reader) for reader, _ in sockets), tell())
        assert heard == [messages] * LIVE
        for _reader, writer in sockets:
            writer.close()
        # The still one is gone, too.
        await until(lambda: process.files < files, 15)
        return peak - before, slowest

    try:
        growth, slowest = asyncio.run(crowd())
    finally:
        still.kill()
        still.communicate()
    told = f"{LIVE} live clients heard {messages} messages of 16 kB each, the still one was cut"
    print(f"\n{told}; slowest publish {slowest * 1000:.0f} ms; memory +{growth / 1e6:.0f} MB at most")
    assert growth < 400e6


def test_a_client_that_answers_no_ping_is_gone_within_35_seconds(served: Served, process: Process) -> None:
    async def silent() -> float:
        files = process.files
        [(_reader, writer)] = await opened(served, 1)
        await until(lambda: process.files > files, 5)
        gone_s = await until(lambda: process.files <= files, 40)
        writer.close()
        return gone_s

    gone_s = asyncio.run(silent())
    print(f"\na client without a pong: gone after {gone_s:.1f} s")
    assert gone_s <= 36
