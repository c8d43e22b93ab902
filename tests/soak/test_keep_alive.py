"""Thousands of connections that are kept alive, and very many requests: what they cost, what is left of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw import request
from served import Served, write_plugin
from system import Process
from test_many_sockets import until

pytestmark = pytest.mark.soak

IDLE, WAVES, REST_S = 10_000, 8, 2.0
ROUNDS, LANES, BATCHES = 100, 32, 80
"""Three million requests: an hour of eight hundred a second."""
HERE = "/api/plugins/everything"
TESTS = Path(__file__).parents[1]

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Served]:
    """A host with room for all connections, which it does not find idle for long."""
    plugins = tmp_path / "plugins"
    (plugins / "everything-files").mkdir(parents=True)
    (plugins / "everything.py").write_text((TESTS / "plugins" / "everything.py").read_text())
    limits = {"PLUGBAY_LIMITS_CONNECTIONS": "12000", "PLUGBAY_LIMITS_IDLE_TIME_S": "600", "MALLOC_PERTURB_": "165"}
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
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
        return
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))


async def again(host: Served, connection: Connection) -> None:
    """One more request on a connection."""
    reader, writer = connection
    writer.write(asked(host, "/plain"))
    await heard(reader)


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


def test_an_idle_connection_costs_at_most_twenty_kilobytes_and_no_more_in_the_last_wave(host: Served) -> None:
    """The allocator fills what it gives and takes: without that, memory which is used for the first time in a later
    wave looks like a leak."""
    process = Process(host.process.pid)

    async def hold() -> list[float]:
        first = process.files
        for _reader, writer in await opened(host, 200):
            writer.close()
        await until(lambda: process.files <= first, 10)
        before, found = process.rss_bytes, []
        for _ in range(WAVES):
            connections = await opened(host, IDLE)
            # One that was quiet for a moment gives its buffers back.
            await asyncio.sleep(REST_S)
            found.append((process.rss_bytes - before) / IDLE)
            # They have rested, and each is answered again.
            for start in range(0, IDLE, 100):
                await asyncio.gather(*(again(host, each) for each in connections[start : start + 100]))
            for _reader, writer in connections:
                writer.close()
            await until(lambda: process.files <= first, 30)
        return found

    costs = asyncio.run(hold())
    print(f"\nan idle connection, wave by wave: {', '.join(f'{cost / 1000:.1f}' for cost in costs)} kB")
    assert max(costs) <= 20_000
    settled, last = max(costs[: WAVES // 2]), max(costs[-WAVES // 2 :])
    assert last <= settled * 1.1


MANY = """
import asyncio

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

router = APIRouter()


class Note(BaseModel):
    title: str
    words: list[str] = []


def on_a_thread(q: str = ""):
    return q


def opened():
    yield "opened"


@router.get("/compiled/{number}")
async def compiled(number: int, q: str = ""):
    return {"number": number, "q": q}


@router.get("/depends")
async def depends(q: str = Depends(on_a_thread)):
    return q


@router.get("/thread/{number}")
def thread(number: int):
    return number


@router.post("/notes", status_code=201)
async def add(note: Note) -> Note:
    return note


@router.get("/asgi")
async def asgi(word: str = Depends(opened)):
    return word


@router.get("/stream")
async def stream():
    return StreamingResponse(iter([b"piece"] * 5))


@router.get("/refused")
async def refused():
    raise HTTPException(403, "refused")


@router.get("/raises")
def raises():
    raise RuntimeError("raised")


@router.get("/slow/{how}")
async def slow(how: str):
    await asyncio.Event().wait()


def setup(host):
    host.add_router(router)
    host.add_agent_tool(AgentTool("echo", "Echoes.", lambda args: args))
"""


def turns(host: Served) -> list[tuple[bytes, bytes]]:
    """A request of each kind, with the status of its answer."""
    note = json.dumps({"title": "a note", "words": ["word"] * 20}).encode()
    here = "/api/plugins/many"
    asks = [
        ("GET", f"{here}/compiled/7?q=x", b"", b"200"),
        ("GET", f"{here}/compiled/x", b"", b"422"),
        ("GET", f"{here}/depends?q=x", b"", b"200"),
        ("GET", f"{here}/thread/7", b"", b"200"),
        ("POST", f"{here}/notes", note, b"201"),
        ("POST", f"{here}/notes", note[:-1], b"422"),
        ("GET", f"{here}/asgi", b"", b"200"),
        ("GET", f"{here}/stream", b"", b"200"),
        ("GET", f"{here}/refused", b"", b"403"),
        ("GET", f"{here}/raises", b"", b"500"),
        ("GET", f"{here}/nowhere", b"", b"404"),
        ("POST", "/api/host/tools/echo", note, b"200"),
    ]
    credential = [("Authorization", f"Bearer {host.token}"), ("Connection", "keep-alive")]
    kind = ("Content-Type", "application/json")
    return [
        (request(host.url, path, [*credential, kind], method=method, body=body), status)
        for method, path, body, status in asks
    ]


def test_memory_is_flat_under_an_hours_worth_of_requests_of_every_kind(tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "many", MANY)
    with Served(tmp_path / "home", "--access-log", "off", "--log-level", "off", plugins=tmp_path / "plugins") as host:
        process = Process(host.ready().process.pid)
        kinds = turns(host)
        batch = b"".join(ask for ask, _ in kinds)
        slow = [
            request(host.url, f"/api/plugins/many/slow/{n}", [("Authorization", f"Bearer {host.token}")])
            for n in (1, 2)
        ]

        async def lane() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
            for _ in range(BATCHES):
                writer.write(batch)
                for _, status in kinds:
                    await heard(reader, status)
            # Who leaves before the answer is there.
            writer.write(slow[0] + slow[1])
            await writer.drain()
            writer.transport.abort()

        async def loop() -> list[int]:
            found = []
            for _ in range(ROUNDS):
                await asyncio.gather(*(lane() for _ in range(LANES)))
                found.append(process.rss_bytes)
            return found

        sizes = asyncio.run(loop())
        # In the first third every thread's part of the allocator comes to its size.
        settled, last = max(sizes[ROUNDS // 3 : 2 * ROUNDS // 3]), max(sizes[-ROUNDS // 3 :])
        print("\nMiB after each round:", *(f"{size / 2**20:.1f}" for size in sizes))
        total = ROUNDS * LANES * BATCHES * len(kinds)
        sizes_mib = f"{settled / 2**20:.1f} MiB in the second third, {last / 2**20:.1f} in the last"
        print(f"{total:,} requests: {sizes_mib}")
        assert last <= settled * 1.02
        # What was left unanswered ends; where its client had sent a further request, at the limit of a call.
        with host.client() as client:
            while client.get("/api/host/status").json()["engines"]["python"]["event_loop"]["tasks"]:
                time.sleep(1)
