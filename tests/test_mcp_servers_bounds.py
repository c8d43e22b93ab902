"""Mounted MCP servers on standard streams that say too much, read too little, or say nothing at all."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp_mounted import call, mounting, names, until
from served import Served

from plugbay.testing import running_host

BAD = """
import json, sys, threading, time

ill, page = sys.argv[1], 0

def say(id, **result):
    print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}), flush=True)

def flood():
    while True:
        sys.stderr.write("flood " * 30 + "\\n")

for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize" if ill != "mute":
            about = {"name": "bad", "version": "1"}
            say(message["id"], protocolVersion="2025-06-18", capabilities={"tools": {}}, serverInfo=about)
        case "tools/list":
            page += 1
            tool = {"name": f"t{page}", "inputSchema": {"type": "object"}}
            if ill == "pages":
                say(message["id"], tools=[{**tool, "description": "x" * (3 << 20)}], nextCursor=str(page))
            else:
                say(message["id"], tools=[tool])
            if ill == "deaf":
                threading.Event().wait()
            if ill == "flood":
                threading.Thread(target=flood, daemon=True).start()
"""


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """The program of a server that has the ill of its argument."""
    path = tmp_path / "bad.py"
    path.write_text(BAD)
    return path


def with_ill(bad: Path, ill: str, **more: Any) -> dict[str, Any]:
    """How a server with this ill is mounted."""
    return {"command": sys.executable, "args": [str(bad), ill], **more}


def served(home: Path, bad: Path, ill: str, more: str = "") -> Served:
    """A host in a process of its own that mounts a server with this ill."""
    config = home.parent / "bad.toml"
    entry = f'[mcp.servers.out]\ncommand = "{sys.executable}"\nargs = ["{bad}", "{ill}"]\n'
    config.write_text(f'mode = "autonomous"\n{entry}{more}')
    return Served(home, "--config", str(config)).ready()


def test_one_that_does_not_read_is_ended_and_comes_back(bad: Path) -> None:
    with mounting(**with_ill(bad, "deaf", timeout_s=0.2)) as host:
        # More than a pipe holds.
        assert call(host, "out.t1", text="x" * (1 << 20))[0] == "timeout"
        until(lambda: host.registry.errors)
        (error,) = host.registry.errors
        assert (error.stage, error.code) == ("run", "upstream")
        assert "has read nothing" in error.message
        until(lambda: "out.t1" in names(host.http))


def test_what_it_does_not_read_does_not_fill_the_memory(home: Path, bad: Path) -> None:
    with served(home, bad, "deaf", 'timeout_s = 0.1\nread_only = ["*"]\n') as host, host.client() as asking:

        def resident() -> int:
            pages = Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]
            return int(pages) * 4096 >> 20

        def ask(_: int) -> str:
            return str(asking.post("/api/host/tools/out.t1", json={"text": "x" * (1 << 20)}).json()["code"])

        until(lambda: names(asking))
        before = resident()
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(ask, range(160))) == {"timeout"}
        # All of them take 175.
        assert resident() - before < 100


def test_a_list_of_too_many_bytes_is_its_plugins_error(bad: Path) -> None:
    with mounting(**with_ill(bad, "pages")) as host:
        error = host.registry.errors[0]
        assert (error.plugin, error.stage, error.code) == ("out", "startup", "upstream")
        assert "more than 16 MiB" in error.message


def test_of_an_error_stream_without_end_lines_are_left_out(home: Path, bad: Path) -> None:
    with served(home, bad, "flood") as host:
        host.logged(r"\d+ lines of its error stream are left out")
        assert len(host.log) < 1 << 20


def test_one_that_says_nothing_holds_up_the_start_but_a_little(bad: Path) -> None:
    begun = time.monotonic()
    with running_host(mcp={"servers": {"out": with_ill(bad, "mute")}}, limits={"hook_time_s": 60.0}) as host:
        assert time.monotonic() - begun < 30
        assert host.http.get("/readyz").status_code == 200
