"""How mounted outside MCP servers begin, change, end and come back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kit import PATIENCE_S, Wire
from mcp_clients import client, modern, run, tools_become
from mcp_mounted import OUTSIDE, by_command, call, mounting, names, until
from served import Served, write_plugin

from plugbay.errors import InvalidError


def test_a_list_that_changes_is_followed() -> None:
    with mounting(**by_command()) as host:

        async def work() -> None:
            async with client(host.url, host.token, "auto") as connected:
                await connected.call_tool("out.grow", {})
                await tools_become(connected, lambda names: "out.grown" in names)
                assert (await connected.call_tool("out.grown", {})).content[0].text == "new"

        run(work)


def test_its_end_is_its_plugins_error_and_it_comes_back() -> None:
    with mounting(**by_command()) as host:

        async def work() -> None:
            async with client(host.url, host.token, "auto") as connected:
                gone = await connected.call_tool("out.leave", {})
                assert gone.meta == {"plugbay/code": "unavailable"}
                # Whether the moment between is seen or not: it serves again.
                await tools_become(connected, lambda names: "out.add" in names)

        run(work)
        errors = [(error.plugin, error.stage) for error in host.registry.errors]
        assert set(errors) <= {("out", "run")}


def test_one_that_cannot_start_is_an_error_and_the_host_serves() -> None:
    with mounting(command="/no/such/program") as host:
        assert host.http.get("/readyz").status_code == 200
        (error,) = host.registry.errors
        assert (error.plugin, error.stage, error.code) == ("out", "startup", "unavailable")
        assert "/no/such/program" in error.message
        assert host.http.get("/api/host/tools").json() == {"tools": []}


def test_a_caller_that_leaves_cancels_the_call_on_the_other_side(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "plugbay.toml"
    config.write_text(f'mode = "autonomous"\n[mcp.servers.out]\ncommand = "{sys.executable}"\nargs = ["{OUTSIDE}"]\n')
    with Served(home, "--config", str(config)).ready() as served:
        with served.client() as asking:
            until(lambda: names(asking))
        wish = modern("tools/call", served.token, "out.wait", arguments={})
        body = json.dumps(wish["json"]).encode()
        headers = [f"{name}: {value}" for name, value in wish["headers"].items() if name != "Authorization"]
        with Wire(served.url, served.token) as wire:
            wire.ask(
                "POST", "/mcp", "content-type: application/json", f"content-length: {len(body)}", *headers, body=body
            )
            served.logged("outside: waiting")
        served.logged("outside: cancelled")
        assert served.stop() == 0


def test_a_server_is_reached_over_http_with_the_headers_that_it_wants() -> None:
    process = subprocess.Popen([sys.executable, str(OUTSIDE), "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = next(found for line in process.stderr if (found := re.search(r"running on (http://\S+)", line)))
        with mounting(url=f"{found[1]}/mcp", headers={"X-Key": "secret"}) as host:
            assert call(host, "out.add", a=1, b=2) == {"result": 3}
    finally:
        process.kill()
        process.communicate()


def test_a_host_mounts_another_and_passes_no_credential_on(home: Path, tmp_path: Path) -> None:
    text = """
def who(ctx: ToolContext) -> str:
    "Name who asks."
    return ctx.principal.name

def setup(host):
    host.add_agent_tool(who)
"""
    write_plugin(tmp_path / "plugins", "whoami", "from plugbay import ToolContext\n" + text)
    with Served(home, plugins=tmp_path / "plugins").ready() as inner:
        headers = {"Authorization": f"Bearer {inner.token}"}
        with mounting(url=f"{inner.url}/mcp", headers=headers) as host:
            assert call(host, "out.who") == "owner"
        # With the caller's own token instead of the operator's the other host would have refused.
        with mounting(url=f"{inner.url}/mcp") as host:
            (error,) = host.registry.errors
            assert (error.plugin, error.stage) == ("out", "startup")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "neither command nor url"),
        ({"command": "x", "url": "http://x"}, "both"),
        ({"url": "ftp://x"}, "address"),
        ({"command": "x", "surprise": 1}, "surprise"),
        ({"command": "x", "env": {"A": "${NO_SUCH_VARIABLE}"}}, "NO_SUCH_VARIABLE"),
        ({"command": "x", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_an_entry_that_cannot_be_read_is_said_at_the_start(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(message)), mounting(**entry):
        pass


def are_gone(pids: list[int]) -> bool:
    """Whether none of these processes runs any more; waits for that."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if not ended.poll(PATIENCE_S * 1000):
                    return False
            finally:
                os.close(descriptor)
    return True


def test_what_it_has_started_ends_with_the_host_also_in_sessions_of_its_own() -> None:
    with mounting(**by_command()) as host:
        pids = call(host, "out.helpers")["result"]
        assert len(pids) == 3
    assert are_gone(pids)


def test_what_it_has_started_ends_with_a_host_that_is_killed(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "plugbay.toml"
    config.write_text(f'mode = "autonomous"\n[mcp.servers.out]\ncommand = "{sys.executable}"\nargs = ["{OUTSIDE}"]\n')
    with Served(home, "--config", str(config)).ready() as served:
        with served.client() as asking:
            until(lambda: names(asking))
            pids = asking.post("/api/host/tools/out.helpers").raise_for_status().json()["result"]["result"]
        served.process.kill()
        try:
            assert are_gone(pids)
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_line_that_is_too_long_is_its_plugins_error_and_it_comes_back() -> None:
    with mounting(**by_command()) as host:

        async def work() -> None:
            async with client(host.url, host.token, "auto") as connected:
                gone = await connected.call_tool("out.shout", {"mebibytes": 17})
                assert gone.meta == {"plugbay/code": "unavailable"}
                await tools_become(connected, lambda names: "out.add" in names)

        run(work)
        assert ["16 MiB in one line" in error.message for error in host.registry.errors] == [True]
        assert call(host, "out.add", a=1, b=2) == {"result": 3}


def test_no_value_of_a_variable_stands_in_a_log_or_an_error(home: Path, tmp_path: Path) -> None:
    secret, key = "s3cret-value", "k3y-value"
    config = tmp_path / "plugbay.toml"
    config.write_text(
        f'[mcp.servers.out]\ncommand = "{sys.executable}"\nargs = ["{OUTSIDE}"]\nenv = {{ SECRET = "${{SECRET}}" }}\n'
        '[mcp.servers.far]\nurl = "http://127.0.0.1:9/mcp"\nheaders = { Authorization = "Bearer ${KEY}" }\n'
        '[mcp.servers.bad]\ncommand = "/no/such/program"\nenv = { SECRET = "${SECRET}" }\n'
    )
    words = ("--config", str(config), "--log-level", "trace")
    with Served(home, *words, SECRET=secret, KEY=key).ready() as served:
        with served.client() as asking:
            until(lambda: names(asking))
            served.logged("far")
            served.logged("/no/such/program")
            told = asking.get("/api/host/errors").text + asking.get("/api/host/status").text
        assert served.stop() == 0
        assert "far" in served.log and "/no/such/program" in told
        assert secret not in served.log + told
        assert key not in served.log + told


DEEP = """
import json, sys

name = "$serde_json::private::RawValue"
deep = "[]"
for _ in range(3):
    deep = "[" * 60 + json.dumps({name: deep}) + "]" * 60
answers = {
    "initialize": '{"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, '
    '"serverInfo": {"name": "deep", "version": "1"}}',
    "tools/list": '{"tools": [{"name": "flat", "inputSchema": {"type": "object"}}, '
    '{"name": "deep", "inputSchema": {"type": "object", "properties": {"p": {"default": ' + deep + "}}}}]}",
    "tools/call": '{"content": [], "structuredContent": {"a": ' + deep + "}}",
}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") in answers:
        text = '{"jsonrpc": "2.0", "id": %s, "result": %s}'
        print(text % (json.dumps(message["id"]), answers[message["method"]]), flush=True)
"""


def test_what_cannot_be_read_back_is_neither_offered_nor_passed_on(tmp_path: Path) -> None:
    server = tmp_path / "deep.py"
    server.write_text(DEEP)
    with mounting(command=sys.executable, args=[str(server)]) as host:
        names = [tool["name"] for tool in host.http.get("/api/host/tools").json()["tools"]]
        assert "out.flat" in names and "out.deep" not in names
        assert any("127 levels" in error.message for error in host.registry.errors)
        code, detail = call(host, "out.flat")
        assert code == "upstream" and "127 levels" in detail


NAMESAKE = """
def setup(host):
    host.add_agent_tool(AgentTool("out.own", "", lambda args: "mine"))
"""


def test_a_plugin_of_its_name_stays_and_the_clash_is_told(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "out", NAMESAKE)
    config = tmp_path / "plugbay.toml"
    config.write_text(f"[mcp.servers.out]\ncommand = {sys.executable!r}\nargs = [{str(OUTSIDE)!r}]\n")
    with (
        Served(home, "--config", str(config), plugins=tmp_path / "plugins").ready() as served,
        served.client() as client,
    ):
        served.logged("give the server another name")
        assert client.post("/api/host/tools/out.own").json() == {"result": "mine"}
        assert [row["name"] for row in client.get("/api/host/tools").json()["tools"]] == ["out.own"]
        errors = client.get("/api/host/errors").json()["errors"]
        assert {(error["source"], error["code"]) for error in errors} == {("[mcp.servers.out]", "conflict")}


RAW = """
import json, sys

names, lists = ["flood", "ask", "lists", "more"], 0

def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

def called(name):
    if name == "ask":
        number = 0
        while True:
            number += 1
            say(id=number, method="ping")
    if name == "more":
        names.append(f"more{len(names)}")
    for _ in range({"flood": 5000, "more": 1}.get(name, 0)):
        say(method="notifications/tools/list_changed")
    return {"content": [{"type": "text", "text": str(lists)}]}

for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            about = {"name": "raw", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
        case "tools/list":
            lists += 1
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
            result = {"tools": [*tools, {"name": "bad", "inputSchema": {"type": "nothing"}}]}
        case "tools/call":
            result = called(message["params"]["name"])
        case _:
            continue
    say(id=message["id"], result=result)
"""


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """A server on standard streams that does what none should."""
    server = tmp_path / "raw.py"
    server.write_text(RAW)
    return {"command": sys.executable, "args": [str(server)]}


def test_one_that_asks_and_does_not_read_is_ended_and_comes_back(raw: dict[str, Any]) -> None:
    with mounting(**raw) as host:

        async def work() -> None:
            async with client(host.url, host.token, "auto") as connected:
                gone = await connected.call_tool("out.ask", {})
                assert gone.meta == {"plugbay/code": "unavailable"}
                await tools_become(connected, lambda names: "out.lists" in names)

        run(work)
        (error,) = [error for error in host.registry.errors if error.stage == "run"]
        assert error.code == "upstream"
        assert "does not read the answers" in error.message


def test_changes_without_end_are_followed_at_the_hosts_pace(raw: dict[str, Any]) -> None:
    with mounting(**raw) as host:
        generation = host.http.get("/api/host/status").json()["generation"]
        begun = time.monotonic()
        call(host, "out.flood")
        lists = int(call(host, "out.lists"))
        # One at the start, and at most one in each second since.
        assert lists <= 2 + (time.monotonic() - begun)
        assert host.http.get("/api/host/status").json()["generation"] == generation


def test_an_error_of_a_list_is_told_once_in_a_connection(raw: dict[str, Any]) -> None:
    with mounting(**raw) as host:

        async def work() -> None:
            async with client(host.url, host.token, "auto") as connected:
                for number in (4, 5):
                    await connected.call_tool("out.more", {})
                    await tools_become(connected, lambda names, new=f"out.more{number}": new in names)

        run(work)
        assert ["out.bad" in error.message for error in host.registry.errors] == [True]


class Faulty(BaseHTTPRequestHandler):
    """A server on HTTP whose tools answer with a status of their name."""

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, result = 200, None
        match message["method"]:
            case "initialize":
                about = {"name": "faulty", "version": "1"}
                result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
            case "tools/list":
                result = {"tools": [{"name": f"s{code}", "inputSchema": {"type": "object"}} for code in (307, 500)]}
            case "tools/call":
                status = int(message["params"]["name"][1:])
            case _:
                status = 202
        body = b"" if result is None else json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def faulty() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/mcp"
        server.shutdown()


@pytest.mark.parametrize(("tool", "status"), [("s500", "HTTP 500 "), ("s307", "HTTP 307 ")])
def test_a_wrong_answer_over_http_is_the_servers_failure_in_plain_words(faulty: str, tool: str, status: str) -> None:
    with mounting(url=faulty) as host:
        code, message = call(host, f"out.{tool}")
        assert code == "upstream"
        assert status in message
        assert "::" not in message


def test_one_that_is_not_there_is_told_in_plain_words() -> None:
    with mounting(url="http://127.0.0.1:9/mcp") as host:
        (error,) = host.registry.errors
        assert (error.stage, error.code) == ("startup", "upstream")
        assert "::" not in error.message
