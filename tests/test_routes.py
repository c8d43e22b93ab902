"""FastAPI's routers under the host: what goes in, what comes out, and that FastAPI's own words stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from kit import Told, happened, made, mounted, wire
from pydantic import BaseModel, Field
from served import Served, write_plugin

from plugbay.testing import running_host

HERE = "/api/plugins/demo"


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    tags: list[str] = []


def items() -> APIRouter:
    router = APIRouter()

    @router.get("/items/{number}")
    async def read(number: int, q: Annotated[list[str] | None, Query()] = None) -> dict[str, Any]:
        return {"number": number, "q": q}

    @router.post("/items", status_code=201)
    def create(item: Item) -> Item:
        return item

    @router.get("/files/{path:path}")
    async def file(path: str) -> dict[str, str]:
        return {"path": path}

    @router.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, {"short": "stout"}, {"x-tea": "earl grey"})

    @router.get("/header")
    async def header(x_own: Annotated[list[str] | None, Header()] = None, c: Annotated[str, Cookie()] = "-") -> Any:
        return {"own": x_own, "cookie": c}

    @router.get("/cookies")
    async def cookies(response: Response) -> str:
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return "baked"

    @router.delete("/items/{number}", status_code=204)
    async def delete(number: int) -> None: ...

    @router.get("/elsewhere")
    async def elsewhere() -> RedirectResponse:
        return RedirectResponse("/api/plugins/demo/items/1")

    @router.put("/raw")
    async def raw(request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    @router.api_route("/text", methods=["GET", "HEAD"], response_class=PlainTextResponse)
    async def text() -> str:
        return "grün"

    @router.get("/fails")
    async def fails() -> None:
        raise RuntimeError("boom")

    @router.get("/slash/")
    async def slash() -> str:
        return "with"

    return router


SAME = [
    ("GET", "/items/3", {}),
    ("GET", "/items/3?q=a&q=%C3%A4+b&q=", {}),
    ("GET", "/items/three", {}),
    ("GET", "/items/3/", {}),
    ("GET", "/items/3/?q=1", {}),
    ("GET", "/slash", {}),
    ("GET", "/nowhere", {}),
    ("GET", "", {}),
    ("GET", "/", {}),
    ("PATCH", "/items/3", {}),
    ("HEAD", "/items/3", {}),
    ("OPTIONS", "/items", {}),
    ("HEAD", "/text", {}),
    ("GET", "/text", {}),
    ("POST", "/items", {"json": {"name": "nut", "price": 0.5}}),
    ("POST", "/items", {"json": {"name": "nut", "price": -1}}),
    ("POST", "/items", {"json": ["nut"]}),
    ("POST", "/items", {"content": b'{"name": ', "headers": {"content-type": "application/json"}}),
    ("POST", "/items", {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}),
    ("POST", "/items", {"content": b"name=nut", "headers": {"content-type": "text/plain"}}),
    ("POST", "/items", {}),
    ("GET", "/teapot", {}),
    ("GET", "/header", {"headers": [("x-own", "1"), ("x-own", "2"), ("cookie", "c=x")]}),
    ("GET", "/cookies", {}),
    ("DELETE", "/items/3", {}),
    ("GET", "/elsewhere", {}),
    ("GET", "/files/a/b%20c/%E2%82%AC", {}),
    ("GET", "/files/a%2Fb", {}),
    ("GET", "/files/%ff", {}),
    ("GET", "/files//a//b/", {}),
    ("PUT", "/raw", {"content": bytes(range(256)), "headers": {"content-type": "application/octet-stream"}}),
    ("PUT", "/raw", {"content": b"", "headers": {"content-type": "a/b"}}),
    ("GET", "/fails", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), SAME, ids=lambda it: str(it)[:30])
def test_an_answer_is_fastapis_own_byte_for_byte(method: str, path: str, more: dict[str, Any]) -> None:
    app = FastAPI()
    app.include_router(items(), prefix=HERE)

    async def ask_fastapi(url: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            return await client.request(method, HERE + path, **more)

    with running_host(mounted(items())) as host:
        found = host.http.request(method, HERE + path, **more)
        expected = asyncio.run(ask_fastapi(host.url))
    assert (found.status_code, found.content) == (expected.status_code, expected.content)
    assert by_name(found) == by_name(expected)


def by_name(answer: httpx.Response) -> list[tuple[str, str]]:
    """The headers of an answer but for the host's own; the order of different names means nothing in HTTP."""
    pairs = (pair for pair in answer.headers.multi_items() if pair[0] not in ("date", "x-request-id"))
    return sorted(pairs, key=lambda pair: pair[0])


def test_a_handler_sees_who_asks_and_where_it_stands() -> None:
    router = APIRouter()

    @router.get("/scope/{rest:path}")
    async def scope(request: Request) -> dict[str, Any]:
        seen = request.scope
        return {
            **{key: seen[key] for key in ("type", "method", "scheme", "http_version", "path", "root_path")},
            "raw_path": seen["raw_path"].decode(),
            "query": seen["query_string"].decode(),
            "client": seen["client"][0],
            "server": seen["server"],
            "names": [name.decode() for name, _ in seen["headers"]],
            "caller": seen["plugbay.caller"].principal.name,
            "request_id": seen["plugbay.caller"].request_id,
            "spec": seen["asgi"],
        }

    with running_host(mounted(router)) as host:
        answer = host.http.get(f"{HERE}/scope/a%20b?x=%31", headers={"X-Request-Id": "mine-1", "X-CASE": "A"})
        seen = answer.json()
        assert seen["path"] == f"{HERE}/scope/a b"
        assert seen["raw_path"] == f"{HERE}/scope/a%20b"
        assert seen["query"] == "x=%31"
        assert (seen["type"], seen["method"], seen["scheme"], seen["http_version"]) == ("http", "GET", "http", "1.1")
        assert seen["root_path"] == ""
        assert (seen["client"], seen["server"]) == ("127.0.0.1", ["127.0.0.1", int(host.url.rpartition(":")[2])])
        assert "x-case" in seen["names"]
        assert seen["caller"] == "owner"
        assert seen["request_id"] == answer.headers["x-request-id"] == "mine-1"
        assert seen["spec"] == {"version": "3.0", "spec_version": "2.4"}


def test_two_routers_at_one_prefix_answer_together_and_others_stand_at_prefixes_of_their_own() -> None:
    def router(path: str) -> APIRouter:
        made = APIRouter()
        made.add_api_route(path, lambda: path)
        return made

    def setup(host: Any) -> None:
        host.add_router(router("/a"))
        host.add_router(router("/b"))
        host.add_router(router("/c"), prefix="weather/v2")

    with running_host(made(setup)) as host:
        assert host.http.get(f"{HERE}/a").json() == "/a"
        assert host.http.get(f"{HERE}/b").json() == "/b"
        assert host.http.get("/api/weather/v2/c").json() == "/c"
        assert host.http.get("/api/weather/v2/a").json() == {"detail": "Not Found"}
        assert host.http.get("/api/weather").json()["code"] == "not_found"


def test_dependencies_and_the_routers_own_lifespan_work() -> None:
    told = Told()

    async def session() -> AsyncIterator[str]:
        told("opened")
        yield "session"
        told("closed")

    async def lifespan(_app: Any) -> AsyncIterator[dict[str, str]]:
        told("up")
        yield {"pool": "full"}
        told("down")

    router = APIRouter(lifespan=contextlib.asynccontextmanager(lifespan))

    opened = Depends(session)

    @router.get("/uses")
    def uses(request: Request, session: str = opened) -> list[str]:
        return [session, request.state.pool]

    with running_host(mounted(router)) as host:
        assert told.next() == "up"
        assert host.http.get(f"{HERE}/uses").json() == ["session", "full"]
        assert [told.next(), told.next()] == ["opened", "closed"]
    assert told.next() == "down"


def test_background_tasks_run_after_the_answer_and_whatever_becomes_of_the_client() -> None:
    told, answered = Told(), threading.Event()

    async def later() -> None:
        told(await asyncio.to_thread(happened, answered))

    def blocking() -> None:
        told(happened(answered))

    router = APIRouter()

    @router.get("/async")
    async def asynchronous(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "answered"

    @router.get("/def")
    def synchronous(tasks: BackgroundTasks) -> str:
        tasks.add_task(blocking)
        return "answered"

    @router.get("/stream")
    async def stream(tasks: BackgroundTasks) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"12345"
            # The client has all that was announced by now, and the server is done with it.
            await asyncio.to_thread(happened, answered)

        tasks.add_task(told, "streamed")
        return StreamingResponse(pieces(), headers={"content-length": "5"}, background=tasks)

    with running_host(mounted(router)) as host:
        for path in ("/async", "/def"):
            answered.clear()
            with wire(host) as client:
                assert client.ask("GET", HERE + path).answer()[2] == b'"answered"'
            assert told.nothing()
            answered.set()
            assert told.next() is True
        answered.clear()
        with wire(host) as client:
            assert client.ask("GET", f"{HERE}/stream").answer()[2] == b"12345"
            assert client.ask("GET", f"{HERE}/def").answer()[2] == b'"answered"'
        answered.set()
        assert {told.next(), told.next()} == {True, "streamed"}


FAILING = """
from fastapi import APIRouter

router = APIRouter()


@router.get("/fails")
async def fails():
    raise RuntimeError("boom")


@router.get("/works")
async def works():
    return "well"


def setup(host):
    host.add_router(router)
"""


def test_a_router_that_raises_is_a_500_and_one_traceback_in_the_log(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "demo", FAILING)
    with Served(home, plugins=tmp_path / "plugins").ready() as served:
        with served.client() as client:
            answer = client.get(f"{HERE}/fails")
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
            assert client.get(f"{HERE}/works").json() == "well"
        assert served.stop() == 0
    assert served.log.count("Traceback") == 1
    assert "demo.py" in served.log and 'raise RuntimeError("boom")' in served.log
    error = re.search(r".*ERROR.*", served.log)
    assert error is not None and "boom" in error[0] and "demo" in error[0]


def test_server_sent_events_come_one_by_one_and_end_with_the_client() -> None:
    told, more = Told(), threading.Semaphore(0)
    router = APIRouter()

    @router.get("/events")
    async def events() -> StreamingResponse:
        async def ticks() -> AsyncIterator[str]:
            try:
                number = 0
                while True:
                    yield f"data: {number}\n\n"
                    number += 1
                    while not more.acquire(blocking=False):
                        await asyncio.sleep(0)
            finally:
                told("over")

        return StreamingResponse(ticks(), media_type="text/event-stream")

    with running_host(mounted(router)) as host:
        with host.http.stream("GET", f"{HERE}/events") as answer:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = answer.iter_lines()
            for number in range(5):
                assert [next(lines), next(lines)] == [f"data: {number}", ""]
                more.release()
        assert told.next() == "over"


def test_a_client_that_leaves_cancels_a_handler_that_works_and_a_def_handler_goes_on() -> None:
    told, release = Told(), threading.Event()
    router = APIRouter()

    @router.get("/async")
    async def asynchronous() -> None:
        told("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told("cancelled")
            raise

    @router.get("/def")
    def synchronous() -> str:
        told("begun")
        told(happened(release))
        return "done"

    with running_host(mounted(router)) as host:
        with wire(host) as client:
            client.ask("GET", f"{HERE}/async")
            assert told.next() == "begun"
        assert told.next() == "cancelled"
        with wire(host) as client:
            client.ask("GET", f"{HERE}/def")
            assert told.next() == "begun"
        release.set()
        assert told.next() is True
        assert host.http.get(f"{HERE}/def").json() == "done"
