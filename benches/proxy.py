"""The cases of the proxy to a plugin's server, against nginx and HAProxy in front of the same Node program."""

import os
import sys
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import cases as others
from cases import LAMP, OURS, SAID, Case, Entry, Load, Target, echo
from front import node_folder
from load import Ask, Sample, Talk, http
from process import BENCHES, LOAD_CORE, BenchError, Running, Server

RPC = "/api/plugins/bench-node/rpc/item"
ALONE = 2000
"""So many requests, one after the other, are timed in each round."""


def host(probe: str) -> Server:
    """A host with the Node program as a child."""
    serve = ["serve", "--port", "{port}", "--plugins-dir", str(BENCHES / "proxies"), "--workers", "1"]
    command = [sys.executable, "-m", "plugbay", *serve, "--access-log", "off", "--ready-json"]
    path = os.pathsep.join([node_folder(), os.environ.get("PATH", "")])
    home = {"PLUGBAY_HOME": "{home}/plugbay", "PLUGINS_DIR": "", "PATH": path}
    return Server(OURS, command, probe, env=home, token_file="{home}/plugbay/token")


def front(name: str) -> Server:
    """Another proxy, or Node alone."""
    command = [sys.executable, str(Path(__file__).parent / "front.py"), name, "{port}", "{home}"]
    return Server(name, command, "/item")


def timed(path: str) -> Load:
    """wrk on 64 connections for the CPU time; then one connection, one request after the other, for the median."""

    def load(server: Running, seconds: float) -> Sample:
        sample = http(server, Ask(path, LAMP), seconds)
        return replace(sample, more={"p50_us": alone(server, path)})

    return load


def alone(server: Running, path: str) -> float:
    """The median time of an answer when nothing else is asked, in microseconds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, LOAD_CORE)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Authorization": f"Bearer {server.token}"}
    times = []
    try:
        for _ in range(ALONE):
            started = time.perf_counter()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - started)
            if answer.status != 200:
                raise BenchError(f"{server.server.name}{path} answers {answer.status}")
    finally:
        connection.close()
        os.sched_setaffinity(0, before)
    return median(times) * 1e6


def cases() -> list[Case]:
    """Every case, in the order of the report: those of the host's own, then those of the proxy."""
    said = '{"event":"say","data":"hello there","number":42}'
    ours = Talk("/plugin-ws/bench-node", said, SAID)
    theirs = Talk("/ws", said, SAID)
    rpc = Case(
        "rpc",
        "A request to a plugin's server: JSON from Node, 64 connections",
        "request",
        [
            Entry(OURS, host(RPC), timed(RPC)),
            Entry("nginx", front("nginx"), timed("/item")),
            Entry("haproxy", front("haproxy"), timed("/item")),
            Entry("node alone", front("node"), timed("/item")),
        ],
        [Target(OURS, "nginx", "cpu_us", 1.15)],
    )
    tunnel = Case(
        "tunnel",
        "A message to a plugin's server and back: echo from Node, 64 WebSockets",
        "message",
        [
            Entry(OURS, host(RPC), echo(ours)),
            Entry("nginx", front("nginx"), echo(theirs)),
            Entry("haproxy", front("haproxy"), echo(theirs)),
            Entry("node alone", front("node"), echo(theirs)),
        ],
        [Target(OURS, "nginx", "cpu_us", 1.1)],
    )
    return [*others.cases(), rpc, tunnel]
