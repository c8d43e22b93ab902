"""`plugbay mcp --stdio`: what a client that starts a command gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import PATIENCE_S
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_clients import INITIALIZE, MODES, run
from served import Served, write_plugin

NOISY = """
import os, subprocess, sys

print("print at import")
os.write(1, b"bytes at import\\n")

def echo(text: str) -> str:
    "Say it again, with noise."
    print("print in the handler", flush=True)
    os.write(1, b"bytes in the handler\\n")
    subprocess.run(["echo", "a child of the handler"], check=True)
    return text + sys.stdin.read()

def setup(host):
    print("print in setup")
    host.add_agent_tool(echo)
"""


@asynccontextmanager
async def started(home: Path, mode: str, log: Any, *words: str, **environment: str) -> AsyncIterator[Client]:
    """A client that has started the command."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "plugbay", "mcp", "--stdio", *words],
        env={"PLUGBAY_HOME": str(home), **environment},
    )
    async with Client(stdio_client(parameters, errlog=log), mode=mode) as connected:
        yield connected


@pytest.mark.parametrize("mode", MODES)
def test_plugins_that_print_everywhere_do_not_disturb_it(home: Path, tmp_path: Path, mode: str) -> None:
    write_plugin(tmp_path / "plugins", "noisy", NOISY)
    log = tmp_path / "log"

    async def work() -> None:
        with log.open("w") as errors:
            async with started(home, mode, errors, "--plugins-dir", str(tmp_path / "plugins")) as connected:
                assert [tool.name for tool in (await connected.list_tools()).tools] == ["echo"]
                for text in ("one", "two"):
                    assert (await connected.call_tool("echo", {"text": text})).content[0].text == text

    run(work)
    for where in ("print at import", "bytes at import", "print in setup", "bytes in the handler", "a child of"):
        assert where in log.read_text()
    assert not (home / "host.json").exists()


@pytest.mark.parametrize("mode", MODES)
def test_it_joins_the_host_that_runs_as_somebody_who_may_only_call(home: Path, tmp_path: Path, mode: str) -> None:
    text = """
from plugbay import ToolContext

def who(ctx: ToolContext) -> list[str]:
    "Name who asks."
    return [ctx.principal.name, *sorted(ctx.principal.scopes)]

def setup(host):
    host.add_agent_tool(who)
"""
    write_plugin(tmp_path / "plugins", "whoami", text)
    with Served(home, plugins=tmp_path / "plugins").ready() as served, served.client() as http:

        async def work() -> None:
            async with started(home, mode, sys.stderr) as connected:
                name, *scopes = json.loads((await connected.call_tool("who", {})).content[0].text)
                assert name.startswith("mcp-stdio-")
                assert scopes == ["call"]

        run(work)
        assert [token["name"] for token in http.get("/api/host/tokens").json()["tokens"]] == ["owner"]


def test_the_end_of_its_input_is_its_end(home: Path) -> None:
    command = [sys.executable, "-m", "plugbay", "mcp", "--stdio"]
    environment = {**os.environ, "PLUGBAY_HOME": str(home)}
    done = subprocess.run(command, env=environment, input=b"", capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_host_that_goes_away_is_said(home: Path, tmp_path: Path) -> None:
    with Served(home).ready() as served:
        command = [sys.executable, "-m", "plugbay", "mcp", "--stdio"]
        environment = {**os.environ, "PLUGBAY_HOME": str(home)}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":')
            process.stdin.write(b'"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}\n')
            process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
            process.stdin.flush()
            assert b'"serverInfo"' in process.stdout.readline()
            served.stop()
            process.stdin.write(b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n')
            process.stdin.flush()
            answer = process.stdout.readline()
            assert b'"id":2' in answer
            assert b'"error"' in answer
            process.stdin.close()
            process.wait(PATIENCE_S)


class Talk:
    """The command, spoken with line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, line: bytes) -> Any:
        self.say(line)
        return self.hear()


@contextmanager
def talking(home: Path) -> Iterator[Talk]:
    """A client of the old era that has introduced itself."""
    command = [sys.executable, "-m", "plugbay", "mcp", "--stdio"]
    environment = {**os.environ, "PLUGBAY_HOME": str(home)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            talk = Talk(process)
            assert "serverInfo" in talk.ask(json.dumps(INITIALIZE).encode())["result"]
            talk.say(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            yield talk
        finally:
            process.kill()


def call(id: str, arguments: str) -> bytes:
    params = f'{{"name":"echo","arguments":{arguments}}}'
    return f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}'.encode()


REFUSED: dict[str, tuple[bytes, int, Any]] = {
    "an integer beyond 64 bits": (call("7", '{"text":99999999999999999999}'), -32602, 7),
    "a name that is read as another value": (call('"a"', '{"$serde_json::private::RawValue":"{}"}'), -32602, "a"),
    "no JSON": (b"hello", -32700, None),
    "no UTF-8": (b'{"a":"\xff"}', -32700, None),
    "too many levels": (call("1", "[" * 200 + "]" * 200), -32700, None),
    "several at once": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
    "no message": (b'{"id":3}', -32600, 3),
    "too long": (b" " * ((16 << 20) + 1), -32600, None),
}


def test_a_line_that_cannot_be_passed_on_is_answered_and_the_next_one_passes(home: Path, tmp_path: Path) -> None:
    text = """
def echo(text: object) -> object:
    "Say it again."
    return {"text": text}

def setup(host):
    host.add_agent_tool(echo)
"""
    write_plugin(tmp_path / "plugins", "echoing", text)
    with Served(home, plugins=tmp_path / "plugins").ready(), talking(home) as talk:
        for name, (line, code, id) in REFUSED.items():
            answer = talk.ask(line)
            assert (answer["error"]["code"], answer["id"]) == (code, id), name
        # Nobody waits for an answer to these two.
        talk.say(b"")
        talk.say(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99999999999999999999}}')
        answer = talk.ask(call("8", '{"text":18446744073709551615}'))
        assert answer["id"] == 8
        assert answer["result"]["structuredContent"] == {"text": 18446744073709551615}


def test_a_token_that_is_taken_no_more_ends_it_with_a_word(home: Path) -> None:
    with Served(home).ready() as served, served.client() as http, talking(home) as talk:
        assert "result" in talk.ask(b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}')
        (mine,) = [
            token for token in http.get("/api/host/tokens").json()["tokens"] if token["name"].startswith("mcp-stdio-")
        ]
        assert mine["expires"] is not None
        http.delete(f"/api/host/tokens/{mine['name']}").raise_for_status()
        assert "error" in talk.ask(b'{"jsonrpc":"2.0","id":3,"method":"tools/list"}')
        _, errors = talk.process.communicate(timeout=PATIENCE_S)
        assert talk.process.returncode not in (0, -9)
        assert b"takes the token no more" in errors
