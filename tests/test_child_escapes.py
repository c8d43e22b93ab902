"""Processes that children start and that hide: in sessions of their own, without a parent, without a control group."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from children import FLED, is_running, reaches, row, until, without_cgroups, write_stub, written
from served import Served
from test_child_faults import guard_of

HIDES = (
    FLED
    + """
group = subprocess.Popen(["sleep", "1000"], process_group=0)
session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("family", group.pid, session.pid, fled(), fled(), os.getpid(), file=sys.stderr, flush=True)
ready()
print("late", fled(), file=sys.stderr, flush=True)
serve()
"""
)
"""Five processes before it is ready, and one that the host has no time to see."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins."""
    return tmp_path / "plugins"


def hidden(client: httpx.Client, id: str) -> list[int]:
    """All processes that a child has named."""
    named = written(client, id, r"family ([\d ]+)")[1].split() + written(client, id, r"late (\d+)")[1].split()
    assert len(named) == 6
    return [int(pid) for pid in named]


@pytest.fixture(params=["as it is", "without control groups"])
def under(request: pytest.FixtureRequest) -> list[str]:
    """Where the host runs."""
    return without_cgroups() if request.param == "without control groups" else []


def test_whatever_hides_ends_with_a_host_that_is_killed(home: Path, folder: Path, under: list[str]) -> None:
    for number in range(10):
        write_stub(folder, f"child-{number}", HIDES)
    with Served(home, plugins=folder, under=under) as host, host.ready().client() as client:
        all_of_them = [pid for number in range(10) for pid in hidden(client, f"child-{number}")]
        assert all(map(is_running, all_of_them))
        guard = guard_of(host.process.pid)
        host.process.kill()
        until(lambda: not any(map(is_running, all_of_them)), "the end of all of them", limit_s=1.0)
        until(lambda: not is_running(guard), "the end of the guard")


def test_whatever_hides_ends_with_its_child(home: Path, folder: Path, under: list[str]) -> None:
    for id in ("stopped", "dies", "lives"):
        write_stub(folder, id, HIDES)
    with Served(home, plugins=folder, under=under) as host, host.ready().client() as client:
        stopped, dies, lives = (hidden(client, id) for id in ("stopped", "dies", "lives"))
        client.post("/api/host/plugins/stopped/stop").raise_for_status()
        assert not any(map(is_running, stopped))
        subprocess.run(["kill", "-KILL", str(dies[4])], check=True)
        until(lambda: not any(map(is_running, dies)), "the end of all of them")
        assert all(map(is_running, lives))
        assert host.stop() == 0
        assert not any(map(is_running, lives))


def test_whatever_hides_is_found_at_the_next_start(home: Path, folder: Path, under: list[str]) -> None:
    write_stub(folder, "left", HIDES)
    with Served(home, plugins=folder, under=under) as host, host.ready().client() as client:
        all_of_them = hidden(client, "left")
        until(lambda: "left" in json.loads((home / "children.json").read_bytes())["children"], "its trace")
        subprocess.run(["kill", "-KILL", str(guard_of(host.process.pid))], check=True)
        host.process.kill()
        host.ended()
    assert any(map(is_running, all_of_them))
    (folder / "left" / "server.py").write_text("raise SystemExit")
    with Served(home, plugins=folder, under=under) as host:
        host.ready()
        assert not any(map(is_running, all_of_them))
        host.logged("ended 1 child processes that an earlier host has left behind")
        assert host.stop() == 0


def test_a_guard_that_was_killed_is_replaced_and_knows_what_the_one_before_knew(home: Path, folder: Path) -> None:
    write_stub(folder, "before", HIDES)
    write_stub(folder, "after", HIDES)
    with Served(home, plugins=folder, under=without_cgroups()) as host, host.ready().client() as client:
        all_of_them = hidden(client, "before")
        hidden(client, "after")
        client.post("/api/host/plugins/after/stop").raise_for_status()
        guard = guard_of(host.process.pid)
        subprocess.run(["kill", "-KILL", str(guard)], check=True)
        until(lambda: not is_running(guard), "the end of the guard")
        client.post("/api/host/plugins/after/start").raise_for_status()
        all_of_them.append(row(client, "after")["server"]["pid"])
        assert all(map(is_running, all_of_them))
        host.process.kill()
        until(lambda: not any(map(is_running, all_of_them)), "the end of all of them", limit_s=1.0)


def test_what_cannot_be_executed_is_an_error_and_is_tried_again(home: Path, folder: Path) -> None:
    plugin = write_stub(folder, "broken", command=["./server.py"])
    (plugin / "server.py").write_text("#!/nowhere/interpreter\n")
    (plugin / "server.py").chmod(0o755)
    with Served(home, plugins=folder) as host, host.ready().client() as client:
        error = reaches(client, "broken", "waiting")["server"]["last_error"]
        assert (error["stage"], error["code"]) == ("startup", "upstream")
        assert "cannot start" in error["message"] and "No such file" in error["message"]
        answer = client.get("/api/plugins/broken/rpc/x")
        assert answer.status_code == 503 and "cannot start" in answer.json()["detail"]
        assert host.stop() == 0
