"""Plain functions that a compiled ``async def`` route depends on: they may block, and share threads while quick."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import anyio.from_thread
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from kit import PATIENCE_S, Told, happened, mounted, wire
from served import Served, write_plugin

from plugbay.testing import RunningHost, running_host

HERE = "/api/plugins/demo"
WORKER = "plugbay-worker-"
ANYIO = "AnyIO worker thread"
THREADS = 4


def depending(step: Callable[[], Any]) -> APIRouter:
    """A router with one route, a coroutine, that gives what ``step`` has returned."""
    router = APIRouter()

    @router.get("/")
    async def answer(found: Annotated[Any, Depends(step)]) -> Any:
        return found

    return router


def thread_of() -> str:
    """The name of the thread that this runs on."""
    return threading.current_thread().name


def outlived(host: RunningHost) -> int:
    """How many calls on worker threads went on after nobody waited for them."""
    status = host.http.get("/api/host/status").raise_for_status().json()
    return int(status["engines"]["python"]["workers"]["outlived"])


def test_what_was_slow_has_a_thread_of_its_own_until_it_is_quick_again() -> None:
    begun, go = Told(), threading.Event()

    def step() -> str:
        if not go.is_set():
            begun("begun")
            happened(go)
        return thread_of()

    plugins = [mounted(depending(step)), mounted(depending(thread_of), id="other")]
    with running_host(*plugins) as host, ThreadPoolExecutor(1) as threads:
        first = threads.submit(host.http.get, f"{HERE}/")
        assert begun.next() == "begun"
        assert host.http.get("/api/host/status").json()["engines"]["python"]["workers"]["busy"] == 1
        # The lead passes only from a function that was seen to be slow.
        assert host.http.get("/api/plugins/other/").json().startswith(WORKER)
        go.set()
        assert first.result(PATIENCE_S).json().startswith(WORKER)
        assert host.http.get(f"{HERE}/").json().startswith(ANYIO)
        # On a busy machine a quick call may take long once more.
        assert any(host.http.get(f"{HERE}/").json().startswith(WORKER) for _ in range(100))


def test_plugins_that_have_taken_all_threads_hold_up_no_other() -> None:
    begun, go = Told(), threading.Event()
    blocking = APIRouter()

    @blocking.get("/")
    def block() -> None:
        begun("begun")
        happened(go)

    third = depending(thread_of)

    @third.get("/def")
    def quick() -> str:
        return thread_of()

    plugins = [mounted(blocking, id="one"), mounted(blocking, id="two"), mounted(third)]
    limits = {"worker_threads": THREADS}
    with running_host(*plugins, limits=limits) as host, ThreadPoolExecutor(THREADS) as threads:
        paths = ["/api/plugins/one/", "/api/plugins/two/"] * (THREADS // 2)
        waiting = [threads.submit(host.http.get, path) for path in paths]
        assert [begun.next() for _ in waiting] == ["begun"] * THREADS
        for path in ("", "def"):
            assert host.http.get(f"{HERE}/{path}").json().startswith(WORKER)
        assert begun.nothing()
        go.set()
        assert {each.result(PATIENCE_S).status_code for each in waiting} == {200}


def test_more_that_block_than_one_plugin_has_threads_for_are_all_answered() -> None:
    begun, go = Told(), threading.Event()

    def step() -> str:
        begun("begun")
        happened(go)
        return thread_of()

    plugins = [mounted(depending(step)), mounted(depending(thread_of), id="other")]
    limits = {"worker_threads": THREADS}
    with running_host(*plugins, limits=limits) as host, ThreadPoolExecutor(2 * THREADS) as threads:
        waiting = [threads.submit(host.http.get, f"{HERE}/") for _ in range(2 * THREADS)]
        assert [begun.next() for _ in waiting] == ["begun"] * len(waiting)
        assert host.http.get("/api/plugins/other/").json().startswith(WORKER), "another plugin is not held up"
        go.set()
        answers = [each.result(PATIENCE_S) for each in waiting]
    assert {answer.status_code for answer in answers} == {200}
    on_workers = [answer for answer in answers if answer.json().startswith(WORKER)]
    assert 1 <= len(on_workers) <= THREADS // 2


@pytest.mark.parametrize(
    ("error", "status"), [(HTTPException(418, "short"), 418), (StopIteration(1), 409), (OSError(), 500)]
)
def test_what_a_function_raises_is_answered_and_the_next_call_is_not_disturbed(error: Exception, status: int) -> None:
    raises = [error]

    def step() -> str:
        if raises:
            raise raises.pop()
        return "good"

    app = FastAPI()
    app.include_router(depending(step))

    @app.exception_handler(RuntimeError)
    async def stopped(request: Request, error: RuntimeError) -> JSONResponse:
        # As FastAPI has it: a coroutine cannot raise StopIteration.
        return JSONResponse(str(error), 409 if isinstance(error.__cause__, StopIteration) else 500)

    with running_host(mounted(app), log_level="off") as host:
        assert host.http.get(f"{HERE}/").status_code == status
        assert host.http.get(f"{HERE}/").json() == "good"


FAILING = """
from typing import Annotated
from fastapi import APIRouter, Depends

router = APIRouter()


def step() -> None:
    raise ValueError("wrong in a step")


@router.get("/")
async def answer(found: Annotated[None, Depends(step)]) -> None:
    pass


def setup(host):
    host.add_router(router)
"""


def test_the_log_says_in_which_line_a_function_failed(home: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "failing", FAILING)
    with Served(home, plugins=tmp_path / "plugins").ready() as served, served.client() as client:
        assert client.get("/api/plugins/failing/").status_code == 500
        assert served.stop() == 0
        assert served.log.count('raise ValueError("wrong in a step")') == 1


def test_a_client_that_leaves_waits_for_no_function_and_its_thread_is_known_to_be_stuck() -> None:
    told, go = Told(), threading.Event()

    def step() -> str:
        told("begun")
        happened(go)
        return "late"

    with running_host(mounted(depending(step))) as host:
        assert outlived(host) == 0
        with wire(host).ask("GET", f"{HERE}/"):
            assert told.next() == "begun"
        assert any(outlived(host) == 1 for _ in range(10_000))
        go.set()
        assert host.http.get(f"{HERE}/").json() == "late"


def test_a_function_that_may_block_asks_whether_its_caller_has_left_as_on_anyios_threads() -> None:
    def step() -> str:
        anyio.from_thread.check_cancelled()
        return thread_of()

    with running_host(mounted(depending(step))) as host:
        assert any(host.http.get(f"{HERE}/").json().startswith(WORKER) for _ in range(100))
