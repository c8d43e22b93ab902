"""How sockets of plugins' channels end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from raw import Socket
from talking import MAILBOX, WAIT_S, Client, Neighbour, Talks, opened, signals

from plugbay.testing import RunningHost, running_host


@pytest.fixture
def host() -> Iterator[RunningHost]:
    limits = {"mailbox_messages": MAILBOX, "outbox_frames": 64, "frame_bytes": 65536}
    with running_host(Talks, Neighbour, limits=limits, log_level="off") as host:
        assert host.registry.errors == []
        yield host


@pytest.fixture(autouse=True)
def fresh_signals() -> Iterator[None]:
    signals.renew()
    yield
    signals.gate.set()


@pytest.fixture
def client(host: RunningHost) -> Iterator[Client]:
    with opened(host) as client:
        yield client


def test_a_client_that_does_not_read_is_closed_with_1013_while_others_go_on(host: RunningHost, client: Client) -> None:
    with Socket(host.url, host.token) as slow:
        slow.send_json({"channel": "acting", "event": "flood", "data": 20_000})
        for number in range(50):
            assert client.ask("echo", data=number)["data"] == number
        frames = slow.hear_out()
        assert frames[-1].close_code == 1013
        assert len(frames) < 20_000


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1000, "bye"), (4000, "ü" * 40), (3001, "x" * 400)])
def test_a_handler_closes_its_connection_after_what_waits_was_sent(host: RunningHost, code: int, reason: str) -> None:
    with opened(host) as client:
        client.say("acting", "send", [{"channel": "acting", "n": number} for number in range(10)])
        client.say("acting", "close", [code, reason])
        assert [client.hear()["n"] for _ in range(10)] == list(range(10))
        assert client.close_code() == code
        told = client.socket.close_reason
        assert told is not None
        assert reason.startswith(told) and len(told.encode()) <= 123


def test_a_code_that_may_not_be_sent_is_refused_to_the_handler(client: Client) -> None:
    for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000):
        assert client.ask("acting", "close", [code, ""])["event"] == "error", code
    assert client.ask("echo", data=1)["data"] == 1


def test_a_stop_closes_every_socket_with_1001_also_where_a_handler_waits() -> None:
    with contextlib.ExitStack() as clients:
        with running_host(Talks, log_level="off", limits={"drain_time_s": 5}) as host:
            idle = Client(clients.enter_context(host.websocket()))
            busy = Client(clients.enter_context(host.websocket()))
            busy.say("acting", "on_close", "z", ref=1)
            busy.hear()
            busy.say("waiting", ref=2)
            assert signals.entered.acquire(timeout=WAIT_S)
            codes: dict[str, int | None] = {}
            names = {"idle": idle, "busy": busy}

            def listen(name: str) -> None:
                codes[name] = names[name].close_code()

            threads = [threading.Thread(target=listen, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert codes == {"idle": 1001, "busy": 1001}
        assert "async z" in signals.closed
