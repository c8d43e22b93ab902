"""Thousands of connections that are kept alive, and very many requests: what they cost, what is left of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw import request
from served import Served
from system import Process
from test_many_sockets import until

pytestmark = pytest.mark.soak

IDLE, WAVES = 10_000, 5
ROUNDS, LANES, ASKS = 60, 32, 250
HERE = "/api/plugins/everything"
TESTS = Path(__file__).parents[1]

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Served]:
    """A host with room for all connections, which it does not find idle for long."""
    plugins = tmp_path / "plugins"
    (plugins / "everything-files").mkdir(parents=True)
    (plugins / "everything.py").write_text((TESTS / "plugins" / "everything.py").read_text())
    limits = {"PLUGBAY_LIMITS_CONNECTIONS": "12000", "PLUGBAY_LIMITS_IDLE_TIME_S": "600"}
    with Served(tmp_path / "home", "--access-log", "off", plugins=plugins, **limits) as served:
        yield served.ready()


def asked(host: Served, path: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request that keeps its connection."""
    credential = [("Authorization", f"Bearer {host.token}"), ("Connection", "keep-alive")]
    kind = [("Content-Type", "application/json")] if body else []
    return request(host.url, f"{HERE}{path}", [*credential, *kind], method=method, body=body)


async def heard(reader: asyncio.StreamReader, status: bytes = b"200") -> None:
    """One answer, to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 " + status), head
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))


async def opened(host: Served, number: int) -> list[Connection]:
    """So many connections, on each of which one request was answered."""
    one = asked(host, "/plain")

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port, limit=4096)
        writer.write(one)
        await heard(reader)
        return reader, writer

    found: list[Connection] = []
    for start in range(0, number, 100):
        found += await asyncio.gather(*(connect() for _ in range(min(100, number - start))))
    return found


def test_an_idle_connection_costs_at_most_thirty_kilobytes_in_the_fifth_wave_too(host: Served) -> None:
    process = Process(host.process.pid)

    async def hold() -> list[float]:
        first = process.files
        for _reader, writer in await opened(host, 200):
            writer.close()
        await until(lambda: process.files <= first, 10)
        before, found = process.rss_bytes, []
        for _ in range(WAVES):
            connections = await opened(host, IDLE)
            found.append((process.rss_bytes - before) / IDLE)
            for _reader, writer in connections:
                writer.close()
            await until(lambda: process.files <= first, 30)
        return found

    costs = asyncio.run(hold())
    print(f"\nan idle connection, wave by wave: {', '.join(f'{cost / 1000:.1f}' for cost in costs)} kB")
    assert max(costs) <= 30_000


def test_memory_is_flat_under_very_many_requests(host: Served) -> None:
    process = Process(host.process.pid)
    note = json.dumps({"title": "a note", "mood": "good"}).encode()
    turns = [
        (asked(host, "/plain"), b"200"),
        (asked(host, "/thread"), b"200"),
        (asked(host, "/notes/7?q=x"), b"200"),
        (asked(host, "/notes/x"), b"422"),
        (asked(host, "/notes", "POST", note), b"201"),
        (asked(host, "/notes", "POST", note[:-1]), b"422"),
        (asked(host, "/nowhere"), b"404"),
    ]

    async def lane(connection: Connection) -> None:
        reader, writer = connection
        for number in range(ASKS):
            ask, status = turns[number % len(turns)]
            writer.write(ask)
            await heard(reader, status)

    async def loop() -> list[int]:
        connections = await opened(host, LANES)
        found = []
        for _ in range(ROUNDS):
            await asyncio.gather(*(lane(connection) for connection in connections))
            found.append(process.rss_bytes)
        return found

    sizes = asyncio.run(loop())
    settled, last = max(sizes[: ROUNDS // 3]), max(sizes[-ROUNDS // 3 :])
    total = ROUNDS * LANES * ASKS
    print(f"\n{total:,} requests: {settled / 2**20:.1f} MiB after a third, {last / 2**20:.1f} MiB in the last third")
    assert last <= settled * 1.02
