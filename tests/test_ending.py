"""How a host ends: when it is told to and not when a plugin would have it, in time whatever a plugin does."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from kit import PATIENCE_S, made, mounted
from raw import HANDSHAKE, Answer, request, say
from served import Served, write_plugin

from plugbay import _runner, loader
from plugbay.testing import running_host

ENDS_IT = """
import asyncio
import sys

import fastapi

router = fastapi.APIRouter()
kept = []


@router.get("/stop")
async def stop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    return "still here"


@router.get("/exit")
async def exit():
    async def leave():
        sys.exit(3)

    kept.append(asyncio.get_running_loop().create_task(leave()))
    return "still here"


@router.get("/cancel")
async def cancel():
    here = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not here:
            task.cancel()
    return "still here"


@router.get("/plain")
def plain():
    return "still here"


def setup(host):
    host.add_router(router)
"""

NEVER_EXITS = """
import atexit
import threading


def wait():
    print("waiting at exit", flush=True)
    threading.Event().wait()


def setup(host):
    atexit.register(wait)
"""

SLOW_TO_EXIT = """
import atexit
import time


def setup(host):
    atexit.register(time.sleep, 1)
"""

BLOCKS = """
import threading

import fastapi

router = fastapi.APIRouter()


@router.get("/block")
async def block():
    print("blocked", flush=True)
    threading.Event().wait()


def setup(host):
    host.add_router(router)
"""


def limits(folder: Path, **values: float) -> str:
    """A file of settings with these limits."""
    path = folder / "plugbay.toml"
    path.write_text("[limits]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    return str(path)


def heard(url: str, message: bytes) -> Answer:
    """The answer that must come."""
    answer = say(url, message)
    assert answer is not None
    return answer


def test_a_plugin_cannot_end_the_host(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "ends", ENDS_IT)
    with Served(home, plugins=tmp_path / "plugins") as host:
        host.ready()
        with host.client() as client:
            for way in ("stop", "exit", "cancel", "stop", "plain"):
                assert client.get(f"/api/plugins/ends/{way}").json() == "still here"
            host.logged("SystemExit: 3")
            assert client.get("/api/plugins/ends/plain").json() == "still here"
        assert host.stop() == 0


def test_an_exit_that_a_plugin_never_lets_end_is_ended_by_force(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "stays", NEVER_EXITS)
    with Served(home, "--config", limits(tmp_path, drain_time_s=0.5), plugins=tmp_path / "plugins") as host:
        assert host.ready().stop() == 1
        assert "ended by force" in host.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_an_exit_at_once(number: signal.Signals, home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "stays", NEVER_EXITS)
    with Served(home, "--config", limits(tmp_path, drain_time_s=3600), plugins=tmp_path / "plugins") as host:
        host.ready().process.send_signal(number)
        host.logged("waiting at exit")
        host.process.send_signal(number)
        assert host.ended() == -number


def test_an_exit_that_takes_a_while_is_left_to_end(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "slow", SLOW_TO_EXIT)
    with Served(home, "--config", limits(tmp_path, drain_time_s=0.2), plugins=tmp_path / "plugins") as host:
        assert host.ready().stop() == 0


def test_a_host_whose_loop_is_blocked_can_be_stopped() -> None:
    blocked, release = threading.Event(), threading.Event()
    router = fastapi.APIRouter()

    @router.get("/block")
    async def block() -> None:
        blocked.set()
        release.wait()

    host = _runner.BackgroundHost(
        {"port": 0, "access_log": False, "log_level": "error", "limits": {"drain_time_s": 0.2}},
        lambda _: [loader.Given("blocks", mounted(router))],
    )
    host.start()
    url, token = host.core.url, host.core.token

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S) as client:
            try:
                client.get("/api/plugins/demo/block")
            except httpx.HTTPError:
                return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert blocked.wait(PATIENCE_S)
        assert host.stop() == 1
        assert host.is_stuck
    finally:
        release.set()
        asking.join()
    thread = next((each for each in threading.enumerate() if each.name == "plugbay-loop"), None)
    if thread is not None:
        thread.join(PATIENCE_S)
    assert not host.is_stuck
    with running_host() as another:
        assert another.http.get("/healthz").status_code == 200


def test_a_console_whose_loop_is_blocked_ends(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "blocks", BLOCKS)
    config = limits(tmp_path, drain_time_s=0.2)
    command = [sys.executable, "-m", "plugbay", "repl", "--port", "0", "--config", config]
    command += ["--plugins-dir", str(tmp_path / "plugins")]
    with subprocess.Popen(
        command,
        env=dict(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        url = None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                url = found[0]
                break
        assert url is not None
        headers = {"Authorization": f"Bearer {(home / 'token').read_text().strip()}"}

        def ask() -> None:
            try:
                httpx.get(f"{url}/api/plugins/blocks/block", headers=headers, timeout=PATIENCE_S)
            except httpx.HTTPError:
                return

        asking = threading.Thread(target=ask)
        asking.start()
        assert any("blocked" in line for line in process.stdout)
        process.stdin.close()
        try:
            assert process.wait(PATIENCE_S) == 1
        finally:
            process.kill()
            asking.join()


def test_a_host_whose_loop_cannot_be_attached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr(_runner, "_new_loop", lambda: closed)
        host = _runner.BackgroundHost({"port": 0, "log_level": "error"}, lambda _: ())
        try:
            with pytest.raises(RuntimeError, match="closed"):
                host.start()
        finally:
            host.stop()
    with running_host() as another:
        assert another.http.get("/healthz").status_code == 200


def test_a_core_that_cannot_start_is_finished(home: Path, tmp_path: Path, plugbay: Any) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no certificate")
    pair = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    done = plugbay("serve", "--port", "0", *pair)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "host.json").exists()


def test_a_token_in_the_query_counts_for_a_handshake_alone() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"query " + scope["query_string"]})

    with running_host(mounted(app)) as host:
        here = f"/api/plugins/demo?a=1&token={host.token}"
        upgrade = [("Upgrade", "websocket")]
        for headers, method in (
            (upgrade, "GET"),
            ([*upgrade, ("Connection", "close")], "POST"),
            (list(HANDSHAKE), "POST"),
            ([], "GET"),
        ):
            assert heard(host.url, request(host.url, here, headers, method=method)).status == 401
        bearer = ("Authorization", f"Bearer {host.token}")
        answered = heard(host.url, request(host.url, here, [*upgrade, bearer], method="POST"))
        assert (answered.status, answered.body) == (200, b"query a=1")
        assert heard(host.url, request(host.url, f"/ws?token={host.token}", HANDSHAKE)).status == 101


def test_a_request_of_http_2_has_a_host_and_one_cookie() -> None:
    router = fastapi.APIRouter()

    @router.get("/heads")
    async def heads(request: fastapi.Request) -> list[list[str]]:
        return [request.headers.getlist("host"), request.headers.getlist("cookie")]

    with running_host(made(lambda host: host.add_router(router))) as host:
        headers = [*host.http.headers.multi_items(), ("cookie", "a=1"), ("cookie", "b=2")]
        with httpx.Client(http1=False, http2=True, base_url=host.url, headers=headers) as client:
            found = client.get("/api/plugins/demo/heads")
        assert found.http_version == "HTTP/2"
        assert found.json() == [[host.url.removeprefix("http://")], ["a=1; b=2"]]
