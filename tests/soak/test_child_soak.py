"""Children over a long time: restarts, hosts that are killed, output without end."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from children import is_running, reaches, row, until, without_cgroups, write_child, write_stub
from kit import PATIENCE_S
from served import Served
from system import Process
from test_child_escapes import HIDES, hidden
from test_child_faults import ANSWERS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def zombies_of(parent: int) -> int:
    """How many children a process has that it has not waited for."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        found += words[0] == "Z" and int(words[1]) == parent
    return found


def test_a_thousand_restarts_leave_nothing_behind(home: Path, tmp_path: Path) -> None:
    write_stub(tmp_path / "plugins", "again")
    with Served(home, "--access-log", "off", "--log-level", "off", plugins=tmp_path / "plugins") as host:
        process = Process(host.ready().process.pid)
        with host.client() as client:
            reaches(client, "again", "running")

            def restart(times: int) -> None:
                for number in range(times):
                    if number % 2:
                        client.post("/api/host/plugins/again/stop").raise_for_status()
                    else:
                        os.kill(row(client, "again")["server"]["pid"], signal.SIGKILL)
                        until(lambda: row(client, "again")["server"]["state"] != "running", "its end")
                    client.post("/api/host/plugins/again/start").raise_for_status()

            restart(100)
            files, memory = process.files, process.rss_bytes
            restart(1000)
            assert zombies_of(process.pid) == 0
            assert abs(process.files - files) <= 5
            assert abs(process.rss_bytes - memory) <= 0.05 * memory
            assert row(client, "again")["server"]["runs"] == 1101
        assert host.stop() == 0


def test_a_hundred_hosts_that_are_killed_under_load_leave_no_process(tmp_path: Path) -> None:
    for number in range(3):
        write_stub(tmp_path / "plugins", f"hides-{number}", HIDES)
        write_child(tmp_path / "plugins", f"answers-{number}", ANSWERS)
    for number in range(100):
        under = without_cgroups() if number % 2 else []
        home = tmp_path / f"home-{number}"
        with Served(home, "--log-level", "off", plugins=tmp_path / "plugins", under=under) as host:
            over = threading.Event()

            def load(plugin: str, host: Served = host, over: threading.Event = over) -> None:
                with host.client() as client:
                    while not over.is_set():
                        try:
                            client.get(f"/api/plugins/{plugin}/rpc/x")
                        except httpx.TransportError:
                            return

            with host.ready().client() as client, ThreadPoolExecutor(3) as pool:
                all_of_them = [pid for number in range(3) for pid in hidden(client, f"hides-{number}")]
                for number in range(3):
                    all_of_them.append(reaches(client, f"answers-{number}", "running")["server"]["pid"])
                    pool.submit(load, f"answers-{number}")
                host.process.kill()
                over.set()
                until(lambda pids=all_of_them: not any(map(is_running, pids)), "the end of all", limit_s=1.0)


WRITES = """
import threading
ready()
threading.Thread(target=serve, daemon=True).start()
piece = (b'x' * 99 + b'\\n') * 10000
for _ in range(512):
    for stream in (1, 2):
        left = piece
        while left:
            left = left[os.write(stream, left):]
os.write(2, b'the end\\n')
time.sleep(1000)
"""


def test_a_child_that_writes_a_gigabyte_is_never_held_up(home: Path, tmp_path: Path) -> None:
    write_stub(tmp_path / "plugins", "writes", WRITES)
    write_child(tmp_path / "plugins", "calm", ANSWERS)
    with Served(home, "--access-log", "off", plugins=tmp_path / "plugins") as host, host.ready().client() as client:
        process = Process(host.process.pid)
        reaches(client, "calm", "running")
        memory = process.rss_bytes

        def ended() -> bool:
            assert client.get("/api/plugins/calm/rpc/x").status_code == 200
            return "the end" in client.get("/api/host/plugins/writes/logs?lines=1000").text

        until(ended, "its end", limit_s=10 * PATIENCE_S)
        assert process.rss_bytes - memory < 16 * 2**20
        assert sum(path.stat().st_size for path in (home / "logs").glob("writes.log*")) < 2.5 * 2**20
