"""Query parameters: defaults, optional, lists, aliases, constraints, models."""

import contextlib
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json

router = APIRouter()


class Order(str, Enum):
    up = "up"
    down = "down"


@router.get("/items")
async def read_items(skip: int = 0, limit: int = 10):
    return {"skip": skip, "limit": limit}


@router.get("/needed")
async def read_needed(needy: str, number: int | None = None, short: bool = False):
    return {"needy": needy, "number": number, "short": short}


@router.get("/plain")
def read_plain(q: str | None = None):
    return {"q": q}


@router.get("/untyped")
async def read_untyped(q=None, other="x"):
    return {"q": q, "other": other}


@router.get("/texts")
async def read_texts(q: Annotated[str | None, Query(min_length=3, max_length=8, pattern="^[a-z ]*$")] = None):
    return {"q": q}


@router.get("/list")
async def read_list(q: Annotated[list[str] | None, Query()] = None):
    return {"q": q}


@router.get("/numbers")
async def read_numbers(
    q: Annotated[list[int], Query(min_length=1, max_length=3)], tags: Annotated[set[str], Query()] = set()
):
    return {"q": q, "tags": sorted(tags)}


@router.get("/default-list")
async def read_default_list(q: Annotated[list[str], Query()] = ["foo", "bar"]):
    q.append("end")
    return {"q": q}


@router.get("/bare-list")
async def read_bare_list(q: Annotated[list, Query()] = []):
    return {"q": q}


@router.get("/tuple")
async def read_tuple(q: Annotated[tuple[int, str], Query()]):
    return {"q": q}


@router.get("/frozen")
async def read_frozen(q: Annotated[frozenset[int], Query()] = frozenset()):
    return {"q": sorted(q)}


@router.get("/aliased")
async def read_aliased(
    query: Annotated[
        str | None, Query(alias="item-query", title="Query", description="Of items", deprecated=True)
    ] = None,
    hidden: Annotated[str | None, Query(include_in_schema=False)] = None,
    chosen: Annotated[int, Query(validation_alias="selected", serialization_alias="out")] = 7,
):
    return {"query": query, "hidden": hidden, "chosen": chosen}


@router.get("/old-style")
def read_old(q: str = Query("fixed", min_length=3), n: int = Query(..., gt=0), many: list[int] = Query([])):
    return {"q": q, "n": n, "many": many}


@router.get("/types")
async def read_types(
    a: float = 1.5,
    b: Decimal = Decimal("1.10"),
    c: UUID | None = None,
    d: datetime | None = None,
    e: date | None = None,
    f: timedelta | None = None,
    g: Order = Order.up,
    h: bool | None = None,
    i: bytes = b"x",
):
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "h": h, "i": i}


@router.get("/unions")
async def read_unions(
    a: int | str = 0, b: float | bool | None = None, c: int | list[int] | None = Query(None), d: Literal["x", 1] = "x"
):
    return {"a": [a, type(a).__name__], "b": [b, type(b).__name__], "c": c, "d": d}


@router.get("/constraints")
async def read_constraints(
    a: Annotated[int, Query(ge=-5, lt=5)] = 0,
    b: Annotated[float, Query(gt=0, le=1, allow_inf_nan=False)] = 0.5,
    c: Annotated[Decimal | None, Query(max_digits=5, decimal_places=2)] = None,
    d: Annotated[int, Query(strict=True)] = 0,
):
    return {"a": a, "b": b, "c": c, "d": d}


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


def worded(value: Any) -> Any:
    assert value != "bad", "no bad words"
    return {"one": 1, "two": 2}.get(value, value)


@router.get("/validators")
async def read_validators(
    a: Annotated[int, AfterValidator(even)] = 0,
    b: Annotated[int, BeforeValidator(worded)] = 0,
    c: Annotated[str, Query(), AfterValidator(str.upper)] = "c",
):
    return {"a": a, "b": b, "c": c}


# The oldest FastAPI refuses it.
with contextlib.suppress(AssertionError):

    @router.get("/json")
    async def read_json(data: Annotated[Json[list[int]] | None, Query()] = None):
        return {"data": data}


class Filter(BaseModel):
    limit: int = Field(100, gt=0, le=100)
    offset: int = Field(0, ge=0)
    order_by: Literal["created_at", "updated_at"] = "created_at"
    tags: list[str] = []
    since: datetime | None = None


class Exact(BaseModel):
    model_config = ConfigDict(extra="forbid")

    page_size: int = Field(alias="pageSize", default=10)
    names: list[str] = Field(default_factory=list)
    required: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    q: str = ""


@router.get("/model")
async def read_model(filter_query: Annotated[Filter, Query()]):
    return filter_query


@router.get("/exact-model")
def read_exact_model(exact: Annotated[Exact, Query()]):
    return exact


@router.get("/open-model")
async def read_open_model(model: Annotated[Open, Query()]):
    return model


@router.get("/late-default")
async def read_late(
    when: Annotated[list[int], Query(default_factory=lambda: [1, 2])],
    bad: Annotated[int, Query(validate_default=True)] = "3",
):  # type: ignore[assignment]
    return {"when": when, "bad": bad}
