"""`plugbay install` and its kin, with a host that runs and without one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from installing import Jobs, files_of, write
from served import Served

GREETER = Path(__file__).parent / "plugins/good/greeter.py"


GREETS = """
from fastapi import APIRouter
from plugbay import BackendPlugin, PluginManifest

router = APIRouter()


@router.get("/")
def greet() -> str:
    return "hello"


class Plugin(BackendPlugin):
    manifest = PluginManifest(id="greets", name="Greets")

    def setup(self, host):
        host.add_router(router)


PLUGIN = Plugin()
"""


def plugbay(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command without a terminal."""
    command = [sys.executable, "-m", "plugbay", *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False)


def test_a_plugin_is_installed_updated_switched_and_removed_in_a_running_host(home: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "plugin", files_of("1.0.0"))
    with Served(home).ready() as host, host.client() as client:
        jobs = Jobs(client)
        done = plugbay("install", folder, "--yes")
        assert (done.returncode, done.stdout) == (0, "installed demo 1.0.0\n"), done
        assert "The demo" in done.stderr
        assert "command: python3 server.py" in done.stderr
        assert jobs.ask()["version"] == "1.0.0"
        write(folder, files_of("2.0.0"))
        done = plugbay("update", "demo", "--yes")
        assert (done.returncode, done.stdout) == (0, "updated demo 2.0.0\n"), done
        assert jobs.ask()["version"] == "2.0.0"
        assert plugbay("disable", "demo").stdout == "disabled demo\n"
        assert jobs.server()["state"] == "stopped"
        assert plugbay("enable", "demo").stdout == "enabled demo\n"
        assert jobs.server()["state"] == "running"
        removed = plugbay("uninstall", "demo", "--yes")
        assert (removed.returncode, removed.stdout) == (0, "uninstalled demo\n"), removed
        assert client.get("/api/host/plugins/demo").status_code == 404
        again = plugbay("uninstall", "demo", "--yes")
        assert again.returncode == 2
        assert "there is no plugin" in again.stderr
        assert host.stop() == 0


def test_without_a_host_nothing_of_a_plugin_is_started_and_the_next_host_has_it(home: Path, tmp_path: Path) -> None:
    files = files_of() | {"server.py": files_of()["server.py"] + "\n"}
    done = plugbay("install", write(tmp_path / "plugin", files), "--yes", "--json")
    assert done.returncode == 0, done
    job = json.loads(done.stdout)
    assert (job["state"], job["plugin"]) == ("done", "demo")
    assert not (home / "logs/demo.log").exists()
    assert plugbay("disable", "demo").stdout == "disabled demo, for the next start of a host\n"
    with Served(home).ready() as host, host.client() as client:
        assert Jobs(client).server()["state"] == "stopped"
        assert host.stop() == 0
    assert plugbay("enable", "demo").returncode == 0
    with Served(home).ready() as host, host.client() as client:
        client.post("/api/host/plugins/demo/start").raise_for_status()
        assert Jobs(client).ask()["version"] == "1.0.0"
        assert host.stop() == 0
    assert plugbay("uninstall", "demo", "--yes").returncode == 0
    assert not (home / "plugins/demo").exists()


def test_a_python_plugin_that_is_switched_off_is_not_loaded_by_the_next_host(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "greets", {"__init__.py": GREETS})

    def answers() -> int:
        with Served(home).ready() as host, host.client() as client:
            return client.get("/api/plugins/greets/").status_code

    assert plugbay("install", tmp_path / "greets", "--yes").returncode == 0
    with Served(home).ready() as host, host.client() as client:
        assert plugbay("disable", "greets").stdout == "disabled greets, for the next start of a host\n"
        assert client.get("/api/plugins/greets/").status_code == 200
        assert host.stop() == 0
    assert answers() == 404
    assert plugbay("enable", "greets").returncode == 0
    assert answers() == 200
    for unusable in (
        "{",
        '{"version": 2, "plugins": {}}',
        '{"version": 1, "plugins": {"x": {"enabled": true, "y": 1}}}',
    ):
        (home / "plugins.json").write_text(unusable)
        with Served(home).ready() as host, host.client() as client:
            assert client.get("/api/plugins/greets/").status_code == 404, "nothing is loaded by accident"
            (error,) = client.get("/api/host/errors").json()["errors"]
            assert "plugins.json cannot be used" in error["message"] and "none of home/plugins" in error["message"]


HALF = "raise SystemExit('imported')\n"


def test_what_is_switched_off_is_listed_and_nothing_of_it_is_imported(home: Path, tmp_path: Path) -> None:
    page = {"name": "page", "displayName": "Page", "version": "1.0.0", "entry": "index.html"}
    folders = {
        "both": {**files_of(id="both"), "__init__.py": HALF},
        "page": {"manifest.json": json.dumps(page), "index.html": "hi", "__init__.py": HALF},
        "greets": {"__init__.py": GREETS},
    }
    for name, files in folders.items():
        assert plugbay("install", write(tmp_path / name, files), "--yes").returncode == 0
        # Another case is the same plugin.
        assert plugbay("disable", name.upper()).returncode == 0
    with Served(home).ready() as host, host.client() as client:
        rows = {row["id"]: row for row in client.get("/api/host/plugins").json()["plugins"]}
        states = {"both": "stopped", "page": "disabled", "greets": "disabled"}
        assert {id: row["state"] for id, row in rows.items()} == states
        assert client.get("/api/host/plugins/greets").json() == rows["greets"]
        assert client.get("/api/host/errors").json()["errors"] == []
        assert client.get("/api/plugins/page/assets/index.html").status_code == 404
        assert "disabled" in plugbay("plugins").stdout
        assert plugbay("uninstall", "greets", "--yes").returncode == 0
        assert client.get("/api/host/plugins/greets").status_code == 404
    listed = plugbay("plugins")
    assert "imported" not in listed.stdout + listed.stderr
    assert listed.stdout.count("disabled") == 1, "a server is in no state where no host runs"


def test_a_plugin_that_fails_can_be_switched_off(home: Path, tmp_path: Path) -> None:
    broken = GREETS.replace("host.add_router(router)", "raise RuntimeError('broken')")
    assert plugbay("install", write(tmp_path / "greets", {"__init__.py": broken}), "--yes").returncode == 0
    with Served(home).ready():
        assert "broken" in plugbay("plugins").stderr
        assert plugbay("disable", "greets").stdout == "disabled greets, for the next start of a host\n"
    with Served(home).ready() as host, host.client() as client:
        assert client.get("/api/host/errors").json()["errors"] == []


def test_a_server_is_stopped_whatever_case_its_id_is_given_in(home: Path, tmp_path: Path) -> None:
    assert plugbay("install", write(tmp_path / "demo", files_of()), "--yes").returncode == 0
    with Served(home).ready() as host, host.client() as client:
        assert plugbay("disable", "DEMO").stdout == "disabled DEMO\n"
        assert client.get("/api/host/plugins/demo").json()["state"] == "stopped"


def test_nothing_is_installed_that_nobody_has_confirmed(home: Path, tmp_path: Path) -> None:
    done = plugbay("install", write(tmp_path / "plugin", files_of()))
    assert (done.returncode, done.stdout) == (1, "")
    assert "add --yes" in done.stderr
    assert "not confirmed: nothing was installed" in done.stderr
    assert not (home / "plugins").exists()


@pytest.mark.parametrize(("word", "code"), [(b"y\n", 0), (b"n\n", 1)])
def test_a_person_at_a_terminal_is_asked(home: Path, tmp_path: Path, word: bytes, code: int) -> None:
    folder = write(tmp_path / "plugin", files_of(displayName="evil \x1b[2J name"))
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "plugbay", "install", str(folder)]
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True) as process:
        os.close(inner)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(outer, 4096)
        os.write(outer, word)
        assert process.wait(60) == code
    os.close(outer)
    assert b"evil ?[2J name" in seen
    assert (home / "plugins/demo").exists() == (code == 0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("install", "no/such/folder", "--yes"), 2, "there is no folder"),
        (("install", "http://127.0.0.1/x", "--yes"), 1, "install_sources"),
        (("install", "https://127.0.0.1:1/x", "--yes"), 1, "private address"),
        (("update", "nobody", "--yes"), 2, "was not installed by this host"),
        (("enable", "nobody"), 2, "no plugin"),
        (("disable", "nobody"), 2, "no plugin"),
    ],
)
def test_what_cannot_be_done_says_why(words: tuple[str, ...], code: int, message: str) -> None:
    done = plugbay(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_that_cannot_be_asked_is_said(home: Path) -> None:
    with Served(home, plugins=GREETER.parent).ready():
        (home / "host.json").unlink()
        done = plugbay("enable", "demo")
        assert done.returncode == 1
        assert "another host uses" in done.stderr
