"""WebSocket routes of mounted apps: handshakes, messages, closes and back-pressure, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from kit import PATIENCE_S, Told, happened, mounted
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from plugbay.testing import RunningHost, running_host

HERE = "/api/plugins/demo"
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ACCEPT = {"type": "websocket.accept"}


def socket_only(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An app that speaks WebSocket alone; ``websocket.connect`` has been received when it is called."""

    async def whole(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        assert await receive() == {"type": "websocket.connect"}
        await app(scope, receive, send)

    return whole


def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """How the other side closes: its code and reason; ``None`` when the connection is cut."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.recv(PATIENCE_S)
    frame = caught.value.rcvd
    return (None, None) if frame is None else (frame.code, frame.reason)


def test_a_fastapi_websocket_route_talks_text_bytes_and_json() -> None:
    told = Told()
    router = APIRouter()

    @router.websocket("/rooms/{room}")
    async def room(socket: WebSocket, room: str, q: str = "-") -> None:
        await socket.accept()
        await socket.send_json({"room": room, "q": q, "path": socket.url.path})
        try:
            while True:
                await socket.send_text((await socket.receive_text())[::-1])
                await socket.send_bytes((await socket.receive_bytes())[::-1])
        except WebSocketDisconnect as gone:
            told((gone.code, gone.reason))

    with running_host(mounted(router)) as host:
        with host.websocket(f"{HERE}/rooms/blue?q=1") as client:
            assert client.recv() == f'{{"room":"blue","q":"1","path":"{HERE}/rooms/blue"}}'
            for text in ("", "grün 🌱", "x" * 900_000):
                client.send(text)
                assert client.recv() == text[::-1]
                client.send(text.encode())
                assert client.recv() == text.encode()[::-1]
            client.close(4001, "seen enough")
        assert told.next() == (4001, "seen enough")
        with host.websocket(f"{HERE}/rooms/red") as client:
            client.recv()
            client.socket.close()
        assert told.next() == (1006, "")


def test_an_app_chooses_a_subprotocol_and_headers_of_the_handshake() -> None:
    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert (scope["root_path"], scope["scheme"]) == (HERE, "ws")
        assert scope["subprotocols"] == ["soap", "chat.v2"]
        assert "websocket.http.response" in scope["extensions"]
        headers = [(b"x-one", b"1"), (b"x-one", b"2"), (b"set-cookie", b"a=b")]
        await send({"type": "websocket.accept", "subprotocol": "chat.v2", "headers": headers})
        await send({"type": "websocket.close", "code": 3000, "reason": "bye"})

    with running_host(mounted(app)) as host, host.websocket(HERE, subprotocols=["soap", "chat.v2"]) as client:
        assert client.subprotocol == "chat.v2"
        assert client.response is not None
        assert client.response.headers.get_all("x-one") == ["1", "2"]
        assert client.response.headers["set-cookie"] == "a=b"
        assert closed(client) == (3000, "bye")


async def refuses(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def refuses_in_words(scope: Message, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-why", b"full")]
    await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"many"})


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    raise RuntimeError("boom")


async def ends(scope: Message, receive: Receive, send: Send) -> None: ...


async def sends_first(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.send", "text": "early"})


async def splits_header(scope: Message, receive: Receive, send: Send) -> None:
    await send({**ACCEPT, "headers": [(b"x-a", b"1\r\nx-b: 2")]})


REFUSALS = [
    (refuses, 403),
    (refuses_in_words, 429),
    (raises, 500),
    (ends, 500),
    (sends_first, 500),
    (splits_header, 500),
]


@pytest.mark.parametrize(("app", "status"), REFUSALS, ids=lambda it: getattr(it, "__name__", it))
def test_a_handshake_that_is_not_accepted_has_its_status(app: Any, status: int) -> None:
    with running_host(mounted(socket_only(app))) as host:
        with pytest.raises(InvalidStatus) as caught:
            host.websocket(HERE)
        response = caught.value.response
        assert response.status_code == status
        assert "x-b" not in response.headers
        if status == 429:
            assert (response.headers["x-why"], response.body) == ("full", b"too many")
        if status == 500:
            assert b'"code":"plugin"' in (response.body or b"") and b'"plugin":"demo"' in (response.body or b"")


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"type": "websocket.close"}, (1000, "")),
        ({"type": "websocket.close", "code": 1001, "reason": None}, (1001, "")),
        ({"type": "websocket.close", "code": 4999, "reason": "ü" * 200}, (4999, "ü" * 61)),
        (None, (1000, "")),
        ("raise", (1011, "the plugin failed")),
    ],
)
def test_the_close_code_is_the_apps_own(last: Any, expected: tuple[int, str]) -> None:
    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        if last == "raise":
            raise RuntimeError("after accept")
        if last is not None:
            await send(last)

    with running_host(mounted(app)) as host, host.websocket(HERE) as client:
        assert closed(client) == expected


def test_what_was_sent_before_the_close_arrives_before_it_however_slow_the_client_is() -> None:
    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        sending = [send({"type": "websocket.send", "bytes": bytes([number]) * 100_000}) for number in range(100)]
        await asyncio.gather(*sending)

    with running_host(mounted(app)) as host, host.websocket(HERE, max_queue=1) as client:
        for number in range(100):
            assert client.recv(PATIENCE_S)[:1] == bytes([number])
        assert closed(client) == (1000, "")


def test_an_app_that_has_closed_or_was_left_is_told_so_and_can_say_no_more() -> None:
    told = Told()

    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        listening = asyncio.ensure_future(receive())
        if scope["path"].endswith("/closes"):
            await send({"type": "websocket.close", "code": 4000})
        message = await listening
        told((message["type"], message["code"]))
        try:
            await send({"type": "websocket.send", "text": "late"})
        except (OSError, RuntimeError) as error:
            told(type(error))

    with running_host(mounted(app)) as host:
        with host.websocket(f"{HERE}/closes") as client:
            assert closed(client) == (4000, "")
            assert told.next() == ("websocket.disconnect", 4000)
            assert told.next() is RuntimeError
        with host.websocket(f"{HERE}/left") as client:
            client.close(1000)
        assert told.next() == ("websocket.disconnect", 1000)
        assert told.next() is OSError


def test_several_tasks_may_receive_and_send_at_once_and_none_is_forgotten() -> None:
    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

        async def echo() -> None:
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})

        await asyncio.gather(*(echo() for _ in range(8)))

    with running_host(mounted(app)) as host, host.websocket(HERE) as client:
        texts = [str(number) for number in range(200)]
        for text in texts:
            client.send(text)
        assert sorted((str(client.recv(PATIENCE_S)) for _ in texts), key=int) == texts


def test_a_client_that_does_not_read_stops_the_apps_sends() -> None:
    sends, blocked = [0], threading.Event()
    piece = b"x" * (64 << 10)

    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for number in range(400):
            sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": piece}))
            done, _ = await asyncio.wait([sending], timeout=0.5)
            if not done:
                blocked.set()
            await sending
            sends[0] = number + 1

    with running_host(mounted(app)) as host, host.websocket(HERE, max_queue=1) as client:
        assert happened(blocked)
        assert sends[0] < 300
        for _ in range(400):
            assert client.recv(PATIENCE_S) == piece
        assert closed(client) == (1000, "")


def test_an_app_that_does_not_receive_stops_the_clients_sends() -> None:
    go, loops, received = asyncio.Event(), Told(), [0]

    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        loops(asyncio.get_running_loop())
        await go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            received[0] += len(message["bytes"])
            if received[0] == 400 << 16:
                await send({"type": "websocket.send", "text": "all"})

    with running_host(mounted(app)) as host, host.websocket(HERE) as client:
        sent = threading.Event()

        def upload() -> None:
            for _ in range(400):
                client.send(b"x" * (1 << 16))
            sent.set()

        sending = threading.Thread(target=upload)
        sending.start()
        assert not sent.wait(0.5)
        loops.next().call_soon_threadsafe(go.set)
        assert client.recv(PATIENCE_S) == "all"
        sending.join(PATIENCE_S)
        assert sent.is_set()


def test_a_client_that_leaves_before_the_answer_cancels_the_app() -> None:
    told = Told()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        told("asked")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told("cancelled")
            raise

    def leave(host: RunningHost) -> None:
        with contextlib.suppress(Exception):
            host.websocket(HERE, open_timeout=0.2)

    with running_host(mounted(app)) as host:
        leave(host)
        assert told.next() == "asked"
        assert told.next() == "cancelled"


def test_a_stop_closes_with_1001_and_tells_the_app() -> None:
    told = Told()

    @socket_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        message = await receive()
        told((message["type"], message["code"]))

    with contextlib.ExitStack() as stack:
        with running_host(mounted(app)) as host:
            client = stack.enter_context(host.websocket(HERE))
        assert closed(client) == (1001, "the host stops")
    assert told.next() == ("websocket.disconnect", 1001)
