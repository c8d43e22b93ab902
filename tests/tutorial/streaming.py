"""Answers in pieces: streams, generators, server-sent events, files, background tasks."""

from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse

router = APIRouter()


class Item(BaseModel):
    name: str
    size: float = 1.0


@router.get("/stream")
async def stream(count: int = 3):
    async def pieces():
        for number in range(min(count, 20)):
            yield f"piece {number}\n"

    return StreamingResponse(pieces(), media_type="text/plain", headers={"X-Stream": "1"})


@router.get("/stream/sync")
def stream_sync() -> StreamingResponse:
    return StreamingResponse(iter([b"a", b"", b"b"]), status_code=206)


@router.get("/stream/length")
async def stream_length():
    return StreamingResponse(iter([b"abc", b"def"]), headers={"Content-Length": "6"})


@router.get("/lines")
async def lines() -> AsyncIterable[Item]:
    for number in range(3):
        yield Item(name=f"item {number}")


@router.get("/lines/sync")
def lines_sync(count: int = 2) -> Iterable[Item]:
    for number in range(min(count, 20)):
        yield Item(name="é", size=number / 3)


@router.get("/lines/untyped")
async def lines_untyped():
    yield {"a": 1}
    yield None


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[Item]:
    yield Item(name="one")
    yield Item(name="two")


@router.get("/events/own", response_class=EventSourceResponse)
async def events_own(n: int = 1) -> AsyncIterable[ServerSentEvent]:
    yield ServerSentEvent(data={"n": n}, event="update", id="7", retry=1000)
    yield ServerSentEvent(raw_data="raw\nlines", comment="why")


@router.get("/file")
async def file():
    return FileResponse(Path(__file__).with_name("__init__.py"), headers={"last-modified": "x", "etag": "y"})


def note(words: list[str], word: str) -> None:
    words.append(word)


NOTES: list[str] = []


@router.post("/background/{word}")
async def background(word: str, tasks: BackgroundTasks):
    tasks.add_task(note, [], word)
    return {"word": word}


def in_dependency(tasks: BackgroundTasks, word: str = "w"):
    tasks.add_task(note, [], word)
    return word


@router.post("/background-dependency")
def background_dependency(word: Annotated[str, Depends(in_dependency)]):
    return {"word": word}


@router.get("/background-response")
async def background_response():
    return JSONResponse({"task": True}, background=BackgroundTask(note, [], "x"))


@router.get("/plain")
async def plain():
    return {"plain": True}


# What an endpoint returns is known when it has run: these compile, and what streams or has a task is then sent so.
RETURNED = {"GET /stream", "GET /stream/sync", "GET /stream/length", "GET /file", "GET /background-response"}
STAYS = {f"GET /{path}": "stream" for path in ("lines", "lines/sync", "lines/untyped", "events", "events/own")}
STAYS |= {"POST /background/{word}": "background", "POST /background-dependency": "background"}
