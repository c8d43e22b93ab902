"""What is measured: the servers, the cases, and the ratios that each case must reach."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load import BENCH_AXUM, BODY, Ask, Sample, Talk, http, sockets
from process import BENCHES, Running, Server

BIN = Path(sys.executable).parent
ITEM = "/api/plugins/bench/items/7?q=lamp"
AXUM_ITEM = "/api/plugins/bench/item"
STARLETTE = "/api/plugins/bench-starlette/item"
BARE = "/api/plugins/bench-bare/item"
BARE_ASYNC = "/api/bench-bare-async/item"
BARE_DEF = "/api/bench-bare-def/item"
OURS = "plugbay"
ITEMS = "items_plugin"
"""The folder of the plugin with the FastAPI router."""


def plugbay(probe: str, *folders: str) -> Server:
    """The host as `plugbay serve` runs it by default: token needed, access log off as on every side.

    ``folders`` are those of its plugins, below ``benches``; all of them unless some are named.
    """
    plugins = [word for name in folders or (ITEMS, "plugins") for word in ("--plugins-dir", str(BENCHES / name))]
    serve = ["serve", "--port", "{port}", *plugins, "--workers", "1"]
    command = [sys.executable, "-m", "plugbay", *serve, "--access-log", "off", "--ready-json"]
    home = {"PLUGBAY_HOME": "{home}/plugbay", "PLUGINS_DIR": ""}
    return Server(OURS, command, probe, env=home, token_file="{home}/plugbay/token")


def uvicorn(name: str, app: str, probe: str, *options: str) -> Server:
    """uvicorn on uvloop and httptools."""
    fast = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [str(BIN / "uvicorn"), app, "--port", "{port}", *fast, *options]
    return Server(name, command, probe)


def granian(name: str, app: str, interface: str, probe: str) -> Server:
    """granian with one worker on uvloop."""
    command = [str(BIN / "granian"), app, "--interface", interface, "--port", "{port}", "--host", "127.0.0.1"]
    return Server(name, [*command, "--loop", "uvloop", "--workers", "1", "--log-level", "warning"], probe)


def axum(probe: str = AXUM_ITEM) -> Server:
    """Pure axum on one thread."""
    return Server("axum", [str(BENCH_AXUM), "{port}"], probe)


def websockets_library() -> Server:
    """The `websockets` library on uvloop."""
    return Server("websockets", [sys.executable, "-m", "apps.websockets_server", "{port}"], "/healthz")


@dataclass(frozen=True)
class Target:
    """What ``measure`` of ``ours`` over that of ``peer`` must be: at most ``limit``, or at least for a rate."""

    ours: str
    peer: str
    measure: str
    """``cpu_us``, ``rate``, ``p99_us``, ``start_ms`` or ``memory_mib``."""
    limit: float | None
    """``None`` where there is a wish alone."""
    moonshot: float | None = None
    """What would be better still; no target."""

    def reached(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return self.limit is None or self._is_at_least(ratio, self.limit)

    def excelled(self, ratio: float) -> bool | None:
        """Whether it is better still; ``None`` where no more is wished for."""
        return None if self.moonshot is None else self._is_at_least(ratio, self.moonshot)

    def _is_at_least(self, ratio: float, limit: float) -> bool:
        return ratio >= limit if self.measure == "rate" else ratio <= limit


Load = Callable[[Running, float], Sample]


@dataclass(frozen=True)
class Entry:
    """One row of a case: a server under a load. Without a load, its start and its memory are measured."""

    name: str
    server: Server
    load: Load | None = None


@dataclass(frozen=True)
class Case:
    """One table."""

    name: str
    title: str
    unit: str
    """What is counted: ``request``, ``message``, ``delivery`` or ``start``."""
    entries: Sequence[Entry]
    targets: Sequence[Target] = field(default_factory=list)


LAMP = {"id": 7, "name": "lamp", "price": 12.5, "tags": ["home", "light"]}


def get(path: str, answer: object = LAMP) -> Load:
    """wrk with GET on 64 connections."""
    return lambda server, seconds: http(server, Ask(path, answer), seconds)


def post(path: str, answer: object = LAMP) -> Load:
    """wrk with POST on 64 connections."""
    return lambda server, seconds: http(server, Ask(path, answer, body=BODY), seconds)


def echo(talk: Talk) -> Load:
    """64 sockets, each with one message under way."""
    return lambda server, seconds: sockets(server, "echo", talk, seconds, connections=64)


def fan_out(talk: Talk) -> Load:
    """1,000 sockets that hear what one says."""
    return lambda server, seconds: sockets(server, "fanout", talk, seconds, connections=1000)


SAID = '"hello there"'
FRAME = '{"channel":"%s","event":"say","data":{"text":"hello there","number":42},"ref":1}'
SUBSCRIBE = '{"channel":"bench-fanout","event":"subscribe","ref":1}'
PUBLISH = '{"channel":"bench-fanout","event":"say","data":{"text":"hello there","number":42}}'


def fan_out_entries(flight: int) -> list[Entry]:
    """1,000 subscribers, and so many messages under way."""
    ours = Talk("/ws", PUBLISH, SAID, hello=1, open=SUBSCRIBE, flight=flight)
    theirs = Talk("/fanout", PUBLISH, SAID, flight=flight)
    return [
        Entry(OURS, plugbay(ITEM), fan_out(ours)),
        Entry("websockets.broadcast", websockets_library(), fan_out(theirs)),
        Entry("axum", axum(), fan_out(theirs)),
    ]


def cases() -> list[Case]:
    """Every case, in the order of the report."""
    uvicorn_ws = {
        kind: uvicorn(
            f"uvicorn ({kind})", "apps.socket_app:app", "/", "--ws", kind, "--ws-per-message-deflate", "False"
        )
        for kind in ("websockets", "websockets-sansio")
    }
    say = FRAME % "bench"
    in_json = echo(Talk("/json", say, SAID))
    as_text = echo(Talk("/", say, SAID))
    fastapi_uvicorn = uvicorn("uvicorn + FastAPI", "apps.fastapi_app:app", ITEM)
    return [
        Case(
            "starlette", "Starlette: GET, JSON", "request",
            [
                Entry(OURS, plugbay(STARLETTE), get(STARLETTE)),
                Entry("uvicorn", uvicorn("uvicorn", "apps.starlette_app:standalone", STARLETTE), get(STARLETTE)),
            ],
            [Target(OURS, "uvicorn", "cpu_us", 0.85)],
        ),
        Case(
            "tool", "A tool over HTTP: schema and gate", "request",
            [
                Entry("plugbay (async def)", plugbay(BARE), post("/api/host/tools/bench.item", {"result": LAMP})),
                Entry("plugbay (def)", plugbay(BARE), post("/api/host/tools/bench.item_sync", {"result": LAMP})),
                Entry("axum", axum(), post(AXUM_ITEM)),
            ],
        ),
        Case(
            "echo", "WebSocket echo through a Python handler", "message",
            [
                Entry("plugbay (async def)", plugbay(ITEM), echo(Talk("/ws", say, SAID, hello=1))),
                Entry("plugbay (def)", plugbay(ITEM), echo(Talk("/ws", FRAME % "bench-sync", SAID, hello=1))),
                *[
                    entry
                    for server in uvicorn_ws.values()
                    for entry in (
                        Entry(f"{server.name}, text", server, as_text),
                        Entry(f"{server.name}, JSON", server, in_json),
                    )
                ],
                Entry("websockets, text", websockets_library(), as_text),
                Entry("websockets, JSON", websockets_library(), in_json),
                Entry("axum, text", axum(), echo(Talk("/ws", say, SAID))),
            ],
            [
                Target("plugbay (async def)", "uvicorn (websockets), text", "cpu_us", 0.5),
                Target("plugbay (async def)", "uvicorn (websockets-sansio), text", "cpu_us", 0.8),
            ],
        ),
        Case(
            "fanout", "Fan-out to 1,000 subscribers, eight messages under way", "delivery", fan_out_entries(flight=8),
            [Target(OURS, "websockets.broadcast", "rate", 2.2)],
        ),
        # One write to each socket a message on every side: what is left is the kernel's work.
        Case("fanout-one", "Fan-out to 1,000 subscribers, one at a time", "delivery", fan_out_entries(flight=1)),
        Case(
            "start", "Start to the first answer, and idle memory", "start",
            [
                # The one router that the others serve, too.
                Entry(OURS, plugbay(ITEM, ITEMS)),
                Entry("uvicorn + FastAPI", fastapi_uvicorn),
                Entry("granian + FastAPI", granian("granian + FastAPI", "apps.fastapi_app:app", "asgi", ITEM)),
            ],
            [Target(OURS, "uvicorn + FastAPI", "start_ms", 1.0), Target(OURS, "uvicorn + FastAPI", "memory_mib", 1.2)],
        ),
    ]  # fmt: skip
