"""Plugins from a git server on the web: over HTTPS, by commands, without a question that nobody could answer."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import GitServer, certificate, git_server
from installing import Jobs, Repository, files_of, git
from served import Served


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A certificate that nobody else knows."""
    return certificate(tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A plugin on the server."""
    return Repository(tmp_path / "served" / "demo.git", files_of())


@pytest.fixture
def server(tmp_path: Path, pem: Path, repository: Repository) -> Iterator[GitServer]:
    """The server."""
    with git_server(tmp_path / "served", pem) as server:
        yield server


def plugbay(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command without a terminal."""
    command = [sys.executable, "-m", "plugbay", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False)


def host_of(home: Path, pem: Path | None, **environment: str) -> Served:
    """A host that may ask this machine, and that trusts the certificate."""
    trusted = {} if pem is None else {"GIT_SSL_CAINFO": str(pem)}
    return Served(home, PLUGBAY_INSTALL_SOURCES="private", **trusted, **environment)


def test_a_plugin_comes_from_a_server_on_the_web_and_is_updated_from_there(
    home: Path, pem: Path, server: GitServer, repository: Repository
) -> None:
    first = git(repository.folder, "rev-parse", "HEAD")
    with host_of(home, pem) as host, host.ready().client() as client:
        jobs = Jobs(client)
        done = plugbay("install", f"{server.url}/demo.git", "--yes")
        assert (done.returncode, done.stdout) == (0, f"installed demo 1.0.0 at {first[:12]}\n"), done
        assert first in done.stderr
        assert jobs.ask()["version"] == "1.0.0"
        second = repository.commit(files_of("2.0.0"))
        done = plugbay("update", "demo", "--yes")
        assert (done.returncode, done.stdout) == (0, f"updated demo 2.0.0 at {second[:12]}\n"), done
        assert jobs.ask()["version"] == "2.0.0"
        kept = json.loads((home / "installed.json").read_text())["plugins"]["demo"]
        assert (kept["source"], kept["commit"]) == (f"{server.url}/demo.git", second)
        again = plugbay("install", f"{server.url}/moved/demo.git", "--yes")
        assert again.returncode != 0 and "installed already" in again.stderr
        assert host.stop() == 0
    assert any(line.startswith("POST /demo.git/git-upload-pack") for line in server.asked)
    assert all(line.endswith(" -") for line in server.asked)


def test_a_server_whom_nobody_vouches_for_is_not_believed(home: Path, server: GitServer) -> None:
    with host_of(home, None) as host, host.ready().client() as client:
        job = Jobs(client).begin(f"{server.url}/demo.git")
        assert (job["state"], job["error"]["code"]) == ("failed", "upstream")
        assert "certificate" in job["error"]["message"]
    assert server.asked == []


def test_a_server_that_wants_a_password_or_never_answers_is_an_error_and_no_question(
    home: Path, pem: Path, server: GitServer
) -> None:
    controller, terminal = pty.openpty()
    # A helper of the user's that would be asked, and that hangs.
    hangs = {"GIT_ASKPASS": "/bin/cat", "SSH_ASKPASS": "/bin/cat", "GIT_TERMINAL_PROMPT": "1"}
    begin = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0); "
    begin += "os.execv(sys.argv[2], sys.argv[2:])"
    environment = {
        "PLUGBAY_INSTALL_SOURCES": "private",
        "GIT_SSL_CAINFO": str(pem),
        "PLUGBAY_LIMITS_INSTALL_TIME_S": "2",
    }
    # The host has a terminal of its own, where git could ask.
    under = [sys.executable, "-c", begin, str(terminal)]
    with (
        Served(home, under=under, pass_fds=(terminal,), **environment, **hangs) as host,
        host.ready().client() as client,
    ):
        os.close(terminal)
        since = time.monotonic()
        locked = Jobs(client).begin(f"{server.url}/locked/demo.git")
        assert (locked["state"], locked["error"]["code"]) == ("failed", "upstream"), locked
        assert time.monotonic() - since < 2
        silent = Jobs(client).begin(f"{server.url}/silent/demo.git")
        assert (silent["state"], silent["error"]["code"]) == ("failed", "timeout"), silent
        os.set_blocking(controller, False)
        try:
            asked = os.read(controller, 4096)
        except OSError:
            asked = b""
        assert asked == b""
        assert host.stop() == 0
    os.close(controller)


def test_a_redirect_is_followed_where_private_addresses_may_be_asked(home: Path, pem: Path, server: GitServer) -> None:
    with host_of(home, pem) as host, host.ready().client() as client:
        job = Jobs(client).begin(f"{server.url}/moved/demo.git")
        assert job["state"] == "review", job
        assert job["review"]["source"] == f"{server.url}/moved/demo.git"
