"""The proxy to plugins' servers, with Node and Python servers, and clients that are not ours."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator

import pytest
from proxied import NODE, NODE_CHECK, PYTHON_CHECK, SOCKETS, STREAMS, shown, write_child
from served import Served
from soak.system import Process
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

MIB = 1 << 20


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A host with four plugins whose servers are processes of their own."""
    folder = tmp_path_factory.mktemp("proxy")
    plugins = folder / "plugins"
    python = [sys.executable, "server.py"]
    write_child(plugins, "node-check", "server.mjs", shown("node") + NODE_CHECK)
    write_child(plugins, "python-check", "server.py", shown("python") + PYTHON_CHECK, python)
    write_child(plugins, "streams", "server.js", STREAMS)
    write_child(plugins, "sockets", "server.py", SOCKETS, python)
    path = os.pathsep.join([str(NODE), os.environ["PATH"]])
    with Served(folder / "home", "--access-log", "off", plugins=plugins, PATH=path) as served:
        yield served.ready()


def opened(host: Served, query: str = "", **options: object) -> ClientConnection:
    """A socket to the plugin `sockets`."""
    headers = {"Authorization": f"Bearer {host.token}"}
    url = f"ws://127.0.0.1:{host.port}/plugin-ws/sockets{query}"
    return connect(url, additional_headers=headers, max_size=None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", ["node", "python"])
def test_the_verifier_of_the_documentation_believes_the_host_and_nobody_else(host: Served, language: str) -> None:
    with host.client() as client:
        answer = client.get(f"/api/plugins/{language}-check/rpc/a%2Fb?x=%20&token=t").json()
    assert answer["user"] == "owner"
    believed = {who for who, is_believed in answer["believed"].items() if is_believed}
    assert believed == {"host", "a moment ago"}


@pytest.mark.parametrize("pieces", [1024, pytest.param(32 * 1024, marks=pytest.mark.soak)])
def test_an_upload_and_an_answer_of_any_size_pass_at_constant_memory(host: Served, pieces: int) -> None:
    piece = bytes(range(256)) * 256
    system = Process(host.process.pid)
    with host.client() as client:
        client.post("/api/plugins/streams/rpc/", content=piece)
        before = system.rss_bytes
        peak = before
        digest = hashlib.sha256()

        def body() -> Iterator[bytes]:
            nonlocal peak
            for number in range(pieces):
                if number % 64 == 0:
                    peak = max(peak, system.rss_bytes)
                digest.update(piece)
                yield piece

        answer = client.post("/api/plugins/streams/rpc/upload", content=body()).json()
        assert answer == {"bytes": pieces * len(piece), "digest": digest.hexdigest()}
        received = 0
        with client.stream("GET", f"/api/plugins/streams/rpc/?pieces={pieces}") as stream:
            for number, bytes_ in enumerate(stream.iter_raw(MIB)):
                if number % 64 == 0:
                    peak = max(peak, system.rss_bytes)
                received += len(bytes_)
    assert received == pieces * 64 * 1024
    assert peak - before < 16 * MIB


def test_compression_sub_protocol_and_fragments_pass_end_to_end(host: Served) -> None:
    with opened(host, "?token=t&room=1", subprotocols=["first", "third"]) as socket:
        assert socket.subprotocol == "first"
        assert [type(extension).__name__ for extension in socket.protocol.extensions] == ["PerMessageDeflate"]
        hello = json.loads(socket.recv(timeout=30))
        assert hello == {"path": "/ws?room=1", "subprotocol": "first", "extensions": ["PerMessageDeflate"]}
        text = "grüße " * 100_000
        socket.send(text)
        assert socket.recv(timeout=30) == text
        socket.send(iter(["a", "b", "c"]))
        assert socket.recv(timeout=30) == "abc"
        socket.send("parts")
        # The library ends a message in parts with an empty one.
        assert list(socket.recv_streaming()) == ["one ", "two ", "three", ""]
        assert socket.ping().wait(30)
    with opened(host, compression=None) as socket:
        assert socket.protocol.extensions == []
        assert json.loads(socket.recv(timeout=30))["extensions"] == []


def test_close_codes_and_reasons_pass_both_ways(host: Served) -> None:
    with opened(host) as socket:
        socket.recv(timeout=30)
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")
    with opened(host) as socket:
        socket.recv(timeout=30)
        socket.close(4567, "enough")
    with opened(host) as socket:
        socket.recv(timeout=30)
        socket.send("closed")
        while (heard := socket.recv(timeout=30)) != "4567 enough":
            assert heard.startswith(("1000", "4321")), heard
            socket.send("closed")


@pytest.mark.parametrize("pieces", [1024, pytest.param(4000, marks=pytest.mark.soak)])
def test_a_flood_that_a_client_does_not_read_costs_the_host_no_memory(host: Served, pieces: int) -> None:
    system = Process(host.process.pid)
    with opened(host, compression=None) as socket, host.client() as client:
        socket.recv(timeout=30)
        before = system.rss_bytes
        socket.send(f"flood {pieces}")
        # The flood stands still: others are served all the same.
        for _ in range(20):
            assert client.get("/api/plugins/python-check/rpc/").status_code == 200
        assert system.rss_bytes - before < 16 * MIB
        peak = 0
        for _ in range(pieces):
            assert len(socket.recv(timeout=30)) == 64 * 1024
            peak = max(peak, system.rss_bytes)
        assert peak - before < 16 * MIB
