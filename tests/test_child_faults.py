"""What goes wrong with child processes, and with hosts that have some: nothing is left behind, nothing else suffers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from children import is_running, reaches, row, said, until, write_child, write_stub, written
from kit import PATIENCE_S
from served import Served
from soak.system import Process

from plugbay.testing import running_host

FAMILY = """
groups = [subprocess.Popen(["sleep", "1000"], process_group=0), subprocess.Popen(["sleep", "1000"])]
print("family", *(each.pid for each in groups), os.getpid(), file=sys.stderr, flush=True)
ready()
serve()
"""

STUBBORN = """
const children = require('node:child_process');
process.on('SIGTERM', () => console.error('no'));
const sleeps = [0, 1].map((number) => children.spawn('sleep', ['1000'], { detached: number === 1 }));
const server = require('node:http').createServer((request, response) => response.end('here'));
server.listen(0, '127.0.0.1', () => {
  console.error('family', ...sleeps.map((each) => each.pid), process.pid);
  console.log(JSON.stringify({ ready: true, port: server.address().port }));
});
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins."""
    return tmp_path / "plugins"


def family(client: httpx.Client, id: str) -> list[int]:
    """The processes that a child has named."""
    return [int(pid) for pid in written(client, id, r"family ([\d ]+)")[1].split()]


def guard_of(pid: int) -> int:
    """The guard of a host."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    for child in " ".join(path.read_text() for path in children).split():
        if b"plugbay-guard" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("the host has no guard")


def test_nothing_is_left_of_a_host_that_is_killed(home: Path, folder: Path) -> None:
    for number in range(10):
        write_stub(folder, f"child-{number}", FAMILY)
    with Served(home, plugins=folder) as host, host.ready().client() as client:
        all_of_them = []
        for number in range(10):
            reaches(client, f"child-{number}", "running")
            all_of_them += family(client, f"child-{number}")
        assert len(all_of_them) == 30 and all(map(is_running, all_of_them))
        guard = guard_of(host.process.pid)
        host.process.kill()
        until(lambda: not any(map(is_running, all_of_them)), "the end of all of them", limit_s=1.0)
        until(lambda: not is_running(guard), "the end of the guard")


def test_what_a_crashed_host_and_its_guard_have_left_is_ended_at_the_next_start(home: Path, folder: Path) -> None:
    write_stub(folder, "left", FAMILY)
    with Served(home, plugins=folder) as host, host.ready().client() as client:
        reaches(client, "left", "running")
        *grandchildren, child = family(client, "left")
        until(lambda: "left" in json.loads((home / "children.json").read_bytes())["children"], "its trace")
        subprocess.run(["kill", "-KILL", str(guard_of(host.process.pid))], check=True)
        host.process.kill()
        until(lambda: not is_running(child), "the end of the child")
    assert any(map(is_running, grandchildren))
    with Served(home, plugins=folder) as host:
        host.ready()
        assert not any(map(is_running, grandchildren))
        host.logged("ended 1 child processes that an earlier host has left behind")
        assert host.stop() == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_ends_a_child_that_ignores_it_and_all_that_it_has_started(
    home: Path, folder: Path, signals: int
) -> None:
    write_child(folder, "stubborn", STUBBORN)
    write_stub(folder, "starting", "print('family', os.getpid(), file=sys.stderr, flush=True); time.sleep(60)")
    with Served(home, plugins=folder, PLUGBAY_LIMITS_STOP_GRACE_S="0.5") as host, host.ready().client() as client:
        reaches(client, "stubborn", "running")
        all_of_them = family(client, "stubborn") + family(client, "starting")
        assert len(all_of_them) == 4
        for _ in range(signals):
            host.process.send_signal(signal.SIGTERM)
            host.logged("stopping")
        assert host.ended() in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert not any(map(is_running, all_of_them))


def test_a_console_and_an_embedded_host_leave_nothing(folder: Path) -> None:
    write_stub(folder, "here", FAMILY)
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "here", "running")
        all_of_them = family(host.http, "here")
    assert not any(map(is_running, all_of_them))


def test_a_child_that_floods_its_output_costs_a_bounded_log(folder: Path, home: Path) -> None:
    floods = "ready()\nimport threading\nthreading.Thread(target=serve, daemon=True).start()\n"
    floods += "for _ in range(1500): sys.stdout.write(('x' * 99 + '\\n') * 200)\nsys.stdout.flush()\n"
    floods += "print('the end', file=sys.stderr, flush=True)\ntime.sleep(60)"
    write_stub(folder, "floods", floods)
    write_stub(folder, "calm")
    with running_host(plugins_dirs=[folder], home=home) as host:
        calm = reaches(host.http, "calm", "running")["server"]
        until(lambda: "the end" in host.http.get("/api/host/plugins/floods/logs?lines=1000").text or None, "its end")
        assert said(calm["port"]) == str(calm["pid"])
        assert "lines dropped: too many at once" in host.http.get("/api/host/plugins/floods/logs?lines=1000").text
        kept = sum(path.stat().st_size for path in (home / "logs").glob("floods.log*"))
        assert kept < 2.5 * 2**20


def test_a_child_that_prints_the_hosts_own_port_is_not_used(folder: Path) -> None:
    plugin = write_stub(
        folder, "mirror", "while not os.path.exists('port'): pass\nready(int(open('port').read())); serve()"
    )
    with running_host(plugins_dirs=[folder]) as host:
        (plugin / "half").write_text(host.url.rpartition(":")[2])
        (plugin / "half").rename(plugin / "port")
        until(lambda: row(host.http, "mirror")["server"]["last_error"], "its error")
        error = row(host.http, "mirror")["server"]["last_error"]
        assert (error["stage"], error["code"]) == ("startup", "upstream")
        assert "is the host's own" in error["message"]


def test_enable_and_disable_from_four_clients_leave_one_state(folder: Path) -> None:
    write_stub(folder, "torn")
    with running_host(plugins_dirs=[folder]) as host:
        reaches(host.http, "torn", "running")

        def pull(side: int) -> list[int]:
            with httpx.Client(base_url=host.url, headers=host.http.headers, timeout=PATIENCE_S) as client:
                verbs = ["enable", "disable"] * 8
                return [client.post(f"/api/host/plugins/torn/{verb}").status_code for verb in verbs[side % 2 :]]

        with ThreadPoolExecutor(4) as pool:
            codes = {code for answered in pool.map(pull, range(4)) for code in answered}
        assert codes <= {200, 503}
        host.http.post("/api/host/plugins/torn/disable")
        off = row(host.http, "torn")["server"]
        assert (off["state"], off["enabled"], off["pid"]) == ("stopped", False, None)
        host.http.post("/api/host/plugins/torn/enable")
        on = row(host.http, "torn")["server"]
        assert (on["state"], on["enabled"]) == ("running", True)
        assert said(on["port"]) == str(on["pid"])


def test_a_child_that_dies_again_and_again_does_not_touch_another(folder: Path) -> None:
    write_stub(folder, "dies")
    write_child(folder, "lives", STUBBORN.replace("'SIGTERM'", "'SIGUSR1'"))
    with running_host(plugins_dirs=[folder], log_level="off") as host:
        lives = reaches(host.http, "lives", "running")["server"]
        for run in range(1, 6):
            pid = reaches(host.http, "dies", "running")["server"]["pid"]
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
            until(lambda pid=pid: row(host.http, "dies")["server"]["pid"] != pid, f"the end of run {run}")
            host.http.post("/api/host/plugins/dies/start")
        assert row(host.http, "lives")["server"]["pid"] == lives["pid"]
        assert "was ended by signal 9" in row(host.http, "dies")["server"]["last_error"]["message"]


ANSWERS = """
const server = require('node:http').createServer((request, response) => response.end(String(process.pid)));
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
"""


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_a_child_that_is_killed_under_load_costs_another_not_one_request(folder: Path, kills: int) -> None:
    write_child(folder, "dies", ANSWERS)
    write_child(folder, "lives", ANSWERS)
    with running_host(plugins_dirs=[folder], log_level="off") as host:
        lives = str(reaches(host.http, "lives", "running")["server"]["pid"])
        over = threading.Event()

        def load(plugin: str) -> list[tuple[int, str]]:
            with httpx.Client(base_url=host.url, headers=host.http.headers, timeout=PATIENCE_S) as client:
                answers = []
                while not over.is_set():
                    answer = client.get(f"/api/plugins/{plugin}/rpc/x")
                    answers.append((answer.status_code, answer.text))
                return answers

        def kill() -> set[str]:
            seen = set()
            with httpx.Client(base_url=host.url, headers=host.http.headers, timeout=PATIENCE_S) as client:
                while len(seen) < kills:
                    answer = client.get("/api/plugins/dies/rpc/x")
                    # Until its end is noticed the one before is still asked.
                    if answer.status_code == 200 and answer.text not in seen:
                        seen.add(answer.text)
                        os.kill(int(answer.text), signal.SIGKILL)
            return seen

        with ThreadPoolExecutor(4) as pool:
            beside = [pool.submit(load, "lives") for _ in range(2)]
            pool.submit(load, "dies")
            try:
                assert len(pool.submit(kill).result(10 * PATIENCE_S)) == kills
            finally:
                over.set()
            for each in beside:
                answers = each.result(PATIENCE_S)
                assert answers and set(answers) == {(200, lives)}
        assert row(host.http, "dies")["server"]["failures"] == 0
        assert row(host.http, "lives")["server"]["runs"] == 1


def test_a_hundred_megabytes_without_a_line_are_no_ready_line_and_cost_nothing(home: Path, folder: Path) -> None:
    text = "for _ in range(100): os.write(1, b'x' * (1 << 20))\nready(); time.sleep(1000)"
    write_stub(folder, "garbage", text, restart="never")
    with Served(home, plugins=folder) as host, host.ready().client() as client:
        process = Process(host.process.pid)
        memory = process.rss_bytes
        error = reaches(client, "garbage", "failed")["server"]["last_error"]
        assert "64 KiB" in error["message"] or "65536" in error["message"], error
        assert process.rss_bytes - memory < 8 * 2**20
