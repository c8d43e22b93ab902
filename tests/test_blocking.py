"""Plain functions that a compiled ``async def`` route depends on: they may block, and share threads while quick."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, HTTPException
from kit import PATIENCE_S, Told, happened, mounted, wire

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
        assert host.http.get(f"{HERE}/").json().startswith(WORKER)


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
    assert len(on_workers) == THREADS // 2


@pytest.mark.parametrize(
    ("error", "status"), [(HTTPException(418, "short"), 418), (StopIteration(1), 500), (OSError(), 500)]
)
def test_what_a_function_raises_is_answered_and_the_next_call_is_not_disturbed(error: Exception, status: int) -> None:
    raises = [error]

    def step() -> str:
        if raises:
            raise raises.pop()
        return "good"

    with running_host(mounted(depending(step)), log_level="off") as host:
        assert host.http.get(f"{HERE}/").status_code == status
        assert host.http.get(f"{HERE}/").json() == "good"


def test_a_client_that_leaves_waits_for_no_function_and_its_thread_is_known_to_be_stuck() -> None:
    told, go = Told(), threading.Event()

    def step() -> str:
        told("begun")
        happened(go)
        return "late"

    router = depending(step)

    @router.get("/outlived")
    async def after() -> None: ...

    with running_host(mounted(router)) as host:
        assert outlived(host) == 0
        with wire(host).ask("GET", f"{HERE}/"):
            assert told.next() == "begun"
        while outlived(host) == 0:
            assert host.http.get(f"{HERE}/outlived").status_code == 200
        go.set()
        assert host.http.get(f"{HERE}/").json() == "late"
