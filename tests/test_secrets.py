"""Secrets of plugins: set on the command line and over HTTP, kept in one file, never shown."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from children import reaches, row, write_child
from credentials import added
from served import Served

from plugbay.testing import running_host

CANARY = "canary-3f81c2"


def secrets(*words: str, value: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Runs `plugbay secrets` with bytes on its standard input."""
    command = [sys.executable, "-m", "plugbay", "secrets", *words]
    return subprocess.run(command, input=value or b"", capture_output=True, timeout=60, check=False)


def kept(home: Path) -> dict[str, dict[str, str]]:
    """What the file holds."""
    return json.loads((home / "secrets.json").read_text())["plugins"]


def test_a_secret_is_set_listed_and_removed_without_a_host(home: Path) -> None:
    done = secrets("set", "weather", "API_key", value=f"{CANARY}\n".encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"set api_key of weather\n", b"")
    file = home / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert kept(home) == {"weather": {"api_key": CANARY}}
    listed = secrets("list", "Weather")
    assert (listed.returncode, listed.stdout) == (0, b"api_key\n")
    assert secrets("rm", "weather", "api_KEY").returncode == 0
    assert secrets("list", "weather").stdout == b""
    again = secrets("rm", "weather", "api_key")
    assert again.returncode == 2
    assert b"has no secret" in again.stderr


def test_a_running_host_is_asked_and_says_which_plugin_it_does_not_know(home: Path) -> None:
    with Served(home).ready() as host:
        done = secrets("set", "weather", "key", value=CANARY.encode())
        assert done.returncode == 0, done.stderr
        assert b"has no plugin weather" in done.stderr
        with host.client() as client:
            assert client.get("/api/host/plugins/weather/secrets").json() == {
                "plugin": "weather",
                "known": False,
                "secrets": ["key"],
            }
            set_there = client.put("/api/host/plugins/weather/secrets/Other", json={"value": CANARY})
            assert (set_there.status_code, set_there.json()["name"]) == (200, "other")
            assert client.delete("/api/host/plugins/weather/secrets/other").status_code == 204
            assert client.delete("/api/host/plugins/weather/secrets/other").status_code == 404
        assert secrets("list", "weather").stdout == b"key\n"
        assert host.stop() == 0
        assert CANARY not in host.log


def test_one_newline_is_cut_and_no_more(home: Path) -> None:
    assert secrets("set", "p", "windows", value=b"v\r\n").returncode == 0
    two = secrets("set", "p", "two", value=b"v\n\n")
    assert two.returncode == 2
    assert b"line break" in two.stderr
    assert kept(home) == {"p": {"windows": "v"}}


@pytest.mark.parametrize(
    "value",
    [b"", b"\n", b"a\nb", b"a\r\nx-evil: 1", b"a\0b", b" a", "schl\u00fcssel".encode(), b"\xff\xfe", b"x" * 9000],
    ids=["empty", "newline", "two lines", "header", "nul", "space", "umlaut", "no utf-8", "long"],
)
def test_a_value_that_is_no_header_is_refused_and_not_repeated(value: bytes, home: Path) -> None:
    done = secrets("set", "p", "name", value=value)
    assert done.returncode == 2, done.stderr
    assert len(value) < 3 or value.strip() not in done.stderr
    assert not (home / "secrets.json").exists()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a.b", "\u00e4", "x" * 65, "../x"])
def test_a_name_that_is_no_header_is_refused(name: str) -> None:
    done = secrets("set", "p", name, value=b"v")
    assert done.returncode == 2
    assert b"letters, digits" in done.stderr


def test_a_plugins_secrets_fit_beside_the_other_headers() -> None:
    for number in range(8):
        assert secrets("set", "p", f"n{number}", value=b"x" * 990).returncode == 0
    full = secrets("set", "p", "n8", value=b"x" * 990)
    assert full.returncode == 2
    assert b"are the most" in full.stderr


def test_a_damaged_file_is_an_error_and_is_left_as_it_is(home: Path) -> None:
    assert secrets("set", "p", "name", value=CANARY.encode()).returncode == 0
    file = home / "secrets.json"
    whole = file.read_bytes()
    damages = [whole[: len(whole) // 2], b"", b"[]", whole.replace(b'"version": 1', b'"version": 2'), b"\xff"]
    damages.append(whole.replace(CANARY.encode(), CANARY.encode() + b"\\n"))
    for damaged in damages:
        file.write_bytes(damaged)
        for words in (["set", "p", "other"], ["rm", "p", "name"], ["list", "p"]):
            done = secrets(*words, value=b"v")
            assert done.returncode == 1, (damaged, words, done)
            assert b"secrets.json is damaged" in done.stderr
            assert CANARY.encode() not in done.stdout + done.stderr
        assert file.read_bytes() == damaged


def test_a_host_sees_what_another_process_has_changed_and_says_when_it_is_damaged(home: Path) -> None:
    with running_host(home=home) as host:
        path = "/api/host/plugins/p/secrets"
        host.http.put(f"{path}/one", json={"value": "1"}).raise_for_status()
        (home / "secrets.json").write_text('{"version": 1, "plugins": {"p": {"two": "2"}}}')
        assert host.http.get(path).json()["secrets"] == ["two"]
        (home / "secrets.json").write_text("{")
        answer = host.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "is damaged" in answer.json()["detail"]
        assert host.http.put(f"{path}/three", json={"value": "3"}).status_code == 503
        assert (home / "secrets.json").read_text() == "{"


TELLS = """
require('node:http').createServer((request, response) => response.end(request.headers['x-plugin-secret-key'] ?? ''))
  .listen(0, '127.0.0.1', function () { console.log(JSON.stringify({ ready: true, port: this.address().port })); });
"""

CHANGES = """
import sys
from plugbay import _core
for line in sys.stdin:
    home, value = line.split()
    _core.remove_secret(home, "tells", "key") if value == "-" else _core.set_secret(home, "tells", "key", value)
    print("done", flush=True)
"""


def test_what_another_process_has_changed_counts_from_the_very_next_request(home: Path, tmp_path: Path) -> None:
    write_child(tmp_path / "plugins", "tells", TELLS)
    with (
        running_host(plugins_dirs=[tmp_path / "plugins"], home=home) as host,
        subprocess.Popen(
            [sys.executable, "-c", CHANGES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdin is not None and other.stdout is not None
        pid = reaches(host.http, "tells", "running")["server"]["pid"]
        for number in range(60):
            # Of one length, so that nothing but the change itself tells the files apart.
            value = "-" if number % 7 == 6 else f"{number:04}"
            print(home, value, file=other.stdin, flush=True)
            assert other.stdout.readline() == "done\n"
            assert host.http.get("/api/plugins/tells/rpc/").text == value.strip("-")
            if number % 2:
                host.http.put("/api/host/plugins/tells/secrets/key", json={"value": "over-http"}).raise_for_status()
                assert host.http.get("/api/plugins/tells/rpc/").text == "over-http"
        assert row(host.http, "tells")["server"]["pid"] == pid


def test_changes_from_many_sides_at_once_lose_nothing(home: Path) -> None:
    with running_host(home=home) as host:

        def over_http(number: int) -> None:
            for count in range(10):
                url = f"{host.url}/api/host/plugins/p/secrets/http-{number}-{count}"
                headers = {"Authorization": f"Bearer {host.token}"}
                httpx.put(url, json={"value": "v"}, headers=headers).raise_for_status()

        def by_command(number: int) -> None:
            script = "from plugbay import _core\n" + "".join(
                f"_core.set_secret({str(home)!r}, 'p', 'command-{number}-{count}', 'v')\n" for count in range(10)
            )
            subprocess.run([sys.executable, "-c", script], check=True)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3) for work in (over_http, by_command)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept(home)["p"]) == 60


def test_only_who_administers_comes_to_secrets(home: Path) -> None:
    with running_host(home=home) as host:
        path = f"{host.url}/api/host/plugins/p/secrets"
        for scopes, status in ((["call", "approve"], 403), (["admin"], 200)):
            headers = {"Authorization": f"Bearer {added(host, scopes[0], *scopes)}"}
            assert httpx.put(f"{path}/name", json={"value": CANARY}, headers=headers).status_code == status
            assert httpx.get(path, headers=headers).status_code == status
        assert CANARY not in host.http.get("/api/host/plugins/p/secrets").text


@pytest.mark.parametrize("body", ["", "null", "{}", '{"value": 1}', f'{{"value": "{CANARY}", "more": 1}}', "[", CANARY])
def test_a_wish_that_is_not_understood_is_not_repeated(body: str) -> None:
    with running_host() as host:
        answer = host.http.put("/api/host/plugins/p/secrets/name", content=body)
        assert answer.status_code in (400, 422)
        assert CANARY not in answer.text


def test_a_terminal_is_asked_without_an_echo(home: Path) -> None:
    command = [sys.executable, "-m", "plugbay", "secrets", "set", "p", "name"]
    outer, inner = pty.openpty()
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True) as process:
        os.close(inner)
        seen = b""
        while b": " not in seen:
            seen += os.read(outer, 1024)
        os.write(outer, CANARY.encode() + b"\n")
        assert process.wait(30) == 0
        while b"set name of p" not in seen:
            seen += os.read(outer, 1024)
    os.close(outer)
    assert CANARY.encode() not in seen
    assert kept(home) == {"p": {"name": CANARY}}
