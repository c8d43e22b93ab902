"""What others have written, on somebody's terminal; and what a person types there."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import pytest
from approving import Agent, offer
from credentials import added
from kit import PATIENCE_S, made

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host

HOSTILE = "a\x1b]0;mine\x07\x9b31mb\u202egnp\u200b\x7f\u2028\U000e0001z"
"""It names the window, colours, turns around, and hides."""


def unseen(text: str) -> set[str]:
    """What must not reach a terminal; the ends of lines may."""
    return {character for character in text if not character.isprintable() and character not in "\r\n"}


class Terminal:
    """`plugbay` with these words on a terminal of its own."""

    def __init__(self, host: RunningHost, *words: str, token: str | None = None) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plugbay", *words, "--url", host.url],
            stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "PLUGBAY_TOKEN": token or host.token, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        os.close(slave)
        self.said = ""
        self._rest = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, text: str, times: int = 1) -> str:
        """Read on until so often a text was said."""
        while self.said.count(text) < times:
            assert self._more(), f"{text!r} is not {times} times in {self.said!r}"
        return self.said

    def whole(self) -> str:
        """All that it says until its end."""
        while self._more():
            pass
        self.process.wait(PATIENCE_S)
        return self.said

    def _more(self) -> bool:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000), f"nothing more came after {self.said!r}"
        piece = b""
        # Where nobody has the other end open, Linux says so by an error.
        with suppress(OSError):
            piece = os.read(self._master, 1 << 16)
        whole = self._rest + piece
        self.said += whole.decode(errors="ignore")
        self._rest = whole[len(whole.decode(errors="ignore").encode()) :]
        return bool(piece)


def offer_more(host: PluginHost) -> None:
    offer(host)
    host.add_agent_tool(AgentTool("say.evil", "", lambda _: HOSTILE))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    home = tmp_path_factory.mktemp("home")
    with running_host(made(offer_more, "files"), home=home, log_level="off") as running:
        yield running


def answered(host: RunningHost, filed: dict[str, Any], **said: str) -> None:
    body = {"digest": filed["digest"], **said}
    host.http.post(f"/api/host/approvals/{filed['id']}", json=body).raise_for_status()


def waiting(host: RunningHost, caller: str) -> dict[str, Any]:
    """The first call of that caller that waits."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for row in host.http.get("/api/host/approvals").json()["approvals"]:
            if row["caller"] == caller:
                found: dict[str, Any] = row
                return found
    raise AssertionError(f"no call of {caller} waits")


def test_an_approvers_reason_moves_nothing_on_the_callers_terminal(host: RunningHost) -> None:
    agent = added(host, "told", "call")
    with Terminal(host, "tool", "call", "files.write", '{"path": "/told"}', token=agent) as terminal:
        filed = waiting(host, "told")
        answered(host, filed, decision="deny", reason=f"{HOSTILE}\nplugbay: allowed")
        said = terminal.whole()
    assert terminal.process.returncode == 1
    assert unseen(said) == set()
    assert r"has denied files.write: a\x1b]0;mine\x07\x9b31mb\u202egnp\u200b\x7f\u2028\U000e0001z" in said


def test_what_a_tool_gives_is_json_that_only_prints(host: RunningHost) -> None:
    said = Terminal(host, "tool", "call", "say.evil").whole()
    assert unseen(said) == set()
    assert json.loads(said) == HOSTILE
    assert r"\u009b31mb\u202egnp\u200b\u007f\u2028\udb40\udc01z" in said


LISTS = [("approvals", "--json"), ("audit", "--json"), ("audit",)]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_lists_of_what_was_asked_for_only_print(host: RunningHost, words: tuple[str, ...]) -> None:
    filed = Agent(host, "-".join(word.strip("-") for word in words)).waits(path=HOSTILE)
    assert host.http.post("/api/host/tools/no%E2%80%AEsuch", json={}).status_code >= 400
    said = Terminal(host, *words).whole()
    assert unseen(said) == set()
    if words == ("approvals", "--json"):
        assert HOSTILE in [row["arguments"]["path"] for row in json.loads(said)["approvals"]]
    elif words == ("audit", "--json"):
        assert "no\u202esuch" in [row["tool"] for row in json.loads(said)["records"]]
    else:
        assert r"no\u202esuch" in said
    answered(host, filed, decision="deny")


def test_a_call_that_is_followed_only_prints(host: RunningHost) -> None:
    for words in (("audit", "--follow"), ("audit", "--follow", "--json")):
        with Terminal(host, *words) as terminal:
            threading.Thread(target=host.http.post, args=("/api/host/tools/late%E2%80%AEone",)).start()
            assert unseen(terminal.until(r"late\u202eone")) == set()


def test_no_key_that_was_pressed_before_a_call_was_shown_answers_it(host: RunningHost) -> None:
    agent = Agent(host, "hasty")
    first, second = agent.waits(path="/hasty/1"), agent.waits(path="/hasty/2")
    with Terminal(host, "approvals") as terminal:
        terminal.until("run it?")
        # The second line is for a call that nobody has seen.
        terminal.type("y\ry\r")
        terminal.until("allowed: files.write(/hasty/1)")
        terminal.until("run it?", 2)
        # Nor is what is typed for one question the answer to the next.
        terminal.type("n\rhasty reason\r")
        terminal.until("why, for the caller")
        terminal.type("read it\r")
        said = terminal.until("denied: files.write(/hasty/2)")
    assert "allowed: files.write(/hasty/2)" not in said
    states = [host.http.get(f"/api/host/approvals/{filed['id']}").json() for filed in (first, second)]
    assert [state["state"] for state in states] == ["allowed", "denied"]
    assert states[1]["answer"]["reason"] == "read it"
