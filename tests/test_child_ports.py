"""A child's port in other hands: nobody but the child gets a request, a secret or the name of a caller."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from children import reaches, row, until, write_child, written
from kit import PATIENCE_S
from raw import CLOSE, Socket

from plugbay.testing import RunningHost, running_host

CANARY = "canary-6d01fb"

LEAVES = """
const http = require('node:http');
let port = 0;
setInterval(() => {}, 1000);
const server = http.createServer((request, response) => {
  response.setHeader('connection', 'close');
  response.end(`${process.pid} ${request.headers['x-plugin-secret-key']}`);
});
process.on('SIGHUP', () => server.close(() => console.error('left')));
process.on('SIGUSR2', () => server.listen(port, '127.0.0.1', () => console.error('back')));
server.listen(0, '127.0.0.1', () => {
  port = server.address().port;
  console.log(JSON.stringify({ ready: true, port }));
});
"""
"""A server that leaves its port at SIGHUP, without an end of its own, and comes back at SIGUSR2."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningHost]:
    """A host with a child that has a secret."""
    write_child(tmp_path / "plugins", "leaves", LEAVES, restart="never")
    with running_host(plugins_dirs=[tmp_path / "plugins"]) as host:
        host.http.put("/api/host/plugins/leaves/secrets/key", json={"value": CANARY}).raise_for_status()
        yield host


@contextmanager
def squatting(port: int) -> Iterator[list[bytes]]:
    """Whoever connects to the port is accepted here; what each one says before it leaves."""
    heard: list[bytes] = []
    listener: socket.socket | None = None
    for _ in range(1_000_000):
        try:
            listener = socket.create_server(("127.0.0.1", port))
            break
        except OSError:
            continue
    assert listener is not None, "the port was never free"

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_S)
                said = b""
                try:
                    while piece := connection.recv(1 << 16):
                        said += piece
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                except OSError:
                    pass
                heard.append(said)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        # Only so is a thread woken that waits for the next.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def test_a_port_that_a_child_has_left_is_not_asked_until_it_is_back(host: RunningHost) -> None:
    child = reaches(host.http, "leaves", "running")["server"]
    path = "/api/plugins/leaves/rpc/x"
    assert host.http.get(path).text == f"{child['pid']} {CANARY}"
    os.kill(child["pid"], signal.SIGHUP)
    written(host.http, "leaves", "left")
    nobody = host.http.get(path)
    assert (nobody.status_code, nobody.json()["plugin"]) == (502, "leaves")
    with squatting(child["port"]) as heard:
        for method in ("GET", "POST", "PUT"):
            answer = host.http.request(method, path, content=b"body")
            assert (answer.status_code, answer.json()["code"]) == (502, "upstream")
            assert "belongs to another process" in answer.json()["detail"]
        with Socket(host.url, host.token, "/plugin-ws/leaves") as tunnel:
            frame = tunnel.receive()
            assert frame is not None and (frame.opcode, frame.close_code) == (CLOSE, 4502)
        until(lambda: len(heard) == 4, "four connections that end")
    assert heard == [b""] * 4
    os.kill(child["pid"], signal.SIGUSR2)
    written(host.http, "leaves", "back")
    assert host.http.get(path).text == f"{child['pid']} {CANARY}"
    assert row(host.http, "leaves")["server"]["runs"] == 1


def test_who_waits_for_the_port_of_a_child_that_is_killed_hears_nothing(host: RunningHost) -> None:
    path = "/api/plugins/leaves/rpc/x"
    over = threading.Event()

    def load() -> set[tuple[int, bool]]:
        answers = set()
        with httpx.Client(base_url=host.url, headers=host.http.headers, timeout=PATIENCE_S) as client:
            while not over.is_set():
                answer = client.get(path)
                answers.add((answer.status_code, answer.text.endswith(CANARY)))
        return answers

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load) for _ in range(3)]
        try:
            for _ in range(20):
                host.http.post("/api/host/plugins/leaves/start").raise_for_status()
                child = reaches(host.http, "leaves", "running")["server"]
                until(lambda: host.http.get(path).status_code == 200, "an answer")
                os.kill(child["pid"], signal.SIGKILL)
                with squatting(child["port"]) as heard:
                    reaches(host.http, "leaves", "failed")
                    assert host.http.get(path).status_code == 503
                assert set(heard) <= {b""}
        finally:
            over.set()
        answers = set().union(*(each.result(PATIENCE_S) for each in loads))
    assert answers <= {(200, True), (502, False), (503, False)}
