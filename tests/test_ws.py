"""The shared socket with handlers in Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from raw import Socket
from talking import MAILBOX, WAIT_S, Client, Neighbour, Talks, opened, signals

from plugbay import InvalidError
from plugbay.testing import RunningHost, running_host


@pytest.fixture(scope="module")
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


def test_hello_names_the_version_and_the_connection_that_handlers_see(host: RunningHost, client: Client) -> None:
    assert (client.hello["channel"], client.hello["event"]) == ("system", "hello")
    assert client.hello["data"]["version"] == host.http.get("/api/host/status").json()["version"]
    told = client.ask("acting", "who")["data"]
    assert told == {"id": client.hello["data"]["connection"], "name": "owner", "scopes": ["call", "approve", "admin"]}


@pytest.mark.parametrize("channel", ["echo", "plain_echo"])
def test_a_ref_gets_exactly_one_reply_and_a_frame_without_one_gets_none(client: Client, channel: str) -> None:
    for ref in (1, -7, 0, "a", "", "ä\n\"'"):
        answer = client.ask(channel, data={"n": [1, 2.5, None, "ü"]}, ref=ref)
        assert answer == {"channel": channel, "event": "reply", "ref": ref, "data": {"n": [1, 2.5, None, "ü"]}}
    client.say(channel, data="nobody asks")
    assert client.ask(channel, data="next", ref=2)["data"] == "next"
    assert client.ask(channel, ref=3) == {"channel": channel, "event": "reply", "ref": 3, "data": None}


def test_a_handler_gets_the_whole_frame_as_a_dict(client: Client) -> None:
    given = {"channel": "acting", "event": "message", "ref": "r", "data": {"big": 2**70}, "more": [True]}
    client.socket.send(json.dumps(given))
    assert client.hear()["data"] == given


@pytest.mark.parametrize("channel", ["counting", "plain_counting"])
def test_messages_of_one_connection_and_channel_are_handled_in_their_order(client: Client, channel: str) -> None:
    client.say(channel, data=0, ref=0)
    for number in range(1, 200):
        answer = client.hear()
        assert answer["data"] == {"count": number, "data": number - 1}
        client.say(channel, data=number, ref=number)


@pytest.mark.parametrize("channel", ["counting", "plain_counting"])
def test_messages_sent_all_at_once_keep_their_order(client: Client, channel: str) -> None:
    for number in range(MAILBOX):
        client.say(channel, data=number, ref=number)
    answers = [client.hear() for _ in range(MAILBOX)]
    assert [answer["data"]["data"] for answer in answers] == list(range(MAILBOX))


@pytest.mark.parametrize("channel", ["waiting", "plain_waiting"])
def test_a_slow_handler_holds_up_nothing_but_its_own_mailbox(host: RunningHost, client: Client, channel: str) -> None:
    with opened(host) as other:
        client.say(channel, data="slow", ref="slow")
        assert signals.entered.acquire(timeout=WAIT_S)
        for fast in ("echo", "plain_echo"):
            assert client.ask(fast, data="fast")["data"] == "fast"
            assert other.ask(fast, data="fast")["data"] == "fast"
        other.say(channel, data="mine", ref="mine")
        assert signals.entered.acquire(timeout=WAIT_S)
        assert client.ask("system", "ping", ref=2)["event"] == "pong"
        signals.gate.set()
        assert (client.hear()["ref"], other.hear()["ref"]) == ("slow", "mine")


def test_a_full_mailbox_is_answered_busy_and_what_waited_is_answered_in_order(client: Client) -> None:
    client.say("waiting", data=0, ref=0)
    assert signals.entered.acquire(timeout=WAIT_S)
    for number in range(1, MAILBOX + 3):
        client.say("waiting", data=number, ref=number)
    for number in (MAILBOX + 1, MAILBOX + 2):
        refused = client.hear()
        assert (refused["event"], refused["ref"], refused["data"]["code"]) == ("error", number, "busy")
    signals.gate.set()
    answers = [client.hear() for _ in range(MAILBOX + 1)]
    assert [(answer["event"], answer["ref"]) for answer in answers] == [("reply", ref) for ref in range(MAILBOX + 1)]


def test_the_state_of_a_connection_is_one_dict_for_each_connection(host: RunningHost, client: Client) -> None:
    with opened(host) as other:
        for expected in (1, 2, 3):
            assert client.ask("counting")["data"]["count"] == expected
        assert other.ask("counting")["data"]["count"] == 1
        assert client.ask("plain_counting")["data"]["count"] == 4


def test_on_close_runs_plain_and_async_callbacks_and_one_that_fails_stops_no_other(host: RunningHost) -> None:
    with opened(host) as client:
        client.ask("acting", "on_close", "x")
        assert signals.closed == []
    assert signals.all_closed.wait(WAIT_S)
    assert sorted(signals.closed) == ["after a failure", "async x", "plain x"]


def test_on_close_runs_when_the_client_just_vanishes(host: RunningHost) -> None:
    with Socket(host.url, host.token) as socket:
        socket.send_json({"channel": "acting", "event": "on_close", "data": "y", "ref": 1})
        assert [socket.receive_json()["event"] for _ in range(2)] == ["hello", "reply"]
    assert signals.all_closed.wait(WAIT_S)
    assert "async y" in signals.closed


def test_a_publication_reaches_its_subscribers_once_and_nobody_else(host: RunningHost, client: Client) -> None:
    with opened(host) as hearer, opened(host) as other:
        for _twice in range(2):
            hearer.ask("acting", "subscribe", "acting/room")
        other.ask("acting", "subscribe", "acting")
        client.say("acting", "publish", ["acting/room", {"n": 1}])
        client.say("acting", "publish", ["acting", 2])
        expected = {"channel": "acting", "event": "message", "topic": "acting/room", "data": {"n": 1}}
        assert hearer.hear() == expected
        assert other.hear() == {"channel": "acting", "event": "message", "topic": "acting", "data": 2}
        hearer.ask("acting", "unsubscribe", "acting/room")
        client.ask("acting", "publish", ["acting/room", 3])
        assert hearer.ask("echo", data="nothing before this")["data"] == "nothing before this"


def test_publish_works_from_any_thread_and_keeps_the_order_of_each(host: RunningHost, client: Client) -> None:
    client.ask("acting", "subscribe", "acting/threads")
    assert signals.host is not None
    publish = signals.host.publish

    def tell(name: int) -> None:
        for number in range(12):
            publish("acting/threads", [name, number])

    threads = [threading.Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    heard = [client.hear()["data"] for _ in range(48)]
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [number for who, number in heard if who == name] == list(range(12))


def test_a_topic_of_another_plugin_is_refused_to_subscribe_and_to_publish(client: Client) -> None:
    assert signals.host is not None
    for topic in ("acting", "acting/room", "system", "tools", "", "neighbour2", "/neighbour"):
        assert client.ask("neighbour", data=topic)["data"]["code"] in ("invalid", "plugin"), topic
    for topic in ("neighbour", "neighbour/room", "system", "tools", "", "act"):
        with pytest.raises(InvalidError, match="topic"):
            signals.host.publish(topic, 1)
    with pytest.raises(InvalidError, match="JSON"):
        signals.host.publish("acting", object())


@pytest.mark.parametrize(
    ("channel", "words"),
    [("failing", "no good"), ("plain_failing", "no good"), ("unsayable", "JSON")],
)
def test_a_handler_that_fails_is_an_error_frame_and_the_socket_stays_open(
    client: Client, channel: str, words: str
) -> None:
    answer = client.ask(channel, ref="r")
    assert (answer["channel"], answer["event"], answer["data"]["code"]) == (channel, "error", "plugin")
    assert words in answer["data"]["message"]
    assert "Traceback" not in answer["data"]["message"]
    client.say(channel)
    unasked = client.hear()
    assert (unasked["event"], unasked["data"]["code"], unasked.get("ref")) == ("error", "plugin", None)
    assert client.ask("echo", data=1)["data"] == 1


def test_a_handler_may_send_any_object_and_nothing_else(client: Client) -> None:
    frames = [{"channel": "elsewhere", "event": "e", "topic": "t", "data": None, "ref": 9, "more": 1}, {}]
    client.say("acting", "send", frames)
    assert [client.hear(), client.hear()] == frames
    refused = client.ask("acting", "send badly")
    assert (refused["event"], refused["data"]["code"]) == ("error", "invalid")
