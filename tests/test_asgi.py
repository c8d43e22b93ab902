"""ASGI apps under the host, message by message: bodies, back-pressure, disconnects, lifespans, misbehaviour."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from kit import PATIENCE_S, Told, happened, made, mounted, wire

from plugbay.testing import running_host

HERE = "/api/plugins/demo"
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": []}


def http_only(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An app that has no lifespan."""

    async def whole(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return whole


async def answer(send: Send, body: bytes = b"", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


def test_an_app_stands_under_its_root_path_and_repeated_headers_stay_repeated() -> None:
    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        sent = [value for name, value in scope["headers"] if name == b"x-twice"]
        said = f"{scope['root_path']} {scope['path']} {scope['state']}".encode()
        await answer(send, said, headers=[(b"x-twice", value) for value in sent] + [(b"X-Upper", b"U")])

    def setup(host: Any) -> None:
        host.add_router(app)
        host.add_router(app, prefix="elsewhere")

    with running_host(made(setup)) as host:
        found = host.http.get(f"{HERE}/a/b", headers=[("x-twice", "1"), ("X-Twice", "2, 3")])
        assert found.text == f"{HERE} {HERE}/a/b {{}}"
        assert found.headers.get_list("x-twice") == ["1", "2, 3"]
        assert found.headers["x-upper"] == "U"
        assert host.http.get("/api/elsewhere").text == "/api/elsewhere /api/elsewhere {}"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
def test_a_body_of_any_size_comes_whole_with_and_without_a_length(size: int) -> None:
    @http_only
    async def echo(scope: Message, receive: Receive, send: Send) -> None:
        await answer(send, await body_of(receive))

    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with running_host(mounted(echo)) as host:
        assert host.http.post(HERE, content=body).content == body
        assert host.http.post(HERE, content=iter([body[: size // 2], body[size // 2 :]])).content == body


def test_a_slow_reader_stops_the_apps_sends_and_a_fast_one_lets_them_go_on() -> None:
    sends, blocked, total = [0], threading.Event(), 400
    piece = b"x" * (64 << 10)

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(total):
            sending = asyncio.ensure_future(send({"type": "http.response.body", "body": piece, "more_body": True}))
            done, _ = await asyncio.wait([sending], timeout=0.5)
            if not done:
                blocked.set()
            await sending
            sends[0] = number + 1
        await send({"type": "http.response.body"})

    with running_host(mounted(app)) as host, wire(host, receive_bytes=4096) as client:
        client.ask("GET", HERE).head()
        assert happened(blocked)
        assert sends[0] < total // 2
        assert len(b"".join(iter(client.next_chunk, b""))) == total * len(piece)


def test_a_slow_app_stops_a_large_upload() -> None:
    told, go = Told(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        loops.append(asyncio.get_running_loop())
        told("begun")
        await go.wait()
        await answer(send, str(len(await body_of(receive))).encode())

    size = 15 << 20
    with running_host(mounted(app)) as host, wire(host) as client:
        client.ask("POST", HERE, f"content-length: {size}")
        assert told.next() == "begun"
        client.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += client.socket.send(b"x" * min(1 << 16, size - sent))
        assert sent < size
        loops[0].call_soon_threadsafe(go.set)
        client.socket.settimeout(PATIENCE_S)
        client.send(b"x" * (size - sent))
        assert client.answer()[2] == str(size).encode()


def test_the_answer_may_begin_before_the_body_is_read_and_the_connection_goes_on() -> None:
    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await answer(send, b"next")
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"early", "more_body": True})
        await send({"type": "http.response.body", "body": await body_of(receive)})

    with running_host(mounted(app)) as host, wire(host) as client:
        client.ask("POST", HERE, "transfer-encoding: chunked").head()
        assert client.next_chunk() == b"early"
        client.chunk(b"late")
        client.chunk(b"")
        assert b"".join(iter(client.next_chunk, b"")) == b"late"
        assert client.ask("GET", HERE).answer()[2] == b"next"


def test_100_continue_is_sent_when_the_app_asks_for_the_body_and_not_before() -> None:
    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/refuses"):
            await answer(send, b"no", 403)
        else:
            await answer(send, await body_of(receive))

    with running_host(mounted(app)) as host:
        with wire(host) as client:
            client.ask("POST", f"{HERE}/reads", "content-length: 4", "expect: 100-continue")
            assert client.head() == (100, [])
            client.send(b"body")
            assert client.answer()[2] == b"body"
        with wire(host) as client:
            client.ask("POST", f"{HERE}/refuses", "content-length: 4", "expect: 100-continue")
            assert client.answer()[0] == 403


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_a_413_whatever_the_app_makes_of_it(chunked: bool) -> None:
    told = Told()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        told(message["type"])
        await answer(send, b"took it")

    with running_host(mounted(app)) as host, wire(host) as client:
        if chunked:
            client.ask("POST", HERE, "transfer-encoding: chunked")
            with contextlib.suppress(ConnectionError):
                for _ in range(17):
                    client.chunk(b"x" * (1 << 20))
            assert told.next() == "http.disconnect"
        else:
            client.ask("POST", HERE, f"content-length: {(16 << 20) + 1}")
        status, headers, body = client.answer()
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert b'"code":"too_large"' in body


def test_a_disconnect_is_told_to_a_waiting_receive_and_the_app_ends_in_its_own_time() -> None:
    told, go = Told(), threading.Event()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await body_of(receive)
        told("waits")
        try:
            told((await receive())["type"])
            await asyncio.to_thread(happened, go)
            with contextlib.suppress(OSError):
                await answer(send)
                told("sent to nobody")
        except asyncio.CancelledError:
            told("cancelled")
            raise
        told("ended")

    with running_host(mounted(app)) as host:
        with wire(host) as client:
            client.ask("POST", HERE, "content-length: 3", body=b"abc")
            assert told.next() == "waits"
        assert told.next() == "http.disconnect"
        go.set()
        assert told.next() == "ended"


def test_any_number_of_tasks_may_wait_for_the_disconnect_and_some_may_give_up() -> None:
    told = Told()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await body_of(receive)
        waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        told("wait")
        told([message["type"] for message in await asyncio.gather(*waiting)])

    with running_host(mounted(app)) as host:
        with wire(host) as client:
            client.ask("GET", HERE)
            assert told.next() == "wait"
        assert told.next() == ["http.disconnect"] * 3


def test_a_receive_that_gave_up_takes_no_piece_of_the_body_with_it() -> None:
    gave_up = threading.Event()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        gave_up.set()
        await answer(send, await body_of(receive))

    with running_host(mounted(app)) as host, wire(host) as client:
        client.ask("POST", HERE, "transfer-encoding: chunked")
        assert happened(gave_up)
        client.chunk(b"whole")
        client.chunk(b"")
        assert client.answer()[2] == b"whole"


def test_many_tasks_may_send_at_once_and_none_is_forgotten() -> None:
    piece = b"x" * (100 << 10)

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        message = {"type": "http.response.body", "body": piece, "more_body": True}
        await asyncio.gather(*(send(message) for _ in range(50)))
        await send({"type": "http.response.body"})

    with running_host(mounted(app)) as host:
        assert len(host.http.get(HERE).content) == 50 * len(piece)


def test_an_app_that_streams_to_a_client_that_left_is_cancelled_where_it_waits() -> None:
    told = Told()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * (1 << 16), "more_body": True})
        except (asyncio.CancelledError, OSError):
            told("over")
            raise

    with running_host(mounted(app)) as host:
        with wire(host, receive_bytes=4096) as client:
            client.ask("GET", HERE).head()
        assert told.next() == "over"


def lifespan_app(told: Told, failing: str = "") -> Callable[..., Awaitable[None]]:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert await receive() == {"type": "lifespan.startup"}
            if failing:
                await send({"type": "lifespan.startup.failed", "message": failing})
                return
            scope["state"]["pool"] = ["shared"]
            await send({"type": "lifespan.startup.complete"})
            assert await receive() == {"type": "lifespan.shutdown"}
            told("down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["pool"].append("+")
        scope["state"]["own"] = "of this request"
        await answer(send, repr(scope["state"]).encode())

    return app


def test_the_lifespan_of_an_app_is_run_and_its_state_reaches_every_request() -> None:
    told = Told()
    with running_host(mounted(lifespan_app(told))) as host:
        assert host.http.get(HERE).text == "{'pool': ['shared', '+'], 'own': 'of this request'}"
        assert host.http.get(HERE).text == "{'pool': ['shared', '+', '+'], 'own': 'of this request'}"
        assert told.nothing()
    assert told.next() == "down"


def test_a_lifespan_that_fails_is_a_startup_error_and_the_others_serve() -> None:
    told = Told()
    bad, good = mounted(lifespan_app(told, "no database"), "bad"), mounted(lifespan_app(told), "good")
    with running_host(bad, good) as host:
        assert host.http.get("/api/plugins/good").status_code == 200
        assert host.http.get("/api/plugins/bad").status_code == 404
        (error,) = host.registry.errors
        assert (error.plugin, error.stage, error.code) == ("bad", "startup", "plugin")
        assert "no database" in error.message


async def raises_first(scope: Message, receive: Receive, send: Send) -> None:
    raise RuntimeError("before")


async def ends_silently(scope: Message, receive: Receive, send: Send) -> None: ...


async def starts_twice(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await send(START)


async def starts_and_raises(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    raise RuntimeError("between")


async def starts_and_ends(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)


async def body_first(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x"})


async def splits_value(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, headers=[(b"x-a", b"1\r\nset-cookie: stolen=1")])


async def splits_name(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, headers=[(b"x-a: 1\r\nx-b", b"2")])


async def names_nothing(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, headers=[(b"", b"2")])


async def status_of_nobody(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, status=99)


async def status_of_switching(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, status=101)


async def wrong_length(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, b"four", headers=[(b"content-length", b"5")])


async def unknown_message(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.dance"})


async def body_of_text(scope: Message, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": "text"})


async def exits(scope: Message, receive: Receive, send: Send) -> None:
    raise SystemExit(7)


async def cancels_itself(scope: Message, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


MISBEHAVING = [
    raises_first, ends_silently, starts_twice, starts_and_raises, starts_and_ends, body_first, splits_value,
    splits_name, names_nothing, status_of_nobody, status_of_switching, wrong_length, unknown_message, body_of_text,
    exits, cancels_itself,
]  # fmt: skip


@pytest.mark.parametrize("app", MISBEHAVING, ids=lambda app: app.__name__)
def test_an_app_that_misbehaves_is_a_500_of_its_own_and_the_others_serve(app: Any) -> None:
    @http_only
    async def well(scope: Message, receive: Receive, send: Send) -> None:
        await answer(send, b"well")

    with running_host(mounted(http_only(app), "bad"), mounted(well, "good")) as host:
        found = host.http.get("/api/plugins/bad")
        assert (found.status_code, found.headers["content-type"]) == (500, "application/problem+json")
        assert (found.json()["code"], found.json()["plugin"]) == ("plugin", "bad")
        assert "set-cookie" not in found.headers
        assert host.http.get("/api/plugins/good").text == "well"


def test_an_app_that_fails_in_mid_answer_cuts_the_connection_so_that_nobody_takes_half_for_whole() -> None:
    seen = threading.Event()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/well"):
            await answer(send, b"well")
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.to_thread(happened, seen)
        raise RuntimeError("after")

    with running_host(mounted(app)) as host:
        with wire(host) as client:
            client.ask("GET", HERE).head()
            assert client.next_chunk() == b"half"
            seen.set()
            assert client.rest() == b""
        # The end or the reset of the connection, whichever the client sees.
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            host.http.get(HERE)
        assert host.http.get(f"{HERE}/well").text == "well"


def test_a_head_request_gets_the_head_alone_and_the_app_is_let_end() -> None:
    told = Told()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"10")]})
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"12345", "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})
        told("ended")

    with running_host(mounted(app)) as host, wire(host) as client:
        for _ in range(3):
            status, headers = client.ask("HEAD", HERE).head()
            assert (status, dict(headers)["content-length"]) == (200, "10")
            assert told.next() == "ended"
        assert client.ask("GET", HERE).answer()[2] == b"1234512345"


def test_a_head_request_ends_an_app_whose_stream_has_no_end() -> None:
    told = Told()

    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"more", "more_body": True})
                await asyncio.sleep(0)
        except (OSError, asyncio.CancelledError):
            told("ended")
            raise

    with running_host(mounted(app)) as host, wire(host) as client:
        assert client.ask("HEAD", HERE).head()[0] == 200
        assert told.next() == "ended"


def test_http_2_by_prior_knowledge_is_the_same_app() -> None:
    @http_only
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        await answer(send, f"{scope['http_version']} {scope['scheme']} {len(body)}".encode())

    with running_host(mounted(app)) as host:
        with httpx.Client(http1=False, http2=True, base_url=host.url, headers=host.http.headers) as client:
            for size in (0, 10, 1 << 20):
                found = client.post(HERE, content=b"x" * size)
                assert (found.http_version, found.text) == ("HTTP/2", f"2 http {size}")
        command = ["curl", "-s", "--http2-prior-knowledge", "-H", f"Authorization: Bearer {host.token}"]
        with contextlib.suppress(FileNotFoundError):
            ran = subprocess.run([*command, f"{host.url}{HERE}"], capture_output=True, text=True, check=True)
            assert ran.stdout == "2 http 0"
