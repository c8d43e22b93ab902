"""`/mcp` under MCP's own tools, and how its streams end."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp_clients import inspect, modern, node
from served import Served, write_plugin

from plugbay.testing import running_host

CONFORMANCE = Path(__file__).parent / "plugins" / "conformance.py"
EXPECTED = Path(__file__).parent / "node" / "expected-failures.yml"


def test_the_conformance_suite_fails_only_where_it_must(tmp_path: Path) -> None:
    with running_host(CONFORMANCE, auth="none") as host:
        words = ["server", "--url", f"{host.url}/mcp", "--suite", "all", "--expected-failures", str(EXPECTED)]
        done = node("conformance/dist/index.js", *words, home=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_every_schema_portable(era: str, tmp_path: Path) -> None:
    with running_host(CONFORMANCE) as host:
        header = ["--header", f"Authorization: Bearer {host.token}"]
        common = [f"{host.url}/mcp", "--transport", "http", "--protocol-era", era, *header]
        listed = inspect(*common, "--strict", "--method", "tools/list", home=tmp_path)
        assert listed.returncode == 0, listed.stderr
        assert "test_simple_text" in {tool["name"] for tool in json.loads(listed.stdout)["tools"]}
        called = inspect(*common, "--method", "tools/call", "--tool-name", "test_simple_text", home=tmp_path)
        assert called.returncode == 0, called.stderr
        assert json.loads(called.stdout)["content"][0]["type"] == "text"


def test_a_stop_ends_the_streams_and_lets_calls_finish(home: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = f"""
def wait() -> str:
    "Wait until somebody writes."
    print("waiting")
    return open({str(pipe)!r}).read()

def setup(host):
    host.add_agent_tool(wait)
"""
    write_plugin(tmp_path / "plugins", "waiting", text)
    answers: list[Any] = []
    with Served(home, plugins=tmp_path / "plugins").ready() as served:

        def call() -> None:
            answer = httpx.post(f"{served.url}/mcp", **modern("tools/call", served.token, "wait", arguments={}))
            answers.append(answer.json()["result"]["content"][0]["text"])

        caller = threading.Thread(target=call)
        caller.start()
        served.logged("waiting")
        wish = modern("subscriptions/listen", served.token, notifications={"toolsListChanged": True})
        with httpx.stream("POST", f"{served.url}/mcp", **wish) as stream:
            lines = stream.iter_lines()
            assert any("acknowledged" in line for line in lines)
            served.process.terminate()
            # The end of a subscription is told, not cut.
            assert any('"result"' in line for line in lines)
        pipe.write_text("finished")
        caller.join()
        assert answers == ["finished"]
        assert served.ended() == 0
