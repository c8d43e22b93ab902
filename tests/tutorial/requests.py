"""The request itself, the response parameter, and what an endpoint may look at."""

import asyncio
import contextvars
import inspect
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.requests import HTTPConnection
from pydantic import BaseModel

router = APIRouter()


class Item(BaseModel):
    name: str


@router.get("/seen/{word}")
async def seen(request: Request, word: str):
    return {
        "method": request.method,
        "url": str(request.url),
        "base": str(request.base_url),
        "path": request.url.path,
        "raw": request.scope["raw_path"].decode(),
        "query": request.url.query,
        "params": request.query_params.multi_items(),
        "path_params": request.path_params,
        "headers": [(name, value) for name, value in request.headers.items() if name.startswith("x-")],
        "cookies": request.cookies,
        "client": request.client.host if request.client else None,
        "scheme": request.scope["scheme"],
        "root_path": request.scope["root_path"],
        "http": request.scope["http_version"],
        "keys": sorted(key for key in request.scope if not key.startswith(("fastapi", "plugbay", "asgi"))),
        "type": request.scope["type"],
    }


@router.get("/route/{number}", name="the-route")
async def route(request: Request, number: int):
    found = request.scope["route"]
    return {"path": found.path, "name": found.name, "endpoint": request.scope["endpoint"].__name__, "number": number}


@router.get("/links/{number}")
def links(request: Request, number: int):
    return {"link": str(request.url_for("the-route", number=number)), "self": str(request.url_for("links", number=1))}


@router.get("/connection")
async def connection(connection: HTTPConnection):
    return {"url": str(connection.url), "is": isinstance(connection, Request)}


@router.post("/body")
async def body(request: Request):
    return {"length": len(await request.body()), "again": len(await request.body())}


@router.post("/json")
async def json(request: Request):
    return {"json": await request.json()}


@router.post("/stream")
async def stream(request: Request):
    return {"length": sum([len(piece) async for piece in request.stream()])}


@router.post("/both")
async def both(request: Request, item: Item, extra: Annotated[int, Body()] = 1):
    return {"item": item, "extra": extra, "raw": (await request.body()).decode("latin-1")}


@router.post("/unread")
async def unread():
    return {"unread": True}


@router.get("/state")
async def state(request: Request):
    request.state.mark = "mark"
    return {"mark": request.state.mark}


def marked(request: Request):
    request.state.marked = True
    return request


@router.get("/same")
async def same(request: Request, other: Annotated[Request, Depends(marked)]):
    return {"same": request is other, "marked": request.state.marked}


@router.get("/disconnected")
async def disconnected(request: Request):
    return {"disconnected": await request.is_disconnected()}


@router.get("/loop")
async def loop():
    task = asyncio.current_task()
    await asyncio.sleep(0)
    return {"task": task is asyncio.current_task(), "loop": asyncio.get_running_loop().is_running()}


@router.get("/loop/timeout")
async def loop_timeout():
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        return {"timeout": True}


@router.get("/loop/tasks")
async def loop_tasks():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
    return [task.result() for task in tasks]


@router.get("/thread")
def thread():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return {"loop": False}
    return {"loop": True}


@router.get("/thread/stack")
def thread_stack():
    """Whether it runs beneath a loop of its own thread."""
    return {"context": contextvars.copy_context() is not None, "coroutine": inspect.iscoroutinefunction(thread_stack)}


@router.get("/response")
async def response(response: Response):
    return {"status": response.status_code, "headers": response.headers.items()}


@router.get("/response/lengths")
def lengths(response: Response, length: int = 3):
    response.headers["x-length"] = "x" * max(0, min(length, 2000))
    response.headers["x-mixed-Case"] = "kept"
    return {"length": length}


def _asks():
    from twins import Ask, place_of

    place = place_of("requests").encode()
    # The values of a repeated header stay together: that is how the core keeps them.
    headers = ((b"x-one", b"1"), (b"x-one", b"\xe9"), (b"X-Two", b"2"), (b"cookie", b"a=1; b=2"), (b"cookie", b"a=3"))
    words = b"x %C3%A9 a%2Fb a%20b %FF a+b ~ a:b@c %7Euser a%3Fb A%e9".split()
    for query in (b"", b"?a=1&a=2&b=", b"?%C3%A9=%FF", b"?a=b%20c+d", b"?&&", b"?a;b"):
        for word in words:
            yield Ask("GET", place + b"/seen/" + word + query, headers)
    for length in (0, 1, 10, 70_000, 300_000):
        for path in (b"/body", b"/stream", b"/unread", b"/json", b"/both"):
            yield Ask("POST", place + path, ((b"content-type", b"application/json"),), b'"' + b"x" * length + b'"')


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


FAILS = {"POST /json"}
