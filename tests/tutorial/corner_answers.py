"""Corners of dependencies and answers: trees without cache, what several functions set, classes of responses."""

import functools
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response, Security
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import SecurityScopes
from pydantic import (
    BaseModel,
    Field,
)

router = APIRouter()
T = TypeVar("T")


class Pager:
    def __init__(self, most: Annotated[int, Query(ge=1)] = 10, *, start: int = 0) -> None:
        self.most, self.start = most, start


class Checker:
    def __init__(self, word: str) -> None:
        self.word = word

    async def __call__(self, q: str = "") -> bool:
        return self.word in q


class Steps:
    def __init__(self) -> None:
        self.taken: list[str] = []


def steps(request: Request) -> Steps:
    if not hasattr(request.state, "steps"):
        request.state.steps = Steps()
    found: Steps = request.state.steps
    found.taken.append("steps")
    return found


def leaf(steps: Annotated[Steps, Depends(steps)], response: Response) -> int:
    steps.taken.append("leaf")
    response.headers.append("x-leaf", str(len(steps.taken)))
    return len(steps.taken)


async def branch(one: Annotated[int, Depends(leaf)], two: Annotated[int, Depends(leaf, use_cache=False)]) -> list[int]:
    return [one, two]


def scoped(scopes: SecurityScopes, steps: Annotated[Steps, Depends(steps)]) -> str:
    return scopes.scope_str


@router.get("/tree")
async def tree(
    steps: Annotated[Steps, Depends(steps)],
    left: Annotated[list[int], Depends(branch)],
    right: Annotated[list[int], Depends(branch, use_cache=False)],
    last: Annotated[int, Depends(leaf)],
):
    return {"steps": steps.taken, "left": left, "right": right, "last": last}


@router.get("/scopes")
def scopes(
    one: Annotated[str, Security(scoped, scopes=["a"])],
    two: Annotated[str, Security(scoped, scopes=["b", "a"])],
    three: Annotated[str, Security(scoped, scopes=["a"])],
    none: Annotated[str, Depends(scoped)],
):
    return [one, two, three, none]


@router.get("/classes")
async def classes(
    pager: Annotated[Pager, Depends()],
    again: Pager = Depends(Pager),
    found: bool = Depends(Checker("x")),
    part: str = Depends(functools.partial(lambda prefix, q="": prefix + q, "part-")),
):
    return {"most": pager.most, "start": again.start, "same": pager is again, "found": found, "part": part}


def sets(response: Response, status: int | None = None) -> None:
    response.headers["X-Set"] = "dependency"
    response.set_cookie("first", "é", max_age=5, httponly=True, samesite="strict")
    response.status_code = status if status is None or 200 <= status < 600 else 400


@router.get("/sets", dependencies=[Depends(sets)])
async def sets_twice(response: Response, after: int | None = None) -> dict[str, int | None]:
    response.headers["x-set"] = "endpoint"
    response.headers["content-type"] = "text/own"
    response.set_cookie("second", "2")
    if after:
        response.status_code = after if 200 <= after < 600 else 400
    return {"status": response.status_code}


@router.get("/sets/returned", dependencies=[Depends(sets)])
def sets_returned(own: bool = False) -> Any:
    return PlainTextResponse("own", 203, {"X-Set": "own"}) if own else {"own": own}


@router.get("/sets/empty", status_code=204, dependencies=[Depends(sets)])
async def sets_empty() -> None:
    return None


@router.get("/sets/raised", dependencies=[Depends(sets)])
def sets_raised() -> None:
    raise HTTPException(419, {"why": [1, {"é": None}]}, {"X-Why": "1", "x-set": "error"})


def refused(word: str = "") -> str:
    if word == "no":
        raise HTTPException(403, headers={"x-no": "1"})
    if word == "value":
        raise ValueError("no value")
    return word


async def nested_refused(word: Annotated[str, Depends(refused)], number: int) -> str:
    return f"{word}{number}"


@router.get("/refused/{item}", dependencies=[Depends(nested_refused)])
async def refused_item(item: int, word: Annotated[str, Depends(nested_refused)]):
    return [item, word]


class Envelope(JSONResponse):
    media_type = "application/vnd.envelope+json"

    def render(self, content: Any) -> bytes:
        return b'{"data":' + super().render(content) + b"}"


class Base(BaseModel):
    a: int = 1
    b: int | None = None
    c: list["Base"] = []


class Extended(Base):
    secret: str = "s"


boxed = APIRouter(default_response_class=Envelope, prefix="/boxed", tags=["boxed"])


@boxed.get("/model", response_model_exclude_none=True)
async def boxed_model() -> Base:
    return Extended(c=[Extended()])


@boxed.get("/plain")
def boxed_plain(n: float = 1.0):
    return {"n": n, "é": [None, True, Decimal("1.10")]}


@boxed.get("/html", response_class=HTMLResponse, status_code=206)
async def boxed_html():
    return "<b>é</b>"


@boxed.delete("/none", status_code=204)
def boxed_none():
    return {"not": "sent"}


@boxed.get("/returned")
async def boxed_returned(response: Response):
    response.headers["x-box"] = "1"
    return JSONResponse({"returned": True}, 299, {"x-box": "2"}, "application/x-own")


router.include_router(boxed)
router.include_router(boxed, prefix="/again", default_response_class=JSONResponse, dependencies=[Depends(refused)])


@router.get("/include", response_model=list[Extended], response_model_include={"__all__": {"a", "c"}})
def include():
    return [{"a": "5", "c": [{"b": 2}]}, Extended(), SimpleNamespace(a=1, b=2, c=[], secret="x")]


@router.get("/unset", response_model=Base, response_model_exclude_unset=True, response_model_exclude={"a"})
async def unset(b: int | None = None):
    return Extended(b=b) if b else Extended(a=3)


@router.get("/by-class", response_model=Annotated[Base | list[int] | None, Field(description="any")])
def by_class(kind: str = "none"):
    return {"none": None, "list": ["1", 2.0], "model": Extended()}.get(kind, {"a": kind})


@router.get("/one", status_code=202)
async def one(kind: Literal["bytes", "response", "generator", "set", "wrong", "nan", "str"] = "bytes") -> Any:
    things: dict[str, Callable[[], Any]] = {
        "bytes": lambda: b"bytes",
        "response": lambda: Response(b"", 204, {"x": "y"}),
        "generator": lambda: (n for n in range(3)),
        "set": lambda: frozenset({1}),
        "wrong": lambda: {1, (2, object())},
        "nan": lambda: {"nan": float("nan")},
        "str": lambda: "\ud800",
    }
    return things[kind]()


@router.get("/typed-one", response_model=int | None)
def typed_one(kind: str = "int") -> int | Response | None:
    if kind == "response":
        return Response("typed", media_type="text/plain")
    return None if kind == "none" else 5


@router.get("/not-model", response_model=dict[str, Base])
async def not_model(key: str = "k"):
    return {key: {"a": "x"}} if key == "bad" else {key: Extended()}


@router.get("/304", status_code=304)
def not_modified(response: Response):
    response.headers["etag"] = '"1"'
    return {"never": 1}


@router.get("/nested-status", status_code=201)
async def nested_status(response: Response, to: int = 204):
    response.status_code = to if to in (200, 204, 205, 304, 599) else 500
    return {"sent": "sometimes"}


inner = APIRouter(prefix="/{outer}", dependencies=[Depends(refused)], responses={418: {"description": "teapot"}})


@inner.get("/in/{number}")
async def inner_number(outer: int, number: int = Path(ge=0)):
    return [outer, number]


middle = APIRouter()
middle.include_router(inner, prefix="/m", tags=["m"], dependencies=[Depends(sets)])
router.include_router(middle, prefix="/outer")


FAILS = {"GET /sets/raised"}
