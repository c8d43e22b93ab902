"""An outside MCP server on HTTP of which a test decides each answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]


class Stub:
    """A server with tools of these names, which answers in JSON and has sessions.

    A test puts its own functions in place of the methods.
    """

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.session = "1"
        """The only session that it knows."""
        self.down = False
        """Whether a gateway says that it is not there."""
        self.ended = threading.Event()

    def called(self, message: Message) -> Message:
        """The result of a call, or an error of JSON-RPC."""
        return {"result": {"content": [{"type": "text", "text": message["params"]["name"]}]}}

    def listed(self) -> None:
        """Is called before the list is given."""

    def streams(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers a GET: a server that says nothing unasked."""
        handler.send_error(405)

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[int]:
        """Serve at a port, which is free at the end, with no connection left."""
        with _Server(("127.0.0.1", port), _handler(self)) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            try:
                yield server.server_port
            finally:
                self.ended.set()
                server.shutdown()

    def result(self, message: Message) -> Message:
        """What a request is answered."""
        match message["method"]:
            case "initialize":
                about = {"name": "stub", "version": "1"}
                tools = {"tools": {"listChanged": True}}
                return {"result": {"protocolVersion": "2025-06-18", "capabilities": tools, "serverInfo": about}}
            case "tools/list":
                self.listed()
                return {"result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.names]}}
            case "tools/call":
                return self.called(message)
            case _:
                return {"result": {}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a host that has gone."""


def _handler(stub: Stub) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            begins = message["method"] == "initialize"
            if stub.down:
                self.answer(503)
            elif not begins and self.headers["mcp-session-id"] != stub.session:
                self.answer(404)
            elif "id" not in message:
                self.answer(202)
            else:
                self.answer(200, {"jsonrpc": "2.0", "id": message["id"], **stub.result(message)}, begins)

        def do_GET(self) -> None:
            stub.streams(self)

        def do_DELETE(self) -> None:
            self.answer(200)

        def answer(self, status: int, value: Message | None = None, begins: bool = False) -> None:
            body = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            if begins:
                self.send_header("Mcp-Session-Id", stub.session)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: Any) -> None:
            """Say nothing."""

    return Handler


def begin_stream(handler: BaseHTTPRequestHandler, **headers: str) -> None:
    """The head of a stream of events; the stream ends with the connection, or as the headers have it."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
