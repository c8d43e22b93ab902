"""The command line: what it prints, where, and how it ends."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

PLUGINS = Path(__file__).parent / "plugins"
GOOD, BROKEN = PLUGINS / "good", PLUGINS / "broken"
EXAMPLES = Path(__file__).parents[1] / "examples"

PRINTS = """
print("this is said at import")
import os
os.write(1, b"so is this\\n")
"""


@contextlib.contextmanager
def serving(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A host in a process of its own, and its address."""
    command = [sys.executable, "-m", "plugbay", "serve", "--port", "0", "--ready-json", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line, process.stderr and process.stderr.read()
            yield process, f"http://127.0.0.1:{json.loads(line)['port']}"
        finally:
            process.terminate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit code, and what was said since."""
    said, complained = process.communicate(timeout=30)
    return process.returncode, said, complained


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """The address of a host with the examples, in this test's home."""
    with serving("--plugins-dir", EXAMPLES) as (_, url):
        yield url


def test_the_ready_line_is_all_that_stands_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS + (GOOD / "greeter.py").read_text())
    with serving("--plugins-dir", tmp_path) as (process, url):
        assert httpx.get(f"{url}/healthz").status_code == 200
        process.terminate()
        code, said, complained = ended(process)
    assert (code, said) == (0, "")
    assert "this is said at import\n" in complained
    assert "so is this\n" in complained


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_host_in_good_order(number: signal.Signals, home: Path, tmp_path: Path) -> None:
    plugin = (GOOD / "greeter.py").read_text() + "        host.on_shutdown(lambda: print('shut down', flush=True))\n"
    (tmp_path / "greeter.py").write_text(plugin)
    with serving("--plugins-dir", tmp_path) as (process, _):
        assert json.loads((home / "host.json").read_text())["pid"] == process.pid
        process.send_signal(number)
        code, _, complained = ended(process)
    assert code == 0
    assert "shut down" in complained
    assert "Traceback" not in complained
    assert not (home / "host.json").exists()


def test_a_host_with_stuck_plugins_still_ends(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text((BROKEN / "waits_on_import.py").read_text())
    (tmp_path / "setup.py").write_text((BROKEN / "waits_in_setup.py").read_text())
    (tmp_path / "plugbay.toml").write_text("[limits]\nhook_time_s = 0.2\n")
    with serving("--plugins-dir", tmp_path, "--config", tmp_path / "plugbay.toml") as (process, url):
        assert httpx.get(f"{url}/readyz").status_code == 200
        process.terminate()
        code, _, complained = ended(process)
    assert code == 0
    assert complained.count("TimeoutError") == 2


def test_a_second_host_is_told_where_the_first_is_and_ends_with_3(url: str, plugbay: Any) -> None:
    for words in (["serve", "--port", "0"], ["repl"]):
        done = plugbay(*words)
        assert done.returncode == 3
        assert url in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "bold"], "bold"),
        (["--host", "0.0.0.0", "--auth", "none"], "loopback"),
        (["--workers", "0"], "workers"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--surprise"], "--surprise"),
    ],
)
def test_a_bad_setting_ends_with_2_and_says_which(words: list[str], message: str, plugbay: Any) -> None:
    done = plugbay("serve", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_banner_says_where_what_and_three_commands_that_work(home: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "two words"
    plugins.mkdir()
    (plugins / "broken.py").write_text("import a_module_that_nobody_has\n")
    command = [sys.executable, "-m", "plugbay", "serve", "--port", "0"]
    command += ["--plugins-dir", str(EXAMPLES), "--plugins-dir", str(plugins)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        banner = [next(process.stdout)]
        while not banner[-1].strip().endswith(" tools"):
            banner.append(next(process.stdout))
        said = "".join(banner)
        assert re.search(r"^Plugbay at http://127\.0\.0\.1:\d+$", said, re.MULTILINE)
        assert re.search(r"^Sign in: http://127\.0\.0\.1:\d+/sign-in/\S+", said, re.MULTILINE)
        assert "ping 1.0.0" in said
        assert re.search(r"broken\.py: import failed .*ModuleNotFoundError.*; install what it needs", said)
        commands = said.partition("Try:\n")[2].strip().splitlines()
        assert len(commands) == 3
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        for each in commands:
            words = each.strip().replace("curl ", "curl --fail --silent --show-error ")
            done = subprocess.run(words, shell=True, env=bare, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{each}: {done.stderr}"
            assert done.stdout
        process.terminate()


def test_check_prints_what_each_plugin_offers_and_ends_well(plugbay: Any) -> None:
    done = plugbay("check", EXAMPLES)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in ("ping 1.0.0", "  route    GET /api/plugins/ping", "  tool     ping.echo", "  channel  chat"):
        assert line in lines
    assert "  tool     notes.add (side effect)" in lines
    assert "  facade   dash.ping" in lines
    assert "  route    WS /api/guestbook/echo" in lines


def test_check_ends_with_1_and_says_what_is_wrong_on_standard_error(plugbay: Any) -> None:
    done = plugbay("check", GOOD / "greeter.py", BROKEN / "setup_raises_half_way.py", BROKEN / "takes_a_tool.py")
    assert done.returncode == 1
    assert "greeter 1.2.3" in done.stdout
    assert "1 loaded, 2 failed" in done.stdout
    assert "setup failed (plugin): ValueError: half way" in done.stderr
    assert 'raise ValueError("half way")' in done.stderr
    assert 'tool "greet" of plugin takes-a-tool is taken by plugin greeter' in done.stderr


def test_check_says_what_a_plugin_with_a_server_offers_and_whether_that_is_built(plugbay: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "clock"
    plugin.mkdir()
    manifest = {"name": "clock", "displayName": "Clock", "version": "1.2.3", "entry": "index.js", "server": "dist/x.js"}
    (plugin / "manifest.json").write_text(json.dumps(manifest))
    done = plugbay("check", plugin)
    assert done.returncode == 0, done.stderr
    assert "/api/plugins/clock/rpc/… and /plugin-ws/clock" in done.stdout
    assert "page     /api/plugins/clock/assets/index.js" in done.stdout
    assert 'its server "dist/x.js" is not in' in done.stdout and "nothing" not in done.stdout
    (plugin / "dist").mkdir()
    (plugin / "dist/x.js").touch()
    assert "build it" not in plugbay("check", plugin).stdout


def test_check_of_a_folder_that_is_not_there_ends_with_1(plugbay: Any, tmp_path: Path) -> None:
    done = plugbay("check", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "not_found" in done.stderr


def test_check_writes_nothing_and_takes_no_lock(url: str, plugbay: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text((GOOD / "greeter.py").read_text())
    before = sorted(tmp_path.rglob("*"))
    assert plugbay("check", tmp_path / "one.py").returncode == 0
    assert sorted(path for path in tmp_path.rglob("*") if home not in [path, *path.parents]) == [
        path for path in before if home not in [path, *path.parents]
    ]


def test_a_command_ends_when_a_plugin_has_left_a_thread_behind(plugbay: Any, tmp_path: Path) -> None:
    text = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    (tmp_path / "threads.py").write_text(text + (GOOD / "greeter.py").read_text())
    done = plugbay("check", tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "greeter 1.2.3")


def test_check_notes_a_route_that_is_never_reached(plugbay: Any, tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(
        (GOOD / "sharing.py").read_text().replace("@router", "@router.get('/items/{id}')\ndef item(id): ...\n@router")
    )
    done = plugbay("check", tmp_path)
    assert done.returncode == 0
    assert "note: plugin sharing: GET /items/mine is never reached, since GET /items/{id} stands before" in done.stdout


def test_check_as_json_is_for_programs(plugbay: Any) -> None:
    done = plugbay("check", "--json", GOOD / "greeter.py", BROKEN / "bad_id.py")
    said = json.loads(done.stdout)
    assert [plugin["id"] for plugin in said["plugins"]] == ["greeter"]
    assert said["plugins"][0]["offers"] == ["tool     greet"]
    assert [(error["stage"], error["code"]) for error in said["errors"]] == [("read", "invalid")]


@pytest.mark.parametrize("words", [["plugins"], ["routes"], ["tools"]])
def test_lists_are_the_same_from_a_running_host_and_without_one(
    words: list[str], plugbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUGINS_DIR", str(EXAMPLES))
    key = {"plugins": "id", "routes": "path", "tools": "name"}[words[0]]

    def rows() -> list[Any]:
        done = plugbay(*words, "--json")
        assert done.returncode == 0, done.stderr
        return sorted(row[key] for row in json.loads(done.stdout)[words[0]] if row.get("methods") != ["WS"])

    here = rows()
    with serving():
        there = rows()
    assert here
    if words != ["routes"]:
        assert here == there
    else:
        assert {path for path in here if "guestbook" not in path} == {path for path in there if "guestbook" not in path}


def test_lists_are_tables_for_people_and_failures_stand_on_standard_error(
    plugbay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setenv("PLUGINS_DIR", os.pathsep.join([str(EXAMPLES), str(tmp_path)]))
    plugins = plugbay("plugins")
    assert plugins.stdout.splitlines()[0].split() == ["PLUGIN", "VERSION", "STATE", "SOURCE"]
    assert "ZeroDivisionError" in plugins.stderr
    assert "ping.echo" in plugbay("tools").stdout
    assert "/api/notes/{id}" in plugbay("routes").stdout


CALLS = [
    (["ping.echo", '{"text": "hi"}'], "", 0, {"echo": "hi"}),
    (["ping.echo", "--json", '{"text": "hi"}'], "", 0, {"echo": "hi"}),
    (["ping.echo", "--json", "-"], '{"text": "from a pipe"}', 0, {"echo": "from a pipe"}),
    (["ping.echo", "--arg", "text=5"], "", 0, {"echo": "5"}),
    (["ping.countdown", "--arg", "start=2"], "", 0, [2, 1, 0]),
    (["ping.echo", "--arg", "text=a", '{"text": "b"}'], "", 0, {"echo": "a"}),
    (["ping.echo"], "", 2, '"text" is a required property'),
    (["ping.echo", "not json"], "", 2, "not JSON"),
    (["ping.echo", "[1]"], "", 2, "a JSON object"),
    (["ping.echo", "--arg", "text"], "", 2, "--arg text=hi"),
    (["nowhere"], "", 2, "no plugin offers a tool"),
]


@pytest.mark.parametrize("running", [False, True], ids=["alone", "with a host"])
def test_a_tool_call_prints_its_result_or_says_why_not(running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGINS_DIR", str(EXAMPLES))
    with serving() if running else contextlib.nullcontext():
        for words, given, code, expected in CALLS:
            command = [sys.executable, "-m", "plugbay", "tool", "call", *words]
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
            assert done.returncode == code, (words, done.stderr)
            if code == 0:
                assert json.loads(done.stdout) == expected
                assert done.stderr.startswith("" if running else "no host runs in ")
                assert done.stderr.count("\n") == (0 if running else 1)
            else:
                assert expected in done.stderr
                assert done.stdout == ""


def test_a_tool_that_fails_ends_with_1(plugbay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text((GOOD / "greeter.py").read_text().replace('f"hello {name}"', "name / 1"))
    monkeypatch.setenv("PLUGINS_DIR", str(tmp_path))
    done = plugbay("tool", "call", "greet", "--arg", "name=Ada")
    assert done.returncode == 1
    assert "TypeError" in done.stderr


@pytest.mark.parametrize("running", [False, True], ids=["alone", "with a host"])
def test_tokens_are_made_listed_and_taken_back(running: bool, plugbay: Any) -> None:
    with serving() if running else contextlib.nullcontext():
        made = plugbay("token", "add", "ci", "--scope", "call,approve", "--days", "3")
        assert made.returncode == 0, made.stderr
        assert re.fullmatch(r"plugbay_\S+\n", made.stdout)
        listed = json.loads(plugbay("token", "list", "--json").stdout)["tokens"]
        assert [(token["name"], token["scopes"]) for token in listed][1:] == [("ci", ["call", "approve"])]
        assert plugbay("token", "add", "ci", "--scope", "call").returncode == 1
        assert plugbay("token", "add", "ci2", "--scope", "everything").returncode == 2
        assert plugbay("token", "revoke", "ci").stdout == "revoked the token of ci\n"
        assert plugbay("token", "revoke", "ci").returncode == 2
        assert "ci" not in plugbay("token", "list").stdout.split()


def test_revoking_the_owners_token_says_where_the_new_one_is(plugbay: Any, home: Path) -> None:
    plugbay("token", "list")
    before = (home / "token").read_text()
    assert "file `token`" in plugbay("token", "revoke", "owner").stdout
    assert (home / "token").read_text() != before


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a file of settings, a plugin that prints, and one that is too slow for these settings."""
    folder = tmp_path / "settled"
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "greeter.py").write_text(PRINTS + (GOOD / "greeter.py").read_text())
    (folder / "plugins" / "slow.py").write_text((BROKEN / "waits_on_import.py").read_text())
    (folder / "plugbay.toml").write_text('plugins_dir = ["plugins"]\n[limits]\nhook_time_s = 3\n')
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("words", [["check", "--json"], ["plugins", "--json"], ["tools", "--json"]])
def test_without_a_host_the_settings_are_those_of_serve_and_only_results_are_on_standard_output(
    words: list[str], settled: Path, plugbay: Any, home: Path
) -> None:
    done = plugbay(*words)
    assert '"greet' in json.dumps(json.loads(done.stdout))
    assert {"this is said at import", "so is this"} <= set(done.stderr.splitlines())
    assert ("did not end within 3 s" in done.stdout) == (words[0] != "tools")
    assert (f"no host runs in {home}" in done.stderr) == (words[0] != "check")
    assert not home.exists()


def test_a_setting_that_serve_refuses_is_refused_without_a_host(settled: Path, plugbay: Any) -> None:
    (settled / "plugbay.toml").write_text("surprise = 1\n")
    for words in (["check"], ["tools"], ["tool", "call", "greet"]):
        done = plugbay(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "surprise" in done.stderr


def test_a_tool_call_without_a_host_goes_through_the_gate_of_the_settings(
    plugbay: Any, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    words = ["tool", "call", "ping.announce", '{"text": "hi"}', "--plugins-dir", EXAMPLES]
    assert plugbay(*words).returncode == 1
    assert plugbay(*words, "--mode", "autonomous").returncode == 0
    monkeypatch.setenv("PLUGBAY_MODE", "autonomous")
    assert plugbay(*words).returncode == 0
    assert not home.exists()


def test_a_plugin_that_fails_is_one_record_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with serving("--plugins-dir", tmp_path, "--log-format", "json") as (process, _):
        assert process.stderr is not None
        records = iter(lambda: json.loads(process.stderr.readline()), None)  # type: ignore[union-attr]
        record = json.dumps(next(each for each in records if "ZeroDivisionError" in json.dumps(each)))
        assert "broken.py" in record
        assert "import failed" in record
        process.terminate()
        _, _, complained = ended(process)
    assert "ZeroDivisionError" not in complained


def test_without_authentication_the_banner_has_no_token_and_says_so() -> None:
    command = [sys.executable, "-m", "plugbay", "serve", "--port", "0", "--auth", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        banner = [next(process.stdout)]
        while not banner[-1].strip().endswith(" tools"):
            banner.append(next(process.stdout))
        process.terminate()
    assert "authentication is off" in banner[1]
    assert "sign-in/" not in "".join(banner)
    assert "Bearer" not in "".join(banner)


def test_a_token_that_was_made_before_the_start_counts(plugbay: Any) -> None:
    token = plugbay("token", "add", "early", "--scope", "call").stdout.strip()
    with serving() as (_, url):
        answer = httpx.get(f"{url}/api/host/plugins", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert httpx.get(f"{url}/api/host/plugins").status_code == 401


def test_a_command_with_an_address_asks_there(url: str, plugbay: Any, home: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PLUGBAY_TOKEN", (home / "token").read_text().strip())
    monkeypatch.setenv("PLUGBAY_HOME", str(home.parent / "other"))
    assert "ping.echo" in plugbay("tools", "--url", url).stdout
    refused = plugbay("tools", "--url", "http://127.0.0.1:9")
    assert refused.returncode == 1
    assert "no host answers" in refused.stderr


def test_every_command_explains_itself(plugbay: Any) -> None:
    from plugbay.cli import main

    for name in main.list_commands(click.Context(main)):
        done = plugbay(name, "--help")
        assert done.returncode == 0
        assert "Usage: " in done.stdout
