"""FastAPI routes as handlers of the core: which are compiled, and that a compiled one keeps what FastAPI promises."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from kit import PATIENCE_S, Told, happened, made, mounted, wire
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from tutorial import __path__ as tutorial_path
from twins import place_of, topic, topics

from plugbay import _core, loader
from plugbay.compiled import model
from plugbay.compiled.schema import reads_json_alike
from plugbay.testing import RunningHost, running_host

HERE = "/api/plugins/demo"
word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="unset")


PAGES = ("openapi.json", "docs", "docs/oauth2-redirect", "redoc")
"""The pages that FastAPI adds to an application of its own."""

FORMS = {"/any-list"}
"""A bare ``list`` is a list of files to FastAPI."""


def rows(host: RunningHost) -> dict[str, str | None]:
    """``METHOD path`` below the plugin to the reason, ``None`` for compiled routes."""
    listed = host.http.get("/api/host/routes").json()["routes"]
    for row in listed:
        assert row["compiled"] == (row["reason"] is None)
    return {f"{' '.join(row['methods'])} {row['path'].removeprefix(HERE)}": row["reason"] for row in listed}


def test_every_route_of_the_tutorial_is_compiled_but_those_that_have_a_reason() -> None:
    assert tutorial_path
    plugins = []
    for name in topics():
        thing = getattr(topic(name), "app", None) or topic(name).router
        plugins.append(made(lambda host, thing=thing: host.add_router(thing), id=name.replace("_", "-")))
    with running_host(*plugins) as host:
        listed = host.http.get("/api/host/routes").json()["routes"]
        counted = host.http.get("/api/host/status").json()["routes"]
    assert counted == {
        "compiled": sum(row["compiled"] for row in listed),
        "asgi": sum(not row["compiled"] for row in listed),
    }
    wrong = []
    own_pages = {f"{place_of(name)}/{page}" for name in topics() for page in PAGES}
    for row in listed:
        stays = getattr(topic(row["plugin"].replace("-", "_")), "STAYS", {})
        below = row["path"].removeprefix(place_of(row["plugin"]))
        for method in row["methods"]:
            expected = stays.get(f"{method} {below}")
            reason = row["reason"]
            right = reason is None if expected is None else expected.lower() in str(reason).lower()
            if not right and row["path"] not in own_pages and below not in FORMS:
                wrong.append((row["plugin"], method, below, reason, expected))
    assert not wrong, "\n".join(map(str, wrong))


def everything() -> FastAPI:
    app = FastAPI(openapi_url=None)

    class Own(app.router.route_class):  # type: ignore[name-defined, misc]
        pass

    own = APIRouter(route_class=Own)

    def opened() -> Iterator[int]:
        yield 1

    @app.get("/plain")
    async def plain() -> int:
        return 1

    @app.get("/yield")
    async def with_yield(found: Annotated[int, Depends(opened)]) -> int:
        return found

    @app.get("/lines")
    async def lines() -> Any:
        yield 1

    @own.get("/own/class")
    async def own_class() -> int:
        return 1

    @app.get("/{a}{b}")
    async def two(a: str, b: str) -> list[str]:
        return [a, b]

    @app.get("/hidden/behind")
    async def behind() -> str:
        return "behind"

    app.include_router(own)
    app.router.routes.append(Mount("/below", JSONResponse("below")))
    return app


def test_a_route_that_is_not_compiled_says_why() -> None:
    with running_host(mounted(everything())) as host:
        assert rows(host) == {
            "GET /plain": None,
            "GET /yield": "a dependency with yield: opened",
            "GET /lines": "streams its answer",
            "GET /{a}{b}": "a path with several parameters between two slashes",
            "GET /hidden/behind": None,
            "GET /own/class": "a route class of its own: everything.<locals>.Own",
            "ANY /below/…": "a mounted application",
        }
        # Who stands behind a path that the core cannot read is asked by FastAPI.
        answers = [
            host.http.get(f"{HERE}/{path}").json() for path in ("plain", "x-y", "hidden/behind", "own/class", "below/x")
        ]
        assert answers == [1, ["x-", "y"], "behind", 1, "below"]


class Called(FastAPI):
    async def __call__(self, *call: Any) -> None:
        await super().__call__(*call)


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (FastAPI(middleware=[Middleware(GZipMiddleware)]), "the app has middleware"),
        (Called(), "the app changes how it is called"),
    ],
    ids=["middleware", "call"],
)
def test_an_app_that_sees_each_request_first_is_not_compiled(app: FastAPI, reason: str) -> None:
    if not any(getattr(route, "path", None) == "/seen" for route in app.routes):
        app.get("/seen")(lambda: "seen")
    with running_host(mounted(app)) as host:
        assert rows(host)["GET /seen"] == reason
        assert host.http.get(f"{HERE}/seen").json() == "seen"


def simple() -> APIRouter:
    router = APIRouter()

    @router.get("/thread")
    def thread() -> str:
        return threading.current_thread().name

    return router


def test_a_plugin_can_ask_for_asgi() -> None:
    def setup(host: Any) -> None:
        host.add_router(simple())
        host.add_router(simple(), prefix="slow", compiled=False)

    with running_host(made(setup)) as host:
        assert rows(host) == {"GET /thread": None, "GET /api/slow/thread": "the plugin asks for ASGI"}
        assert host.http.get(f"{HERE}/thread").json().startswith("plugbay-worker-")
        assert not host.http.get("/api/slow/thread").json().startswith("plugbay-worker-")


def test_fast_routes_off_turns_all_of_it_off() -> None:
    with running_host(mounted(simple()), fast_routes=False) as host:
        assert rows(host) == {"GET /thread": "fast_routes is off"}
        assert not host.http.get(f"{HERE}/thread").json().startswith("plugbay-worker-")


def test_a_fastapi_that_is_not_as_expected_runs_on_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_DEPENDANT", model._DEPENDANT - {"use_cache"})
    with running_host(mounted(simple())) as host:
        assert rows(host) == {"GET /thread": "this FastAPI is not as expected (unknown: use_cache)"}
        assert host.http.get(f"{HERE}/thread").status_code == 200


def test_an_older_fastapi_runs_on_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fastapi.routing.iter_route_contexts")
    with running_host(mounted(simple())) as host:
        assert set(rows(host).values()) == {"this FastAPI is not as expected (older than 0.137)"}
        assert host.http.get(f"{HERE}/thread").status_code == 200


def test_plain_functions_may_block_and_beyond_half_of_the_threads_they_run_on_those_of_fastapi() -> None:
    begun, go = Told(), threading.Event()
    router = APIRouter()

    @router.get("/wait")
    def wait() -> bool:
        begun("begun")
        return happened(go)

    @router.get("/quick")
    def quick() -> str:
        return threading.current_thread().name

    plugins = [mounted(router), mounted(simple(), id="other")]
    with running_host(*plugins, limits={"worker_threads": 4}) as host, ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(host.http.get, f"{HERE}/wait") for _ in range(2)]
        assert [begun.next(), begun.next()] == ["begun"] * 2
        assert host.http.get(f"{HERE}/quick").json().startswith("AnyIO")
        assert host.http.get("/api/plugins/other/thread").status_code == 200
        go.set()
        assert [each.result(PATIENCE_S).json() for each in waiting] == [True, True]
        assert host.http.get(f"{HERE}/quick").json().startswith("plugbay-worker-")


def test_what_a_function_puts_into_its_context_is_seen_where_fastapi_shows_it() -> None:
    router = APIRouter()

    def on_thread() -> str:
        word.set("thread")
        return word.get()

    async def on_loop() -> str:
        word.set("loop")
        return word.get()

    @router.get("/def")
    def plain(found: Annotated[str, Depends(on_thread)]) -> list[str]:
        return [found, word.get()]

    @router.get("/async")
    async def both(a: Annotated[str, Depends(on_loop)], b: Annotated[str, Depends(on_thread)]) -> Any:
        task = asyncio.current_task()
        return [a, b, word.get(), task is not None and task.get_loop() is asyncio.get_running_loop()]

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        word.set("stream")

        async def pieces() -> Any:
            yield word.get()

        return StreamingResponse(pieces())

    with running_host(mounted(router)) as host:
        assert set(rows(host).values()) == {None}
        for _ in range(2):
            assert host.http.get(f"{HERE}/def").json() == ["thread", "unset"]
            assert host.http.get(f"{HERE}/async").json() == ["loop", "thread", "loop", True]
            assert host.http.get(f"{HERE}/stream").text == "stream"


def test_a_client_that_leaves_cancels_a_compiled_function() -> None:
    told = Told()
    router = APIRouter()

    @router.get("/for-ever")
    async def for_ever() -> None:
        told("begun")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            told("ended")

    with running_host(mounted(router)) as host:
        with wire(host).ask("GET", f"{HERE}/for-ever"):
            assert told.next() == "begun"
        assert told.next() == "ended"


def test_a_request_that_goes_on_to_fastapi_counts_once() -> None:
    router = APIRouter()

    @router.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    @router.get("/raises")
    def raises() -> None:
        raise RuntimeError("raised")

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    with running_host(mounted(router), log_level="off") as host:
        assert set(rows(host).values()) == {None}

        def counted() -> int:
            [plugin] = host.http.get("/api/host/plugins").json()["plugins"]
            return int(plugin["calls"])

        before = counted()
        asked = [("items/1", 200), ("items/x", 422), ("raises", 500), ("stream", 200), ("nowhere", 404)]
        for number, (path, status) in enumerate(asked, 1):
            assert host.http.get(f"{HERE}/{path}").status_code == status
            assert counted() == before + number, path


def test_overrides_of_dependencies_count_at_each_request() -> None:
    app = FastAPI()

    def real() -> str:
        return "real"

    @app.get("/which")
    async def which(found: Annotated[str, Depends(real)]) -> str:
        return found

    with running_host(mounted(app)) as host:
        assert rows(host)["GET /which"] is None
        found = [host.http.get(f"{HERE}/which").json()]
        app.dependency_overrides[real] = lambda: "other"
        found.append(host.http.get(f"{HERE}/which").json())
        app.dependency_overrides = {}
        found.append(host.http.get(f"{HERE}/which").json())
    assert found == ["real", "other", "real"]


def test_dependencies_are_called_as_often_as_fastapi_calls_them() -> None:
    calls: list[str] = []
    router = APIRouter()

    def fresh() -> str:
        calls.append("fresh")
        return "fresh"

    def kept(a: Annotated[str, Depends(fresh, use_cache=False)]) -> str:
        calls.append("kept")
        return a

    @router.get("/")
    def endpoint(
        a: Annotated[str, Depends(kept)], b: Annotated[str, Depends(kept)], c: Annotated[str, Depends(fresh)]
    ) -> list[str]:
        return [a, b, c]

    def setup(host: Any) -> None:
        host.add_router(router)
        host.add_router(router, prefix="slow", compiled=False)

    with running_host(made(setup)) as host:
        found = []
        for path in (f"{HERE}/", "/api/slow/"):
            assert host.http.get(path).json() == ["fresh"] * 3
            found.append(list(calls))
            calls.clear()
    assert found[0] == found[1] == ["fresh", "kept", "fresh"]


def test_a_request_that_is_refused_calls_dependencies_once() -> None:
    calls: list[str] = []
    router = APIRouter()

    def counted(_request: Request, token: Annotated[str, Header()] = "-") -> str:
        calls.append(token)
        if token == "bad":
            raise HTTPException(401, "bad token", {"www-authenticate": "Bearer"})
        return token

    @router.get("/{number}")
    def endpoint(number: int, _found: Annotated[str, Depends(counted)]) -> int:
        return number

    with running_host(mounted(router)) as host:
        assert rows(host) == {"GET /{number}": None}
        assert host.http.get(f"{HERE}/x").status_code == 422
        assert calls == ["-"]
        # FastAPI asks the dependency before it looks at the number.
        refused = host.http.get(f"{HERE}/x", headers={"token": "bad"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert calls == ["-", "bad"]


def test_a_compiled_route_that_is_withdrawn_leaves_nothing_behind() -> None:
    watched: list[weakref.ref[Any]] = []

    def setup(host: Any) -> None:
        class Item(BaseModel):
            name: str

        def dependency() -> str:
            return "found"

        router = APIRouter()

        @router.post("/")
        async def endpoint(item: Item, found: Annotated[str, Depends(dependency)], _request: Request) -> Item:
            if item.name == "raise":
                raise HTTPException(404, found)
            return item

        watched.extend(weakref.ref(each) for each in (router, endpoint, dependency, Item))
        host.add_router(router)

    with running_host(made(setup)) as host:
        assert rows(host) == {"POST /": None}
        for name, status in (("a", 200), ("raise", 404), (None, 422)):
            assert host.http.post(f"{HERE}/", json={"name": name}).status_code == status
        assert _core.withdraw("demo")
        loader.let_go()
        for _ in range(200):  # until the loop has come to rest
            gc.collect()
            if not any(each() for each in watched):
                break
        assert [each() for each in watched] == [None] * 4


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    number: int


class Checked(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        return number


class Plain(BaseModel):
    name: Annotated[str, Field(max_length=3)]
    numbers: list[int] = []
    inner: dict[str, float] | None = None


class Mixed(BaseModel):
    value: int | str


@pytest.mark.parametrize(("kind", "alike"), [(Plain, True), (Strict, False), (Checked, False), (Mixed, False)])
def test_json_is_read_at_once_only_where_that_cannot_differ(kind: Any, alike: bool) -> None:
    assert reads_json_alike(kind.__pydantic_core_schema__) is alike


def test_parameters_of_every_place_arrive_together() -> None:
    router = APIRouter()

    @router.put("/{a}/{rest:path}")
    def put(
        a: int,
        rest: str,
        response: Response,
        q: Annotated[list[int], Query()],
        x_one: Annotated[str, Header()],
        session: Annotated[str | None, Cookie()] = None,
        body: Annotated[Plain | None, Body(embed=True)] = None,
    ) -> Any:
        response.headers["x-seen"] = x_one
        return [a, rest, q, x_one, session, body]

    with running_host(mounted(router)) as host:
        assert rows(host) == {"PUT /{a}/{rest:path}": None}
        answer = host.http.put(
            f"{HERE}/7/b%2Fc/%C3%A9?q=1&q=%32",
            headers={"x-one": "one", "cookie": "a=b; session=me"},
            json={"body": {"name": "abc"}},
        )
        expected = {"name": "abc", "numbers": [], "inner": None}
        assert answer.json() == [7, "b/c/é", [1, 2], "one", "me", expected]
        assert answer.headers["x-seen"] == "one"
