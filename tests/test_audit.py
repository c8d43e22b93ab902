"""The record of every call: on the command line, in PostgreSQL, on a full disk, and after the host was killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit import PATIENCE_S, Command
from postgres import Postgres
from served import Served, write_plugin

from plugbay import cli_audit
from plugbay.cli import main
from plugbay.client import HostClient

TOOLS = '''
def note(args):
    """Change something."""
    return args["number"]


def setup(host):
    number = {"number": {"type": "integer"}}
    host.add_agent_tool(AgentTool("kept.write", "Change.", note, number, ["number"], side_effect=True))
    host.add_agent_tool(AgentTool("kept.read", "Look.", note, number, ["number"]))
    host.add_agent_tool(AgentTool("kept.fail", "Fail.", lambda args: 1 / 0))
'''

KILLS = 20


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    write_plugin(tmp_path / "plugins", "kept", TOOLS)
    return tmp_path / "plugins"


def serve(home: Path, plugins: Path, *words: str, **environment: str) -> Served:
    words = ("--mode", "autonomous", "--access-log", "off", *words)
    return Served(home, *words, plugins=plugins, **environment)


def call(host: Served, tool: str, number: int) -> tuple[int, Any]:
    with host.client() as client:
        answer = client.post(f"/api/host/tools/{tool}", json={"number": number})
        return answer.status_code, answer.json()


def records(host: Served, **wish: Any) -> list[dict[str, Any]]:
    with host.client() as client:
        page = client.get("/api/host/audit", params={"after": 0, "limit": 1000, **wish}).raise_for_status().json()
        found: list[dict[str, Any]] = page["records"]
        return found


def here(*words: str) -> tuple[int, str]:
    """The exit code of a command that is run in this process, and what it said."""
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


class Caller(threading.Thread):
    """Changes something again and again until the host is gone, and notes what was answered."""

    def __init__(self, host: Served, numbers: Iterator[int], answered: threading.Semaphore) -> None:
        super().__init__(daemon=True)
        self._host, self._numbers, self._answered = host, numbers, answered
        self._token = host.token
        self.done: list[int] = []

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._host.port, timeout=PATIENCE_S)
        with contextlib.suppress(OSError, HTTPException), contextlib.closing(connection):
            for number in self._numbers:
                headers = {"Authorization": f"Bearer {self._token}"}
                connection.request("POST", "/api/host/tools/kept.write", json.dumps({"number": number}), headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.done.append(number)
                    self._answered.release()


def kill_and_look(home: Path, plugins: Path, kills: int) -> None:
    chance = random.Random(7)
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def next_number() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers)
            yield number

    answered: set[int] = set()
    for round_ in range(kills):
        # Now and then a new folder, so that the making of the database is cut off, too.
        folder = home / str(round_ // 5)
        folder.parent.mkdir(exist_ok=True)
        count = threading.Semaphore(0)
        with serve(folder, plugins) as host:
            host.ready()
            callers = [Caller(host, next_number(), count) for _ in range(4)]
            for caller in callers:
                caller.start()
            for _ in range(chance.randrange(0, 40)):
                assert count.acquire(timeout=PATIENCE_S)
            host.process.kill()
            host.ended()
            for caller in callers:
                caller.join(PATIENCE_S)
                answered |= set(caller.done)
    kept: list[int] = []
    for path in home.glob("*/plugbay.db"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'plugbay_audit'").fetchone() != (0,):
                kept += [
                    json.loads(text)["number"] for (text,) in database.execute("SELECT arguments FROM plugbay_audit")
                ]
    assert len(kept) == len(set(kept)), "a call has two records"
    assert answered - set(kept) == set(), "an answered side effect has no record"
    assert len(answered) > kills


def test_no_record_of_an_answered_side_effect_is_lost_when_the_host_is_killed(home: Path, plugins: Path) -> None:
    kill_and_look(home, plugins, KILLS)


@pytest.mark.soak
def test_no_record_is_lost_in_a_thousand_kills(home: Path, plugins: Path) -> None:
    kill_and_look(home, plugins, 1000)


def test_a_disk_that_is_full_stops_side_effects_until_there_is_room(home: Path, plugins: Path) -> None:
    with serve(home, plugins, PLUGBAY_LIMITS_AUDIT_TIME_S="0.5").ready() as host:
        assert call(host, "kept.write", 1)[0] == 200
        room = resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE)
        # No file may grow any more, which is all that a full disk is to a program.
        resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (1024, room[1]))
        status, problem = call(host, "kept.write", 2)
        assert (status, problem["code"]) == (503, "unavailable")
        assert "has run" in problem["detail"]
        status, problem = call(host, "kept.write", 3)
        assert (status, problem["code"]) == (503, "unavailable")
        assert "nothing with a side effect runs" in problem["detail"]
        assert call(host, "kept.read", 4)[0] == 200, "what changes nothing goes on"
        assert [record["arguments"]["number"] for record in records(host)] == [1], "and so does reading the log"
        resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, room)
        host.logged("calls are recorded again")
        assert call(host, "kept.write", 5)[0] == 200
        assert [record["arguments"]["number"] for record in records(host)] == [1, 2, 3, 4, 5]
        assert host.stop() == 0


def test_a_stop_writes_what_is_under_way(home: Path, plugins: Path) -> None:
    with serve(home, plugins).ready() as host:
        for number in range(20):
            assert call(host, "kept.read", number)[0] == 200
        assert host.stop() == 0
    with contextlib.closing(sqlite3.connect(home / "plugbay.db")) as database:
        assert database.execute("SELECT count(*) FROM plugbay_audit").fetchone() == (20,)
    assert (home / "plugbay.db").stat().st_mode & 0o777 == 0o600


def test_a_host_that_calls_no_tool_makes_no_database(home: Path, plugins: Path) -> None:
    with serve(home, plugins).ready() as host:
        with host.client() as client:
            assert client.get("/api/host/tools").status_code == 200
        assert host.stop() == 0
    assert not (home / "plugbay.db").exists()


def test_a_damaged_database_is_told_at_the_start_and_the_rest_serves(home: Path, plugins: Path) -> None:
    home.mkdir()
    (home / "plugbay.db").write_bytes(b"no database" * 1000)
    with serve(home, plugins).ready() as host:
        host.logged(r"plugbay\.db is damaged .*move it away")
        assert call(host, "kept.write", 1)[0] == 503
        assert call(host, "kept.read", 1)[0] == 200
        for path in home.glob("plugbay.db*"):
            path.unlink()
        host.logged("calls are recorded again")
        assert call(host, "kept.write", 2)[0] == 200
        assert len(records(host)) == 3


def test_the_command_lists_filters_and_follows(home: Path, plugins: Path, plugbay: Command) -> None:
    with serve(home, plugins).ready() as host:
        for number in range(3):
            call(host, "kept.read", number)
        call(host, "kept.write", 3)
        call(host, "kept.fail", 4)
        call(host, "kept.read", "five")  # type: ignore[arg-type]
        lines = here("audit")[1].splitlines()
        assert lines[0].split()[:4] == ["TIME", "CALLER", "DOOR", "TOOL"]
        assert len(lines) == 7
        assert "failed (plugin)" in lines[5]
        assert "refused (invalid)" in lines[6]
        found = json.loads(here("audit", "--json", "--tool", "kept.read", "--since", "1h")[1])["records"]
        assert [record["arguments"]["number"] for record in found] == [0, 1, 2, "five"]
        assert [record["id"] for record in found] == sorted(record["id"] for record in found)
        assert len(json.loads(here("audit", "--json", "--limit", "2")[1])["records"]) == 2
        code, said = here("audit", "--since", "yesterday")
        assert (code, "no time" in said) == (2, True)
        command = [sys.executable, "-m", "plugbay", "audit", "--follow", "--json", "--tool", "kept.write"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as follower:
            assert follower.stdout is not None
            assert json.loads(follower.stdout.readline())["arguments"] == {"number": 3}
            call(host, "kept.read", 6)
            call(host, "kept.write", 7)
            assert json.loads(follower.stdout.readline())["arguments"] == {"number": 7}
            follower.terminate()
    assert len(json.loads(plugbay("audit", "--json").stdout)["records"]) == 8, "without a host, too"
    assert here("audit", "--follow")[0] == 1


def test_how_long_ago_is_the_same_moment_for_every_page(
    home: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    page = cli_audit._page

    def noting(client: HostClient, **wish: Any) -> Any:
        asked.append(wish)
        return page(client, **wish)

    monkeypatch.setattr(cli_audit, "_page", noting)
    monkeypatch.setattr(cli_audit, "_PAGE", 2)
    with serve(home, plugins).ready() as host:
        for number in range(5):
            call(host, "kept.read", number)
        assert len(json.loads(here("audit", "--json", "--since", "1h")[1])["records"]) == 5
    assert len(asked) == 3
    (since,) = {wish["since"] for wish in asked}
    assert timedelta(minutes=59) < datetime.now(UTC) - datetime.fromisoformat(since) < timedelta(minutes=61)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def told(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says, without what differs from call to call, or from run to run: what nobody reads has a key."""
    differs = {"id", "call", "time", "duration_us"} | ({"digest"} if record["plugin"] is None else set())
    return {name: value for name, value in record.items() if name not in differs}


def test_a_postgresql_server_keeps_the_same_records(tmp_path: Path, plugins: Path, postgres: Postgres) -> None:
    found = []
    for name, words in (("file", ()), ("server", ("--database", postgres.url))):
        home = tmp_path / name
        with serve(home, plugins, *words).ready() as host:
            call(host, "kept.write", 1)
            call(host, "kept.read", 2)
            call(host, "kept.fail", 3)
            call(host, "kept.read", "four")  # type: ignore[arg-type]
            call(host, "kept.nothing", 5)
            found.append([told(record) for record in records(host)])
            assert len(records(host, tool="kept.read")) == 2
            assert "plugbay@" not in host.log
            assert host.stop() == 0
        assert (home / "plugbay.db").exists() == (name == "file")
    assert found[0] == found[1]
    assert [record["outcome"] for record in found[0]] == ["ok", "ok", "failed", "refused", "refused"]


def test_a_postgresql_server_that_crashes_stops_side_effects_until_it_is_back(
    tmp_path: Path, plugins: Path, postgres: Postgres
) -> None:
    words = ("--database", postgres.url)
    with (
        serve(tmp_path / "one", plugins, *words, PLUGBAY_LIMITS_AUDIT_TIME_S="1").ready() as host,
        serve(tmp_path / "other", plugins, *words).ready() as other,
    ):
        before = len(records(host))
        for number in range(100, 110):
            assert call(host, "kept.write", number)[0] == 200
            assert call(other, "kept.write", number + 100)[0] == 200
        postgres.stop("immediate")
        assert call(host, "kept.write", 110)[0] == 503
        assert call(host, "kept.read", 111)[0] == 200
        postgres.start()
        host.logged("calls are recorded again")
        assert call(host, "kept.write", 112)[0] == 200
        assert call(other, "kept.write", 210)[0] == 200
        numbers = sorted(record["arguments"]["number"] for record in records(host)[before:])
        assert numbers == [*range(100, 113), *range(200, 211)], "each once"
