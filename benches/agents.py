"""The cases of `/mcp`: a call and a long list, against FastMCP, the official SDK and `rmcp` in pure Rust.

Not called `mcp`, a package which the peers import. Every server is asked in the era of 2026-07-28, which needs no
session, and answers with JSON.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

import proxy
from cases import OURS, Case, Entry, Load, Target, uvicorn
from load import BENCH_RMCP, Sample, timed_wrk
from process import BENCHES, BenchError, Running, Server

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
MANY = 500


def host(tools: int) -> Server:
    """The host with the tools as a plugin."""
    serve = ["serve", "--port", "{port}", "--plugins-dir", str(BENCHES / "agents_plugins"), "--workers", "1"]
    command = [sys.executable, "-m", "plugbay", *serve, "--access-log", "off", "--ready-json"]
    home = {"PLUGBAY_HOME": "{home}/plugbay", "PLUGINS_DIR": "", "BENCH_TOOLS": str(tools)}
    return Server(OURS, command, "/readyz", env=home, token_file="{home}/plugbay/token")


def peer(name: str, app: str, tools: int) -> Server:
    """A Python server on uvicorn."""
    return replace(uvicorn(name, f"apps.mcp_servers:{app}", "/mcp"), env={"BENCH_TOOLS": str(tools)})


def asks(method: str, params: Mapping[str, Any], connections: int = 64) -> Load:
    """wrk with one request of MCP on so many connections."""

    def load(server: Running, seconds: float) -> Sample:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}})
        headers = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {server.token}",
            "content-type": "application/json",
            "mcp-method": method,
            "mcp-protocol-version": "2026-07-28",
            **({"mcp-name": params["name"]} if "name" in params else {}),
        }
        target = f"{server.url}/mcp"
        answer = httpx.post(target, headers=headers, content=body, trust_env=False)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if answer.status_code != 200 or not is_json or "result" not in answer.json():
            raise BenchError(f"{server.server.name} answers {answer.status_code}: {answer.text[:500]}")
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        script = server.scratch / "mcp.lua"
        script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = [==[{body}]==]", *lines]), encoding="ascii")
        command = ["wrk", "-t1", f"-c{connections}", "-s", str(script)]
        return timed_wrk(server, [*command, target], seconds)

    return load


def cases() -> list[Case]:
    """Every case, in the order of the report: those of others, then those of `/mcp`."""
    call = asks("tools/call", {"name": "echo", "arguments": {"text": "hello there"}})
    # Few: wrk gives an answer two seconds, and the slowest needs a twentieth of one.
    listing = asks("tools/list", {}, connections=4)
    rmcp = Server("rmcp", [str(BENCH_RMCP), "{port}"], "/healthz")
    calls = Case(
        "mcp-call",
        "MCP: a call of an echo tool, answered with JSON, 64 connections",
        "request",
        [
            Entry(OURS, host(0), call),
            Entry("FastMCP", peer("FastMCP", "fast", 0), call),
            Entry("official SDK", peer("official SDK", "sdk", 0), call),
            Entry("rmcp", rmcp, call),
        ],
        [
            Target(OURS, "FastMCP", "cpu_us", 0.05),
            Target(OURS, "official SDK", "cpu_us", 0.09),
            Target(OURS, "rmcp", "cpu_us", 2.0),
        ],
    )
    lists = Case(
        "mcp-list",
        f"MCP: a list of {MANY} tools, 4 connections",
        "request",
        [
            Entry(OURS, host(MANY), listing),
            Entry("FastMCP", peer("FastMCP", "fast", MANY), listing),
            Entry("official SDK", peer("official SDK", "sdk", MANY), listing),
        ],
        [Target(OURS, "FastMCP", "cpu_us", 0.1)],
    )
    return [*proxy.cases(), calls, lists]
