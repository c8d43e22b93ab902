"""`examples/agent_loop.py`, driven by a model that says what it is told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kit import PATIENCE_S

from plugbay import discovery
from plugbay.testing import RunningHost, running_host

EXAMPLES = Path(__file__).parents[1] / "examples"
LOOP = EXAMPLES / "agent_loop.py"


@contextmanager
def model(*script: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server with OpenAI's chat API, and what it was asked; it answers with the messages of the script, in turn."""
    asked: list[dict[str, Any]] = []
    answers = iter(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append({"path": self.path, "authorization": self.headers["authorization"], **body})
            answer = json.dumps({"choices": [{"message": {"role": "assistant", **next(answers)}}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()


def wants(id: str, name: str, **arguments: Any) -> dict[str, Any]:
    """A message that asks for a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}


def run(host: RunningHost, url: str, wish: str) -> subprocess.CompletedProcess[str]:
    token = host.http.post("/api/host/tokens", json={"name": "agent", "scopes": ["call"]}).json()["token"]
    environment = {
        **os.environ,
        "PLUGBAY_URL": host.url,
        "PLUGBAY_TOKEN": token,
        "MODEL_URL": url,
        "MODEL_KEY": "key",
        "MODEL": "scripted",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(LOOP), wish]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_model_calls_tools_by_its_own_names_and_reads_what_they_say() -> None:
    with running_host(EXAMPLES / "ping", mode="plan") as host:
        script = (
            wants("1", "ping__echo", text="hello"),
            wants("2", "ping__echo", wrong=1),
            wants("3", "no__such"),
            {"content": "It said hello."},
        )
        with model(*script) as (url, asked):
            done = run(host, url, "Say hello.")
    assert (done.returncode, done.stdout) == (0, "It said hello.\n"), done.stderr
    first, *_, last = asked
    assert first["path"] == "/v1/chat/completions"
    assert first["authorization"] == "Bearer key"
    assert first["messages"] == [{"role": "user", "content": "Say hello."}]
    assert "ping__echo" in {tool["function"]["name"] for tool in first["tools"]}
    said = [json.loads(message["content"]) for message in last["messages"] if message["role"] == "tool"]
    assert said[0] == {"echo": "hello"}
    assert [answer["code"] for answer in said[1:]] == ["invalid", "not_found"]


def test_the_loop_is_short_and_no_plugin() -> None:
    assert len(LOOP.read_text().splitlines()) < 80
    assert str(LOOP) not in [found.source for found in discovery.in_folder(EXAMPLES)]


def test_a_program_with_a_plugin_in_it_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text("#!/usr/bin/env python3\nPLUGIN = None\n")
    assert [found.source for found in discovery.in_folder(tmp_path)] == [str(tmp_path / "both.py")]
