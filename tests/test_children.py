"""Plugins that are processes of their own: found, started, watched and ended, and never left behind."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from children import NODE, is_running, reaches, row, said, write_child, write_stub, written
from kit import PATIENCE_S
from served import Served, write_plugin

from plugbay.testing import running_host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins."""
    return tmp_path / "plugins"


def test_a_node_server_runs_with_a_chosen_environment_and_nothing_of_the_hosts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "canary-7d1")
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    monkeypatch.delenv("NODE_ENV", raising=False)
    plugin = write_child(folder, "Clock-1", NODE)
    with running_host(plugins_dirs=[folder]) as host:
        found = reaches(host.http, "Clock-1", "running")
        assert (found["kind"], found["error"], found["server"]["enabled"]) == ("process", None, True)
        told = httpx.get(f"http://127.0.0.1:{found['server']['port']}/").json()
        assert told["pid"] == found["server"]["pid"]
        assert told["arguments"][1] == str(plugin / "server.js")
        allowed = {"PATH", "HOME", "NODE_ENV", "PLUGIN_NAME", "LANG", "TZ", "TMPDIR", "SHELL", "USER"}
        assert {name for name in told["environment"] if not name.startswith("LC_")} <= allowed
        assert told["environment"]["LC_TIME"] == "C.UTF-8"
        assert (told["environment"]["PLUGIN_NAME"], told["environment"]["NODE_ENV"]) == ("Clock-1", "production")
        raw = Path(f"/proc/{told['pid']}/environ").read_text()
        assert "canary" not in raw
        metrics = host.http.get("/metrics").text
        assert 'plugbay_child_state{plugin="Clock-1",state="running"} 1' in metrics
        assert host.registry.errors == []
    assert not is_running(told["pid"])


def test_a_plugin_may_have_two_halves(folder: Path) -> None:
    plugin = write_stub(folder, "both")
    text = "from plugbay import BackendPlugin, PluginManifest\n\n\nclass Both(BackendPlugin):\n"
    text += '    manifest = PluginManifest(id="{}", name="Both")\n\n    def setup(self, host):\n'
    text += '        host.add_agent_tool(half)\n\n\ndef half() -> str:\n    "One half."\n    return "python"\n\n\n'
    (plugin / "__init__.py").write_text(text.format("both") + "PLUGIN = Both\n")
    other = write_stub(folder, "other")
    (other / "__init__.py").write_text(text.format("another") + "PLUGIN = Both\n")
    with running_host(plugins_dirs=[folder]) as host:
        found = reaches(host.http, "both", "running")
        assert (found["kind"], found["offers"]["tools"]) == ("python", ["half"])
        assert said(found["server"]["port"]) == str(found["server"]["pid"])
        assert "two halves of one plugin" in str(host.registry.errors[0])
        assert [manifest.id for manifest in host.registry.loaded] == ["both"]


def test_commands_without_a_host_start_no_child(folder: Path, plugbay: Any) -> None:
    folder.mkdir()
    started = folder / "started"
    write_plugin(
        folder, "loud", "def setup(host):\n    host.add_agent_tool(shout)\n\n\ndef shout() -> str:\n    return 'HI'"
    )
    write_stub(folder, "quiet", f"open({str(started)!r}, 'w'); ready(); serve()")
    for words in (["check", folder], ["plugins", "--plugins-dir", folder], ["routes", "--plugins-dir", folder]):
        done = plugbay(*words)
        assert done.returncode == 0, done.stderr
    done = plugbay("tool", "call", "shout", "--plugins-dir", folder)
    assert (done.returncode, done.stdout) == (0, '"HI"\n'), done.stderr
    assert "quiet" in plugbay("plugins", "--plugins-dir", folder).stdout
    script = f"import plugbay; print(plugbay.load_plugins(extra_dirs=[{str(folder)!r}]).loaded)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "quiet" in done.stdout
    assert not started.exists()


def test_a_manifest_that_is_wrong_is_a_record_and_the_rest_serves(folder: Path) -> None:
    write_stub(folder, "good")
    for id, text in (
        ("broken", "{"),
        ("nameless", "{}"),
        ("away", '{"name": "a", "displayName": "A", "entry": "../x"}'),
    ):
        (folder / id).mkdir()
        (folder / id / "manifest.json").write_text(text)
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "good", "running")
        errors = {Path(error.source).name: error for error in host.registry.errors}
    assert {name: error.code for name, error in errors.items()} == {
        "broken": "malformed",
        "nameless": "invalid",
        "away": "invalid",
    }
    assert 'manifest.json: field "name" is missing: expected 1 to 64 letters' in str(errors["nameless"])
    assert all(error.stage == "read" for error in errors.values())


def test_a_damaged_file_of_switches_starts_nothing_and_stays_as_it_is(folder: Path, home: Path) -> None:
    write_stub(folder, "off")
    home.mkdir()
    (home / "plugins.json").write_text('{"version": 1, "plugins": ')
    with running_host(plugins_dirs=[folder], home=home, log_level="off") as host:
        assert any("plugins.json cannot be used" in str(error) for error in host.registry.errors)
        for verb in ("start", "enable"):
            refused = host.http.post(f"/api/host/plugins/off/{verb}")
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert row(host.http, "off")["server"] | {"runs": 0} == row(host.http, "off")["server"]
    assert (home / "plugins.json").read_text() == '{"version": 1, "plugins": '


def test_what_was_disabled_stays_so_for_the_next_host(folder: Path, home: Path) -> None:
    write_stub(folder, "kept")
    with running_host(plugins_dirs=[folder], home=home) as host:
        pid = reaches(host.http, "kept", "running")["server"]["pid"]
        assert host.http.post("/api/host/plugins/kept/disable").status_code == 200
        assert not is_running(pid)
    with running_host(plugins_dirs=[folder], home=home) as host:
        assert row(host.http, "kept")["server"]["enabled"] is False
        assert host.http.post("/api/host/plugins/kept/start").status_code == 503
        assert host.http.post("/api/host/plugins/kept/enable").status_code == 200
        assert row(host.http, "kept")["state"] == "running"


def test_a_client_without_the_scope_admin_neither_stops_nor_reads_logs(folder: Path) -> None:
    write_stub(folder, "mine")
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "mine", "running")
        token = host.http.post("/api/host/tokens", json={"name": "caller", "scopes": ["call"]}).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert host.http.get("/api/host/plugins/mine", headers=headers).status_code == 200
        for method, path in (("POST", "stop"), ("POST", "start"), ("GET", "logs")):
            refused = host.http.request(method, f"/api/host/plugins/mine/{path}", headers=headers)
            assert refused.status_code == 403, path
        assert row(host.http, "mine")["state"] == "running"
        assert host.http.post("/api/host/plugins/none/stop").status_code == 404


def test_sockets_are_told_of_states(folder: Path) -> None:
    write_stub(folder, "told")
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "told", "running")
        with host.websocket() as socket:
            socket.recv(timeout=PATIENCE_S)
            host.http.post("/api/host/plugins/told/stop")
            frames = [json.loads(socket.recv(timeout=PATIENCE_S)) for _ in range(2)]
    assert [(frame["event"], frame["data"]) for frame in frames] == [
        ("plugin_state", {"plugin": "told", "state": "stopping"}),
        ("plugin_state", {"plugin": "told", "state": "stopped"}),
    ]


def test_a_log_is_escaped_followed_and_printed(folder: Path, home: Path, plugbay: Any) -> None:
    speaks = "print('red \\x1b[31m \\x07', file=sys.stderr, flush=True); ready()\n"
    speaks += "serve(lambda: [print('asked', flush=True), 'yes'][1])"
    write_stub(folder, "speaks", speaks)
    with Served(home, plugins=folder) as host, host.ready().client() as client:
        port = reaches(client, "speaks", "running")["server"]["port"]
        assert "err red \\u{1b}[31m \\u{7}" in written(client, "speaks", "err red.*")[0]
        command = [sys.executable, "-m", "plugbay", "logs", "speaks", "-f", "--lines", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as following:
            assert following.stdout is not None
            assert "is ready at port" in following.stdout.readline()
            assert said(port) == "yes"
            assert following.stdout.readline().endswith("out asked\n")
            assert host.stop() == 0
            assert following.wait(PATIENCE_S) == 0
    done = plugbay("logs", "speaks", "--lines", "2")
    assert done.stdout.splitlines()[-1].endswith("host stopped")
    assert (home / "logs/speaks.log").stat().st_mode & 0o077 == 0
    assert plugbay("logs", "../token").returncode == 2


def test_more_open_files_than_the_host_may_give_are_noted_and_cut(folder: Path, plugbay: Any) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    says = "import resource\nprint('may', *resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr, flush=True)\n"
    write_stub(folder, "greedy", says + "ready(); serve()", limits={"open_files": hard + 1})
    write_stub(folder, "modest", says + "ready(); serve()", limits={"open_files": 64})
    checked = plugbay("check", "--plugins-dir", folder)
    assert checked.returncode == 0
    assert f'field "limits.open_files" is {hard + 1}: this host may give no process more than {hard}' in checked.stdout
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "greedy", "running")
        assert written(host.http, "greedy", r"may (\d+ \d+)")[1] == f"{hard} {hard}"
        assert written(host.http, "modest", r"may (\d+ \d+)")[1] == "64 64"
