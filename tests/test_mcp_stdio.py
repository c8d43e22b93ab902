"""`plugbay mcp --stdio`: what a client that starts a command gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import PATIENCE_S
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_clients import MODES, run
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
                import json

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
