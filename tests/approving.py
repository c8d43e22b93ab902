"""Calls that wait for a person, and browsers that are signed in to answer them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import httpx
from browsing import Browser
from credentials import added
from kit import PATIENCE_S
from served import Served

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost

PATH = {"path": {"type": "string"}, "pin": {"type": "string", "writeOnly": True}}

ONCE = 'button[value="once"]'
ALWAYS = 'button[value="always"]'
DENY = 'button[value="deny"]'


def offer(host: PluginHost) -> None:
    def write(args: dict[str, Any]) -> str:
        return f"wrote {args['path']}"

    template = "{path}"
    host.add_agent_tool(
        AgentTool("files.write", "Write a file.", write, PATH, side_effect=True, specifier_template=template)
    )


class Agent:
    """A program with a token of its own, which asks and comes back."""

    def __init__(self, host: RunningHost, name: str) -> None:
        self._host = host
        self.token = added(host, name, "call")

    def ask(self, **arguments: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Prefer": "respond-async"}
        return self._host.http.post("/api/host/tools/files.write", json=arguments, headers=headers)

    def waits(self, **arguments: str) -> dict[str, Any]:
        answer = self.ask(**arguments)
        assert answer.status_code == 202, answer.text
        approval: dict[str, Any] = answer.json()["approval"]
        return approval


def link(host: RunningHost | Served, token: str | None = None, *page: str) -> str:
    """What `plugbay sign-in` prints."""
    environment = {**os.environ, "PLUGBAY_HOME": str(host.home)}
    if token is not None:
        environment["PLUGBAY_TOKEN"] = token
    words = [sys.executable, "-m", "plugbay", "sign-in", *page]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign_in(host: RunningHost | Served, browser: Browser, token: str | None = None) -> None:
    seen = browser.go(link(host, token))
    assert (seen.status, seen.url) == (200, f"{host.url}/")
