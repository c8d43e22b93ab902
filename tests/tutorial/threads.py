"""Plain functions: that they may block, call back into the loop, and keep what a thread has to themselves."""

import contextvars
import threading
from typing import Annotated

import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool

router = APIRouter()
word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="unset")


async def said(text: str) -> str:
    await anyio.sleep(0)
    return f"said {text}"


@router.get("/from-thread")
def from_thread(text: str = "x"):
    return {"said": anyio.from_thread.run(said, text)}


def asks_back():
    return anyio.from_thread.run(said, "dependency")


@router.get("/from-thread/dependency")
async def from_thread_dependency(found: Annotated[str, Depends(asks_back)]):
    return {"found": found}


@router.get("/to-thread")
async def to_thread():
    return {"thread": await run_in_threadpool(lambda: threading.current_thread() is threading.main_thread())}


@router.get("/off-the-loop")
def off_the_loop():
    word.set("here")
    return {"same": threading.get_ident() == _loop_thread(), "word": word.get()}


def _loop_thread() -> int:
    return anyio.from_thread.run_sync(threading.get_ident)


@router.get("/fresh")
def fresh():
    return {"word": word.get()}


@router.get("/cancelled")
async def cancelled():
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    return {"cancelled": scope.cancelled_caught}


@router.get("/group")
async def group():
    found: list[int] = []

    async def add(number: int) -> None:
        found.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(add, number)
    return sorted(found)
