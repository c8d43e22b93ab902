"""The load: wrk for HTTP, our own program for WebSockets; both on the other core."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from process import LOAD_CORE, SERVER_CORE, BenchError, Running

ROOT = Path(__file__).parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BENCH_AXUM = TARGET / "release" / "bench-axum"
BENCH_LOAD = TARGET / "release" / "bench-load"
BENCH_ARRIVALS = TARGET / "release" / "bench-arrivals"
BENCH_RMCP = TARGET / "release" / "bench-rmcp"

BODY = '{"name":"lamp","price":12.5,"tags":["home","light"]}'

POST_SCRIPT = f"""\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{BODY}'
"""


@dataclass(frozen=True)
class Sample:
    """One round against one server."""

    count: int
    """Requests, messages or deliveries."""
    seconds: float
    cpu_s: float
    more: Mapping[str, float] = field(default_factory=dict)
    """Further measures by name."""

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU for each."""
        return self.cpu_s / self.count * 1e6

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.seconds


def missing() -> list[str]:
    """What the load needs and this machine does not have, each with its cure."""
    found = []
    if shutil.which("wrk") is None:
        found.append("wrk is missing: install it, for example: apt-get install wrk")
    for program in (BENCH_AXUM, BENCH_LOAD, BENCH_ARRIVALS, BENCH_RMCP):
        if not program.exists():
            found.append(f"{program.name} is not built: use `make bench`")
    if len(os.sched_getaffinity(0)) < 2:
        found.append("two cores are needed: one for the server, one for the load")
    return found


@dataclass(frozen=True)
class Ask:
    """What each connection asks, and the JSON that must come back."""

    path: str
    answer: object
    body: str | None = None
    """With one it is a POST, without a GET."""


def http(server: Running, ask: Ask, seconds: float, connections: int = 64) -> Sample:
    """Asks as fast as the server answers; one answer is read first, so that all servers do the same work."""
    method, headers = "GET", {"authorization": f"Bearer {server.token}"}
    target = server.url + ask.path
    command = ["wrk", "-t1", f"-c{connections}", "-H", f"authorization: {headers['authorization']}"]
    if ask.body is not None:
        method, headers["content-type"] = "POST", "application/json"
        script = server.scratch / "post.lua"
        script.write_text(POST_SCRIPT, encoding="ascii")
        command += ["-s", str(script)]
    answer = httpx.request(method, target, headers=headers, content=ask.body, trust_env=False)
    if answer.status_code != 200 or answer.json() != ask.answer:
        raise BenchError(f"{server.server.name}{ask.path} answers {answer.status_code}: {answer.text[:500]}")
    return timed_wrk(server, [*command, target], seconds)


def timed_wrk(server: Running, command: list[str], seconds: float) -> Sample:
    """Warms up for a quarter of the time, then measures; an answer that is an error spoils the round."""
    run_wrk(server, [*command, f"-d{max(1, round(seconds / 4))}s"])
    before = server.cpu_s()
    text = run_wrk(server, [*command, f"-d{max(1, round(seconds))}s"])
    cpu_s = server.cpu_s() - before
    counted = re.search(r"(\d+) requests in ([\d.]+)(m|s),", text)
    trouble = re.search(r"(Non-2xx.*|Socket errors.*)", text)
    if counted is None or trouble:
        raise BenchError(f"{server.server.name}: {command[-1]}: {trouble.group() if trouble else text}")
    unit_s = 60 if counted[3] == "m" else 1
    return Sample(int(counted[1]), float(counted[2]) * unit_s, cpu_s)


def pinned(server: Running) -> Callable[[], None]:
    """What a load's process calls first: it goes beside the server, or to all cores where the server has all."""
    cores = LOAD_CORE if server.server.cores == SERVER_CORE else server.server.cores
    return lambda: os.sched_setaffinity(0, cores)


def run_wrk(server: Running, command: list[str]) -> str:
    """What the program says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=pinned(server))
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Talk:
    """What each socket says; see ``bench_load.rs``."""

    path: str
    send: str
    expect: str
    """What every frame that is counted holds."""
    hello: int = 0
    open: str | None = None
    flight: int = 1
    """How many broadcasts are under way at once."""


def sockets(server: Running, kind: str, talk: Talk, seconds: float, connections: int) -> Sample:
    """``echo``: every socket sends and waits; ``fanout``: one sends, all hear."""
    command = [str(BENCH_LOAD), kind, "--url", f"ws://127.0.0.1:{server.port}{talk.path}", "--send", talk.send]
    command += ["--connections", str(connections), "--seconds", str(seconds), "--hello", str(talk.hello)]
    command += ["--token", server.token, "--expect", talk.expect, "--flight", str(talk.flight)]
    if talk.open is not None:
        command += ["--open", talk.open]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=pinned(server),
    ) as load:
        assert load.stdout is not None
        first = load.stdout.readline()
        before = server.cpu_s()
        second = load.stdout.readline()
        cpu_s = server.cpu_s() - before
        _, trouble = load.communicate()
    if load.returncode or not first:
        raise BenchError(f"{server.server.name}{talk.path}: {trouble.strip()}\n{server.log()}")
    counted = json.loads(second)
    if counted["messages"] == 0:
        raise BenchError(f"{server.server.name}{talk.path}: no message came back\n{server.log()}")
    return Sample(counted["messages"], counted["seconds"], cpu_s)
