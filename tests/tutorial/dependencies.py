"""Dependencies: functions, classes, instances, sub-dependencies, caching, errors, what they share with the endpoint."""

import itertools
from contextvars import ContextVar
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Cookie, Depends, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

router = APIRouter()
seen: ContextVar[str] = ContextVar("seen", default="nothing")


async def common(q: str | None = None, skip: int = 0, limit: int = 100) -> dict[str, Any]:
    return {"q": q, "skip": skip, "limit": limit}


Common = Annotated[dict[str, Any], Depends(common)]


@router.get("/items")
async def read_items(commons: Common):
    return commons


@router.get("/users")
def read_users(commons: dict[str, Any] = Depends(common)):
    return commons


class Paging:
    def __init__(self, page: int = 1, size: Annotated[int, Query(le=50)] = 10):
        self.page = page
        self.size = size


@router.get("/pages")
async def read_pages(paging: Annotated[Paging, Depends(Paging)], short: Annotated[Paging, Depends()]):
    return {"page": paging.page, "size": paging.size, "same": paging is short}


class Filter(BaseModel):
    words: list[str] = Query([])
    strict: bool = False


@router.get("/model")
async def read_model(filter: Annotated[Filter, Depends()]):
    return filter


class Checker:
    def __init__(self, word: str):
        self.word = word

    def __call__(self, q: str = "") -> bool:
        return self.word in q


class AsyncChecker(Checker):
    async def __call__(self, q: str = "", n: int = 0) -> str:
        return f"{self.word in q} {n}"


@router.get("/checked")
async def read_checked(
    found: Annotated[bool, Depends(Checker("bar"))], other: Annotated[str, Depends(AsyncChecker("x"))]
):
    return {"found": found, "other": other}


@router.get("/method")
def read_method(found: Annotated[bool, Depends(Checker("m").__call__)]):
    return {"found": found}


@router.get("/partial")
async def read_partial(found: Annotated[dict, Depends(partial(common, skip=7))]):
    return found


@router.get("/lambda")
async def read_lambda(found: Annotated[int, Depends(lambda n=5: n)]):
    return {"found": found}


def query_extractor(q: str | None = None):
    return q


def query_or_cookie(q: Annotated[str | None, Depends(query_extractor)], last: Annotated[str | None, Cookie()] = None):
    return q or last


@router.get("/sub")
async def read_sub(q: Annotated[str | None, Depends(query_or_cookie)]):
    return {"q": q}


def numbered() -> Any:
    return next(counter)


counter = itertools.cycle(range(1))


class Calls:
    def __init__(self, request: Request) -> None:
        self.list: list[str] = request.scope.setdefault("calls", [])


async def first(calls: Annotated[Calls, Depends()]):
    calls.list.append("first")
    return len(calls.list)


def second(one: Annotated[int, Depends(first)], calls: Annotated[Calls, Depends()]):
    calls.list.append("second")
    return one


async def third(one: Annotated[int, Depends(first, use_cache=False)], two: Annotated[int, Depends(second)]):
    return [one, two]


@router.get("/cached")
async def read_cached(a: Annotated[int, Depends(first)], b: Annotated[int, Depends(second)], request: Request):
    return {"a": a, "b": b, "calls": request.scope["calls"]}


@router.get("/uncached")
async def read_uncached(a: Annotated[int, Depends(first)], b: Annotated[Any, Depends(third)], request: Request):
    return {"a": a, "b": b, "calls": request.scope["calls"]}


@router.get("/uncached/twice")
def read_uncached_twice(
    request: Request,
    a: Annotated[int, Depends(first, use_cache=False)],
    b: Annotated[int, Depends(first, use_cache=False)],
    c: Annotated[int, Depends(first)],
):
    return {"a": a, "b": b, "c": c, "calls": request.scope["calls"]}


async def verify_token(x_token: Annotated[str, Header()]):
    if x_token != "fake":
        raise HTTPException(400, "X-Token header invalid")


def verify_key(x_key: Annotated[str, Header(min_length=3)]):
    if x_key != "key":
        raise HTTPException(403, {"reason": "X-Key header invalid"}, {"X-Why": "key"})
    return x_key


@router.get("/guarded", dependencies=[Depends(verify_token), Depends(verify_key)])
async def read_guarded(number: int):
    return {"number": number}


@router.get("/errors/{number}")
async def read_errors(
    commons: Common,
    number: int,
    key: Annotated[str, Depends(verify_key)],
    flag: Annotated[bool, Query()],
    body_less: Annotated[float, Header()],
    limit: Annotated[int, Cookie()] = 3,
):
    return {"commons": commons, "number": number, "key": key, "flag": flag, "body_less": body_less, "limit": limit}


class Item(BaseModel):
    name: str
    size: int = 1


def of_item(item: Item, q: str = "q"):
    return f"{item.name} {q}"


@router.post("/body")
async def body_in_dependency(said: Annotated[str, Depends(of_item)]):
    return {"said": said}


@router.post("/body/both")
async def body_in_both(said: Annotated[str, Depends(of_item)], item: Item):
    return {"said": said, "item": item}


@router.post("/body/embedded")
async def body_embedded(said: Annotated[str, Depends(of_item)], number: Annotated[int, Body()] = 1):
    return {"said": said, "number": number}


def with_response(response: Response, status: int | None = None):
    response.headers["X-From-Dependency"] = "yes"
    response.set_cookie("from", "dependency")
    if status is not None and 200 <= status < 600:
        response.status_code = status
    return response


@router.get("/response")
async def shared_response(given: Annotated[Response, Depends(with_response)], response: Response):
    response.headers.append("X-From-Endpoint", str(given is response))
    return {"same": given is response}


@router.get("/response/returned")
def own_response(given: Annotated[Response, Depends(with_response)]):
    return Response("own", media_type="text/plain")


@router.get("/response/raised")
async def raised_response(given: Annotated[Response, Depends(with_response)]):
    raise HTTPException(404, "raised")


def path_of(number: Annotated[int, Path(ge=1)], request: Request):
    return [number, request.url.path, dict(request.path_params)]


@router.get("/path/{number}")
async def path_in_dependency(found: Annotated[list, Depends(path_of)]):
    return found


async def sets_async():
    seen.set("async")


def sets_sync():
    seen.set("sync")


@router.get("/context", dependencies=[Depends(sets_async)])
async def context():
    return {"seen": seen.get()}


@router.get("/context/def", dependencies=[Depends(sets_async)])
def context_def():
    return {"seen": seen.get()}


@router.get("/context/sync", dependencies=[Depends(sets_sync)])
async def context_sync():
    return {"seen": seen.get()}


@router.get("/context/sync/def", dependencies=[Depends(sets_sync)])
def context_sync_def():
    found = seen.get()
    seen.set("endpoint")
    return {"seen": found}


def fails():
    raise RuntimeError("on purpose")


@router.get("/fails")
async def read_fails(failed: Annotated[None, Depends(fails)]):
    return failed


@router.get("/none")
async def read_none(nothing: Annotated[None, Depends(lambda: None)], n: Annotated[int, Depends(numbered)]):
    return {"nothing": nothing, "n": n}


def one(a: int = 1):
    return a


async def two(a: Annotated[int, Depends(one)], b: int = 2):
    return a + b


def three(b: Annotated[int, Depends(two)], c: int = 3):
    return b + c


@router.get("/nested")
async def nested(total: Annotated[int, Depends(three)]):
    return {"total": total}


FAILS = {"GET /fails", "GET /guarded", "GET /errors/{number}", "GET /response/raised"}
