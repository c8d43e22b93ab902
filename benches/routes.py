"""The cases of FastAPI routes: one router file under every server that runs it, and the same in other frameworks."""

import sys
from dataclasses import replace
from pathlib import Path

from arrivals import Arrivals
from cases import (
    BARE_ASYNC,
    BARE_DEF,
    ITEM,
    LAMP,
    OURS,
    Case,
    Entry,
    Load,
    Target,
    axum,
    get,
    granian,
    plugbay,
    post,
    uvicorn,
)
from process import CORES, Server

HERE = "/api/plugins/bench"
READ = f"{HERE}/items/7?q=lamp&limit=5"
READ_SYNC = f"{HERE}/items-sync/7?q=lamp&limit=5"
WRITE = f"{HERE}/items"
NESTED = f"{HERE}/nested?q=lamp&limit=5"
HUNDRED = f"{HERE}/hundred"
OPENED = f"{HERE}/opened/7?q=lamp&limit=5"
FOUND = {"id": 7, "name": "lamp", "limit": 5, "tags": ["home", "light"]}
ALL = [{"id": number, "name": f"item {number}", "price": number / 4, "tags": LAMP["tags"]} for number in range(100)]
RSGI = "granian (RSGI, bare)"
ON_3_11 = sys.version_info < (3, 12)

ENVIRONMENT = Path(sys.prefix)
ROBYN = ENVIRONMENT.with_name(f"{ENVIRONMENT.name}-robyn") / "bin" / "python"
"""The interpreter of Robyn's own environment; `make bench` makes it."""


def robyn(probe: str) -> Server:
    """Robyn with one process and one worker, from its own environment."""
    command = [str(ROBYN), "apps/robyn_app.py", "{port}", "--processes", "1", "--workers", "1"]
    return Server("robyn", [*command, "--log-level", "ERROR", "--disable-openapi"], probe)


def blacksheep(probe: str) -> Server:
    """BlackSheep on uvicorn."""
    return uvicorn("blacksheep", "apps.blacksheep_app:app", probe)


def fastapi_entries(path: str, load: Load) -> list[Entry]:
    """One FastAPI route under each server that can run it."""
    return [
        Entry(OURS, plugbay(ITEM), load),
        Entry("uvicorn", uvicorn("uvicorn", "apps.fastapi_app:app", ITEM), load),
        Entry("granian", granian("granian", "apps.fastapi_app:app", "asgi", ITEM), load),
    ]


def small_entries(path: str, load: Load) -> list[Entry]:
    """A small route under all servers and frameworks, and what granian's own interface costs without any."""
    return [
        *fastapi_entries(path, load),
        Entry("blacksheep", blacksheep(ITEM), load),
        Entry("robyn", robyn(ITEM), load),
        Entry(RSGI, granian("granian", "apps.bare:rsgi", "rsgi", "/"), get("/")),
        Entry("axum", axum(), load),
    ]


def both_cores(server: Server) -> Server:
    """The server with every core that there is."""
    return replace(server, cores=frozenset(CORES))


def workers(server: Server, count: int) -> Server:
    """The server with so many workers."""
    command = list(server.command)
    if "--workers" in command:
        command[command.index("--workers") + 1] = str(count)
    else:
        command += ["--workers", str(count)]
    return replace(server, command=command)


def free_entries(load: Load) -> list[Entry]:
    """All cores for everybody, the load among them."""
    entries = [
        Entry(OURS, plugbay(ITEM), load),
        Entry("uvicorn", uvicorn("uvicorn", "apps.fastapi_app:app", ITEM), load),
        Entry("granian", granian("granian", "apps.fastapi_app:app", "asgi", ITEM), load),
    ]
    return [replace(entry, server=both_cores(workers(entry.server, 2))) for entry in entries]


def cases() -> list[Case]:
    """Every case of FastAPI routes, in the order of the report."""
    read, read_sync = get(READ, FOUND), get(READ_SYNC, FOUND)
    write, nested = post(WRITE), get(NESTED, FOUND)
    hundred, opened = get(HUNDRED, ALL), get(OPENED, FOUND)
    below_bare = Target(OURS, RSGI, "cpu_us", 1.0)
    arrivals = Arrivals(READ, FOUND)
    bare_limit, bare_moonshot = (1.8, 1.6) if ON_3_11 else (1.6, 1.4)
    return [
        Case(
            "bare", "A bare handler: GET", "request",
            [
                Entry("plugbay (async def)", plugbay(BARE_ASYNC), get(BARE_ASYNC)),
                Entry("plugbay (def)", plugbay(BARE_DEF), get(BARE_DEF)),
                Entry("plugbay (ASGI)", plugbay("/api/plugins/bench-bare/item"), get("/api/plugins/bench-bare/item")),
                Entry("uvicorn (ASGI)", uvicorn("uvicorn", "apps.bare:app", "/"), get("/")),
                Entry("granian (ASGI)", granian("granian", "apps.bare:app", "asgi", "/"), get("/")),
                Entry(RSGI, granian("granian", "apps.bare:rsgi", "rsgi", "/"), get("/")),
                Entry("axum", axum(), get(f"{HERE}/item")),
            ],
            [
                Target("plugbay (async def)", "axum", "cpu_us", bare_limit, bare_moonshot),
                Target("plugbay (def)", "axum", "cpu_us", bare_limit, bare_moonshot),
                Target("plugbay (async def)", RSGI, "cpu_us", 1.0),
            ],
        ),
        Case(
            "get", "FastAPI: GET, path and query parameters, a dict", "request", small_entries(READ, read),
            [Target(OURS, "uvicorn", "cpu_us", 0.15, 0.11), Target(OURS, "axum", "cpu_us", None, 1.8), below_bare],
        ),
        Case(
            "get-sync", "FastAPI: the same from a plain `def`", "request",
            [entry for entry in small_entries(READ_SYNC, read_sync) if entry.name != "axum"],
            [Target(OURS, "uvicorn", "cpu_us", 0.15, 0.11), below_bare],
        ),
        Case(
            "post", "FastAPI: POST, a pydantic model in and out", "request", small_entries(WRITE, write),
            [Target(OURS, "uvicorn", "cpu_us", 0.16, 0.11)],
        ),
        Case(
            "nested", "FastAPI: three nested dependencies", "request", fastapi_entries(NESTED, nested),
            [Target(OURS, "uvicorn", "cpu_us", 0.2, 0.13)],
        ),
        Case(
            "hundred", "FastAPI: a list of 100 models", "request",
            [*fastapi_entries(HUNDRED, hundred), Entry("axum", axum(), hundred)],
            [Target(OURS, "uvicorn", "cpu_us", 0.6, 0.4)],
        ),
        Case(
            "asgi", "FastAPI: a route that stays on ASGI (a dependency with `yield`)", "request",
            fastapi_entries(OPENED, opened), [Target(OURS, "granian", "cpu_us", 1.0, 0.85)],
        ),
        Case(
            "cores", "FastAPI: GET with both cores free, two workers", "request", free_entries(read),
            [Target(OURS, "uvicorn", "rate", 5.0, 8.0)],
        ),
        Case(
            "arrivals", "FastAPI: GET at half of uvicorn's most, in an open loop", "request",
            # uvicorn first: its most is what the others are asked by.
            [
                Entry(name, server, arrivals)
                for name, server in (
                    ("uvicorn", uvicorn("uvicorn", "apps.fastapi_app:app", ITEM)),
                    (OURS, plugbay(ITEM)),
                    ("granian", granian("granian", "apps.fastapi_app:app", "asgi", ITEM)),
                )
            ],
            [Target(OURS, "uvicorn", "p99_us", 1.0)],
        ),
    ]  # fmt: skip
