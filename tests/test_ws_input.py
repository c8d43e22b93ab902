"""What cannot be read on the shared socket is answered, and harms nobody else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from raw import CLOSE, PING, PONG, TEXT, Socket, frame
from talking import MAILBOX, Client, Neighbour, Talks, opened, signals

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


@pytest.mark.parametrize(
    ("text", "code", "channel"),
    [
        ("", "malformed", "system"),
        ("{", "malformed", "system"),
        ("[1]", "malformed", "system"),
        ('"text"', "malformed", "system"),
        ('{"channel": "echo"} {}', "malformed", "system"),
        ("{}", "invalid", "system"),
        ('{"channel": 1, "ref": 5}', "invalid", "system"),
        ('{"channel": "No Such"}', "invalid", "system"),
        ('{"channel": "nobody"}', "not_found", "nobody"),
        ('{"channel": "echo", "ref": 1.5}', "invalid", "echo"),
        ('{"channel": "echo", "event": 1}', "invalid", "echo"),
        ("[" * 10_000, "malformed", "system"),
        ('{"channel": "echo", "data": ' + "[" * 5000 + "]" * 5000 + "}", "malformed", "echo"),
        ('{"channel": "echo", "data": "\\ud800"}', "malformed", "echo"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_frame_is_answered_and_the_socket_stays_open(
    client: Client, text: str, code: str, channel: str
) -> None:
    client.socket.send(text)
    answer = client.hear()
    assert (answer["event"], answer["data"]["code"], answer["channel"]) == ("error", code, channel), answer
    assert client.ask("echo", data="still here")["data"] == "still here"


def test_a_binary_frame_is_answered_and_the_socket_stays_open(client: Client) -> None:
    client.socket.send(b"\x00\xff")
    assert client.hear()["data"]["code"] == "malformed"
    assert client.ask("echo", data=1)["data"] == 1


BROKEN = {
    "text that is not UTF-8": (frame(b"\xff\xfe"), 1007),
    "text that ends within a character": (frame(b"\xc3"), 1007),
    "a frame one byte over the limit": (frame(b"x" * 65537), 1009),
    "ten megabytes": (frame(b"x" * 10_000_000), 1009),
    "fragments over the limit together": (frame(b"x" * 40000, TEXT) + frame(b"x" * 40000, 0x80), 1009),
    "an unmasked frame": (frame(b"{}", masked=False), 1002),
    "a reserved bit": (frame(b"{}", 0x80 | 0x40 | TEXT), 1002),
    "a reserved opcode": (frame(b"{}", 0x80 | 3), 1002),
    "a continuation of nothing": (frame(b"{}", 0x80), 1002),
    "a text within a text": (frame(b"{", TEXT) + frame(b"}", 0x80 | TEXT), 1002),
    "a ping in pieces": (frame(b"", PING), 1002),
    "a ping of 126 bytes": (frame(b"x" * 126, 0x80 | PING), 1002),
    "a close of one byte": (frame(b"\x03", 0x80 | CLOSE), 1002),
}


def test_bad_input_of_one_client_closes_it_with_its_code_and_stops_no_other(host: RunningHost, client: Client) -> None:
    client.ask("acting", "subscribe", "acting/quiet")
    for name, (raw, code) in BROKEN.items():
        with Socket(host.url, host.token) as socket:
            assert socket.receive_json()["event"] == "hello"
            with contextlib.suppress(ConnectionError):
                socket.line.sendall(raw)
            last = socket.hear_out()[-1:]
            assert [one.close_code for one in last] == [code], name
        assert client.ask("echo", data=name)["data"] == name
    client.say("acting", "publish", ["acting/quiet", "all is well"])
    assert client.hear()["data"] == "all is well"


def test_fragments_and_pings_between_them_are_one_message(host: RunningHost) -> None:
    with Socket(host.url, host.token) as socket:
        socket.receive()
        whole = json.dumps({"channel": "echo", "ref": 1, "data": "ä"}, ensure_ascii=False).encode()
        socket.send(whole[:-3], TEXT)
        socket.send(b"p", 0x80 | PING)
        socket.send(whole[-3:-2], 0)
        socket.send(whole[-2:], 0x80)
        assert socket.receive() == (PONG, b"p")
        assert socket.receive_json()["data"] == "ä"


def test_compression_and_sub_protocols_are_declined_and_the_socket_works(host: RunningHost) -> None:
    with host.websocket(compression="deflate", subprotocols=["chat"]) as socket:
        assert socket.response is not None
        assert not {"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} & set(socket.response.headers)
        assert socket.protocol.extensions == []
        client = Client(socket)
        assert client.ask("echo", data="x" * 10_000)["data"] == "x" * 10_000
    with Socket(host.url, host.token, headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as socket:
        socket.receive()
        socket.send(b"\xaa\x56\x2a\x4b", 0x80 | 0x40 | TEXT)
        assert [one.close_code for one in socket.hear_out()] == [1002]
