"""A credential that is taken back ends what was opened with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from credentials import added, keep, kept_token, link_of, sign_in
from raw import CLOSE, Socket

from plugbay.testing import RunningHost, running_host

EVERYTHING = Path(__file__).parent / "plugins" / "everything.py"


def closed_within(socket: Socket, since: float) -> tuple[int, float]:
    """The code that a socket is closed with, and how many seconds after ``since``."""
    while (frame := socket.receive()) is not None:
        if frame.opcode == CLOSE:
            return frame.close_code, time.monotonic() - since
    raise AssertionError("cut without a close frame")


@pytest.fixture
def host() -> Iterator[RunningHost]:
    with running_host(EVERYTHING) as host:
        yield host


def test_a_revoked_token_ends_its_sockets_within_a_second_and_no_others(host: RunningHost) -> None:
    token = added(host, "leaving", "call")
    with (
        Socket(host.url, token) as shared,
        Socket(host.url, token, "/api/plugins/everything/sock/1") as own,
        Socket(host.url, host.token) as other,
    ):
        host.http.delete("/api/host/tokens/leaving").raise_for_status()
        since = time.monotonic()
        for socket in (shared, own):
            code, after_s = closed_within(socket, since)
            assert (code, after_s < 1.0) == (1008, True), after_s
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{host.url}/api/host/status", headers=headers).status_code == 401
        other.send_json({"channel": "system", "event": "ping", "ref": 1})
        assert [other.receive_json()["event"] for _ in range(2)] == ["hello", "pong"]


def test_a_token_that_expires_ends_its_sockets_within_a_second(tmp_path: Path) -> None:
    end = datetime.now(UTC) + timedelta(seconds=2)
    token, record = kept_token("brief", ["call"], end)
    keep(tmp_path / "brief", record)
    with (
        running_host(EVERYTHING, home=tmp_path / "brief") as host,
        Socket(host.url, token) as shared,
        Socket(host.url, token, "/api/plugins/everything/sock/1") as own,
    ):
        for socket in (shared, own):
            assert closed_within(socket, 0)[0] == 1008
        late_s = (datetime.now(UTC) - end).total_seconds()
        assert 0 <= late_s < 1.0


def test_a_new_token_for_the_owner_ends_the_old_one_with_its_cookies_and_its_sockets(
    tmp_path: Path,
) -> None:
    home = tmp_path / "rotating"
    with running_host(EVERYTHING, home=home) as host:
        old, cookie = host.token, sign_in(host)
        unused = link_of(host)
        page = {"Cookie": cookie, "Origin": host.url}
        assert httpx.get(f"{host.url}/api/host/status", headers=page).status_code == 200
        with Socket(host.url, old) as by_token, Socket(host.url, None, headers=page.items()) as by_cookie:
            headers = {"Authorization": f"Bearer {old}"}
            httpx.delete(f"{host.url}/api/host/tokens/owner", headers=headers).raise_for_status()
            since = time.monotonic()
            for socket in (by_token, by_cookie):
                code, after_s = closed_within(socket, since)
                assert (code, after_s < 1.0) == (1008, True)
        for headers in ({"Authorization": f"Bearer {old}"}, page):
            assert httpx.get(f"{host.url}/api/host/status", headers=headers).status_code == 401
        assert httpx.get(unused).status_code == 401
        new = (home / "token").read_text().strip()
        assert new != old
        fresh = {"Authorization": f"Bearer {new}"}
        assert httpx.get(f"{host.url}/api/host/status", headers=fresh).status_code == 200
