"""Slow, silent and greedy clients by the thousand: each is ended at its limit, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from served import Served
from system import Process

pytestmark = pytest.mark.soak

CLIENTS = 1000
LIMIT_S = 2.0
GRACE_S = 2.0
BASE = "/api/plugins/everything"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(host: Served, number: int) -> list[Connection]:
    """So many connections, opened a hundred at a time."""
    opened: list[Connection] = []
    for start in range(0, number, 100):
        count = min(100, number - start)
        opened += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", host.port) for _ in range(count)))
    return opened


async def until_closed(connection: Connection) -> float:
    """Read until the end; when that was."""
    reader, writer = connection
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()
    return time.monotonic()


async def dripping(connection: Connection, first: bytes, drop: bytes) -> float:
    """Send ``first``, then ``drop`` again and again; when the host ended it."""
    reader, writer = connection

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(first)
            while True:
                await asyncio.sleep(0.25)
                writer.write(drop)
                await writer.drain()

    task = asyncio.create_task(drip())
    ended = await until_closed((reader, writer))
    task.cancel()
    return ended


async def latencies(host: Served, over: asyncio.Event) -> list[float]:
    """How long each of many questions took, one after the other, until it is over."""
    headers = {"Authorization": f"Bearer {host.token}"}
    took: list[float] = []
    async with httpx.AsyncClient(base_url=host.url, headers=headers) as client:
        while not over.is_set():
            began = time.perf_counter()
            (await client.get(f"{BASE}/plain")).raise_for_status()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)
    return sorted(took)


async def attack(
    host: Served, one: Callable[[Connection], Coroutine[Any, Any, float]], number: int = CLIENTS
) -> tuple[float, float]:
    """Let so many clients act; how long the last one lasted, and the 99th percentile of others' questions."""
    over = asyncio.Event()
    others = asyncio.create_task(latencies(host, over))
    connections = await connected(host, number)
    began = time.monotonic()
    ends = await asyncio.gather(*map(one, connections))
    over.set()
    took = await others
    return max(ends) - began, took[int(len(took) * 0.99)]


def report(name: str, lasted_s: float, p99_s: float) -> None:
    print(f"\n{name}: all closed after {lasted_s:.1f} s; others' p99 {p99_s * 1000:.1f} ms")


def test_clients_that_drip_their_headers_are_all_closed_at_the_limit(served: Served) -> None:
    first = f"GET / HTTP/1.1\r\nHost: {served.url.removeprefix('http://')}\r\n".encode()
    lasted_s, p99_s = asyncio.run(attack(served, lambda client: dripping(client, first, b"X-A: b\r\n")))
    report("slow headers", lasted_s, p99_s)
    assert lasted_s < LIMIT_S + GRACE_S
    assert p99_s < 0.25


def test_clients_that_say_nothing_are_all_closed_at_the_limit(served: Served) -> None:
    lasted_s, p99_s = asyncio.run(attack(served, until_closed))
    report("silent", lasted_s, p99_s)
    assert lasted_s < LIMIT_S + GRACE_S
    assert p99_s < 0.25


def head_of(host: Served, method: str, path: str, *lines: str) -> bytes:
    first = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{host.port}", f"Authorization: Bearer {host.token}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


def test_clients_whose_body_stops_are_all_closed_at_the_limit(served: Served) -> None:
    head = head_of(served, "PUT", f"{BASE}/files/x", "Content-Length: 1000000")

    async def stopping(connection: Connection) -> float:
        connection[1].write(head + b"x" * 1000)
        return await until_closed(connection)

    lasted_s, p99_s = asyncio.run(attack(served, stopping))
    report("bodies that stop", lasted_s, p99_s)
    assert lasted_s < LIMIT_S + GRACE_S
    assert p99_s < 0.25


def test_clients_that_read_nothing_are_all_closed_at_the_limit(served: Served, process: Process) -> None:
    head = head_of(served, "GET", "/openapi.json")

    async def greedy(connection: Connection) -> float:
        """Ask on and on, and read nothing."""
        _reader, writer = connection
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(head * 20)
                await writer.drain()
        return time.monotonic()

    before = process.rss_bytes
    lasted_s, p99_s = asyncio.run(attack(served, greedy, 200))
    report("readers that stop", lasted_s, p99_s)
    growth = (process.rss_bytes - before) / 200
    print(f"memory for each: {growth / 1024:.0f} KiB")
    assert lasted_s < 3 * (LIMIT_S + GRACE_S)
    assert growth < 1 << 20


def test_without_file_descriptors_the_host_does_not_spin_and_serves_again_at_once(
    served: Served, process: Process
) -> None:
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (256, 256))

    async def crowd() -> tuple[float, float]:
        connections = await connected(served, 400)
        before = process.processor_s
        await asyncio.sleep(1.0)
        used = process.processor_s - before
        for _reader, writer in connections:
            writer.close()
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
            assert (await client.get("/healthz")).status_code == 200
        return used, time.monotonic() - began

    used, again_s = asyncio.run(crowd())
    print(f"\nwithout descriptors: {used * 100:.1f} % of a processor; served again after {again_s * 1000:.0f} ms")
    assert used < 0.05
    assert again_s < 1.0
    served.logged("cannot accept connections")


@pytest.fixture
def small(tmp_path: Any) -> Any:
    with Served(tmp_path / "home", PLUGBAY_LIMITS_CONNECTIONS="100") as host:
        yield host.ready()


def test_beyond_the_connection_limit_the_answer_is_503_within_ten_milliseconds(small: Served) -> None:
    head = head_of(small, "GET", "/api/host/status")

    async def crowd() -> list[float]:
        held = await connected(small, 100)
        for reader, writer in held:
            writer.write(head)
            await reader.readuntil(b"\r\n\r\n")
        took = []
        for _ in range(100):
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
            writer.write(head)
            answer = await reader.read()
            took.append(time.perf_counter() - began)
            assert answer.startswith(b"HTTP/1.1 503") and b"retry-after:" in answer.lower()
            writer.close()
        assert httpx.get(f"{small.url}/healthz").status_code == 200
        for _reader, writer in held:
            writer.close()
        return sorted(took)

    took = asyncio.run(crowd())
    print(f"\nrefusals: median {took[50] * 1000:.2f} ms, slowest {took[-1] * 1000:.2f} ms")
    assert took[50] < 0.01
