"""Mounted MCP servers on HTTP that are busy, go away, come back as others, or do not let the host rest."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from kit import PATIENCE_S, happened
from mcp_mounted import call, mounting, names, until
from mcp_stub import Message, Stub, begin_stream

from plugbay.testing import RunningHost

CALLS = 40
"""More than rmcp would have under way at once."""

CHANGED = b'data: {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}\n\n'


def at(port: int, **more: Any) -> Any:
    """A host that mounts the server at this port."""
    return mounting(url=f"http://127.0.0.1:{port}/mcp", **more)


def become(host: RunningHost, *expected: str) -> None:
    """Wait until the server's tools are these."""
    until(lambda: names(host.http) == {f"out.{name}" for name in expected})


class Telling(Stub):
    """A server that says that its list has changed when it is told to; its stream breaks off when it ends."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.change = threading.Event()

    def streams(self, handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler, Content_Length="100000")
        while not self.ended.is_set():
            if self.change.wait(0.01):
                self.change.clear()
                handler.wfile.write(CHANGED)


def test_many_calls_are_under_way_at_once_and_the_list_waits_for_none() -> None:
    stub = Telling("long")
    all_there, full, listed = threading.Barrier(CALLS), threading.Event(), threading.Event()

    def long(message: Message) -> Message:
        if all_there.wait(PATIENCE_S) == 0:
            full.set()
            stub.change.set()
        return Stub.called(stub, message) if happened(listed) else {"error": {"code": -32603, "message": "no list"}}

    def again() -> None:
        if full.is_set():
            listed.set()

    stub.called, stub.listed = long, again  # type: ignore[method-assign]
    with stub.serving() as port, at(port) as host, ThreadPoolExecutor(CALLS) as pool:
        answers = set(pool.map(lambda _: str(call(host, "out.long")), range(CALLS)))
        assert answers == {"long"}
        assert host.registry.errors == []


def test_a_list_that_does_not_come_leaves_the_one_before_and_is_asked_for_again() -> None:
    stub = Telling("old")
    asked = threading.Semaphore(0)

    def never() -> None:
        asked.release()
        stub.ended.wait()

    with stub.serving() as port, at(port) as host:
        stub.listed = never  # type: ignore[method-assign]
        stub.change.set()
        for _ in range(2):
            # The host waits for a list as long as tests do for an event.
            assert asked.acquire(timeout=2 * PATIENCE_S)
            assert names(host.http) == {"out.old"}
        (error,) = host.registry.errors
        assert error.code == "timeout"
        assert "asked again" in error.message
        assert call(host, "out.old") == "old"


def test_one_that_is_gone_when_it_is_called_loses_its_tools_and_comes_back_with_others() -> None:
    stub = Stub("old")
    with stub.serving() as port, at(port) as host:
        assert call(host, "out.old") == "old"
        stub.names = ["new"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stub, "down", True)
            assert call(host, "out.old")[0] == "upstream"
            become(host)
        assert {(error.plugin, error.code) for error in host.registry.errors} == {("out", "upstream")}
        become(host, "new")
        assert call(host, "out.new") == "new"


def test_one_that_is_not_there_when_it_is_called_is_its_plugins_error() -> None:
    with Stub("old").serving() as port:
        mounted = at(port)
        host = mounted.__enter__()
    try:
        assert call(host, "out.old")[0] == "unavailable"
        become(host)
        assert [error.plugin for error in host.registry.errors][:1] == ["out"]
        with Stub("new").serving(port):
            become(host, "new")
    finally:
        mounted.__exit__(None, None, None)


def test_a_stream_that_breaks_off_shows_that_the_server_has_gone() -> None:
    with Telling("old").serving() as port:
        mounted = at(port)
        host = mounted.__enter__()
    try:
        become(host)
        with Telling("new").serving(port):
            become(host, "new")
    finally:
        mounted.__exit__(None, None, None)


def test_when_a_stream_is_asked_for_again_the_list_is_read_anew() -> None:
    stub = Stub("old")
    stub.streams = lambda handler: begin_stream(handler, Content_Length="0")  # type: ignore[method-assign]
    with stub.serving() as port, at(port) as host:
        # Nothing is said of it, and nothing is called.
        stub.names = ["new"]
        become(host, "new")
        assert host.registry.errors == []


def test_behind_a_session_that_has_ended_the_list_is_read_anew() -> None:
    stub = Stub("old")
    with stub.serving() as port, at(port) as host:
        stub.names, stub.session = ["new"], "2"
        code, message = call(host, "out.old")
        assert code == "unavailable"
        assert "ask again" in message
        become(host, "new")
        assert call(host, "out.new") == "new"


def test_a_tool_that_the_server_knows_no_more_has_the_list_read_anew() -> None:
    stub = Stub("old")

    def unknown(message: Message) -> Message:
        return {"error": {"code": -32602, "message": "no such tool"}}

    with stub.serving() as port, at(port) as host:
        stub.names, stub.called = ["new"], unknown  # type: ignore[method-assign]
        assert call(host, "out.old")[0] == "upstream"
        become(host, "new")
        assert host.registry.errors == []


@pytest.mark.parametrize("length", ["30", "100000"], ids=["that ends", "that breaks off"])
def test_a_stream_is_asked_for_again_after_a_rest(length: str) -> None:
    stub, asked = Stub("old"), threading.Semaphore(0)

    def ends(handler: BaseHTTPRequestHandler) -> None:
        begin_stream(handler, Content_Length=length)
        handler.wfile.write(b"id: 1\nretry: 0\ndata:\n\n".ljust(30, b"\n"))
        asked.release()

    def is_asked() -> bool:
        return asked.acquire(timeout=PATIENCE_S)

    stub.streams = ends  # type: ignore[method-assign]
    with stub.serving() as port, at(port):
        assert is_asked()
        begun = time.monotonic()
        assert is_asked() and is_asked() and is_asked()
        # What the test itself is late by makes the first rest shorter.
        assert time.monotonic() - begun > 2
