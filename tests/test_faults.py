"""What the host keeps when the disk fails at the n-th change of a file, and when the host ends there, for every n."""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from kit import PATIENCE_S
from served import Served, write_plugin

TOOLS = '''
def note(args):
    """Change something."""
    return args["number"]


def setup(host):
    number = {"number": {"type": "integer"}}
    host.add_agent_tool(AgentTool("kept.write", "Change.", note, number, ["number"], side_effect=True))
'''

EVERY = 6
"""In the suite every so many-th change fails, in a soak each."""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets changes of files fail."""
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).parent / "faults.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True, timeout=60)
    return made


class Faults:
    """Says which change of a file below ``home`` fails, or ends the host."""

    def __init__(self, library: Path, home: Path, control: Path) -> None:
        control.write_bytes(bytes(12))
        with control.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 12)
        self.environment = {
            "LD_PRELOAD": str(library), "FAULTS_CONTROL": str(control), "FAULTS_BELOW": str(home),
        }  # fmt: skip

    def arm(self, number: int, *, kill: bool = False) -> None:
        """Let the ``number``-th change from now on fail."""
        self._numbers[:] = struct.pack("iii", number, kill, 0)

    def disarm(self) -> bool:
        """Let none fail, and say whether one has."""
        struck = bool(struct.unpack("iii", self._numbers[:])[2])
        self._numbers[:] = bytes(12)
        return struck


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    write_plugin(tmp_path / "plugins", "kept", TOOLS)
    return tmp_path / "plugins"


def serve(home: Path, plugins: Path, **environment: str) -> Served:
    return Served(home, "--mode", "autonomous", "--access-log", "off", plugins=plugins, **environment)


def write(client: httpx.Client, number: int) -> int:
    return client.post("/api/host/tools/kept.write", json={"number": number}).status_code


def rows(home: Path) -> list[int]:
    """The numbers in the records, from a database that is whole."""
    with contextlib.closing(sqlite3.connect(home / "plugbay.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [json.loads(text)["number"] for (text,) in database.execute("SELECT arguments FROM plugbay_audit")]


def tables(home: Path) -> tuple[set[str], int | None]:
    """The names of the tables and indices of a database that is whole, and its version; nothing where there is none."""
    if not (home / "plugbay.db").exists():
        return set(), None
    with contextlib.closing(sqlite3.connect(home / "plugbay.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        version = database.execute("SELECT sum(version) FROM plugbay_version") if names else None
        return names, None if version is None else version.fetchone()[0]


NEW = ({"plugbay_version", "plugbay_audit", "plugbay_audit_tool", "plugbay_audit_age"}, 2)


def change_rules(client: httpx.Client, home: Path, number: int, expected: set[str]) -> None:
    """Add a rule, which then holds and is kept, or neither."""
    rule = f"tool{number}"
    done = client.post("/api/host/permissions/rules", json={"list": "deny", "rule": rule})
    assert done.status_code in (201, 503), done.text
    if done.status_code == 201:
        expected.add(rule)
    shown = client.get("/api/host/permissions").raise_for_status().json()["rules"]
    assert {each["rule"] for each in shown} == expected
    path = home / "rules.json"
    kept = json.loads(path.read_bytes())["rules"] if path.exists() else []
    assert {each["rule"] for each in kept} == expected


def change_tokens(client: httpx.Client, home: Path, number: int, expected: set[str]) -> None:
    """Make a token, which then is one and is kept, or neither."""
    done = client.post("/api/host/tokens", json={"name": f"name{number}", "scopes": ["call"]})
    assert done.status_code in (201, 503), done.text
    if done.status_code == 201:
        expected.add(f"name{number}")
    shown = client.get("/api/host/tokens").raise_for_status().json()["tokens"]
    assert {each["name"] for each in shown} - {"owner"} == expected


Change = Callable[[httpx.Client, Path, int, set[str]], None]


@pytest.mark.parametrize("change", [change_rules, change_tokens])
def test_a_change_that_fails_anywhere_is_whole_or_not_at_all(
    tmp_path: Path, home: Path, plugins: Path, library: Path, change: Change
) -> None:
    faults = Faults(library, home, tmp_path / "control")
    expected: set[str] = set()
    with serve(home, plugins, **faults.environment).ready() as host, host.client() as client:
        for number in itertools.count(1):
            faults.arm(number)
            change(client, home, number, expected)
            if not faults.disarm():
                break
        assert number > 3, "nothing has failed"
        assert host.stop() == 0
    with serve(home, plugins).ready() as host, host.client() as client:
        change(client, home, 0, expected)
        assert host.stop() == 0


def test_a_record_whose_writing_fails_anywhere_is_on_the_disk_when_its_call_is_answered(
    tmp_path: Path, home: Path, plugins: Path, library: Path
) -> None:
    faults = Faults(library, home, tmp_path / "control")
    answered: list[int] = []
    numbers = itertools.count()
    with serve(home, plugins, **faults.environment).ready() as host, host.client() as client:

        def call() -> bool:
            number = next(numbers)
            status = write(client, number)
            assert status in (200, 503)
            if status == 200:
                answered.append(number)
            return status == 200

        assert call()
        for change in itertools.count(1):
            faults.arm(change)
            call()
            struck = faults.disarm()
            # What has failed once is tried again soon; until then nothing with a side effect runs.
            assert any(call() for _try in range(100_000))
            if not struck:
                break
        assert change > 3, "nothing has failed"
        host.process.kill()
    kept = rows(home)
    assert set(answered) <= set(kept)
    assert len(kept) == len(set(kept))


def first_calls(
    tmp_path: Path, plugins: Path, library: Path, step: int, *, kill: bool
) -> Iterator[tuple[int, Path, bool, list[int]]]:
    """The making of the database, with a fault at each ``step``-th change; ends with one that none came in."""
    for number in itertools.count(1, step):
        home = tmp_path / f"home{number}"
        faults = Faults(library, home, tmp_path / f"control{number}")
        answered = []
        with serve(home, plugins, **faults.environment).ready() as host, host.client() as client:
            faults.arm(number, kill=kill)
            with contextlib.suppress(httpx.HTTPError):
                answered = [1] if write(client, 1) == 200 else []
            struck = faults.disarm()
            if struck and kill:
                host.process.wait(PATIENCE_S)
            elif struck:
                assert any(write(client, 2) == 200 for _try in range(100_000))
            host.process.kill()
        yield number, home, struck, answered
        if not struck:
            return


STEPS = [EVERY, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]


@pytest.mark.parametrize("step", STEPS)
def test_a_host_that_ends_while_it_makes_its_tables_leaves_the_old_or_the_new_ones(
    tmp_path: Path, plugins: Path, library: Path, step: int
) -> None:
    for number, home, struck, answered in first_calls(tmp_path, plugins, library, step, kill=True):
        names, version = tables(home)
        assert (names, version) in [(set(), None), NEW], number
        with serve(home, plugins).ready() as host, host.client() as client:
            assert write(client, 3) == 200, number
            assert host.stop() == 0
        assert tables(home) == NEW
        assert set(answered) <= set(rows(home)), number
        assert struck or number > step, "nothing has ended it"


@pytest.mark.parametrize("step", STEPS)
def test_tables_whose_making_fails_anywhere_are_made_when_it_is_tried_again(
    tmp_path: Path, plugins: Path, library: Path, step: int
) -> None:
    for number, home, _struck, answered in first_calls(tmp_path, plugins, library, step, kill=False):
        assert tables(home) == NEW, number
        assert set(answered) <= set(rows(home)), number
    assert number > step, "nothing has failed"
