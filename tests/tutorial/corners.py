"""Corners of parameters and paths: forms that are rarely written together, or look like something else."""

import contextlib
import enum
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union
from uuid import UUID

from fastapi import APIRouter, Cookie, Header, Path, Query, Request, Response
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    SecretBytes,
    SecretStr,
    StringConstraints,
    model_validator,
)
from typing_extensions import TypeAliasType

router = APIRouter()
T = TypeVar("T")


Doubled = Annotated[int, AfterValidator(lambda value: value * 2)]
Trimmed = Annotated[str, BeforeValidator(lambda value: value.strip() if isinstance(value, str) else value)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=3, to_upper=True)]
UserId = NewType("UserId", int)
Numbers = TypeAliasType("Numbers", list[int])


class Mood(enum.IntEnum):
    low = 1
    high = 2


class Side(enum.StrEnum):
    left = "left"
    right = "RIGHT"


class Flag(enum.Flag):
    a = 1
    b = 2


@router.get("/annotated/{number}")
async def annotated(
    number: Annotated[Annotated[int, Path(gt=0)], Path(lt=100)],
    doubled: Annotated[Doubled, Query()] = 3,
    trimmed: Trimmed = " default stays ",
    short: Annotated[Short | None, Query(alias="s")] = None,
    user: UserId = UserId(7),
):
    return {"number": number, "doubled": doubled, "trimmed": trimmed, "short": short, "user": user}


@router.get("/aliases")
async def aliases(
    one: Annotated[str, Query(validation_alias="un")] = "1",
    two: Annotated[str, Query(alias="deux", validation_alias="dos")] = "2",
    three: Annotated[int, Query(serialization_alias="tres")] = 3,
    four: Annotated[list[int], Query(alias="quatre[]")] = [],
):
    return {"one": one, "two": two, "three": three, "four": four}


@router.get("/choices")
def choices(one: Annotated[str, Query(validation_alias=AliasChoices("a", "b"))] = "1"):
    return one


@router.get("/enums")
async def enums(mood: Mood = Mood.low, side: Side | None = None, sides: Annotated[list[Side], Query()] = []):
    return {"mood": mood, "side": side, "sides": sides, "name": mood.name}


@router.get("/times")
async def times(
    day: date | None = None,
    at: time | None = None,
    lasts: timedelta = timedelta(hours=1),
    moment: datetime | None = None,
    cost: Decimal = Decimal("0.10"),
    raw: bytes = b"raw",
):
    return {"day": day, "at": at, "lasts": lasts, "moment": moment, "cost": cost, "raw": raw}


@router.get("/decimals", response_model=dict[str, Decimal | float])
def decimals(
    cost: Annotated[Decimal, Query(max_digits=5, decimal_places=2)] = Decimal("1.50"),
    number: Annotated[float, Query(allow_inf_nan=False)] = 0.5,
    any_number: float = 0.1,
):
    return {"cost": cost, "number": number, "any": any_number}


@router.get("/json-texts")
async def json_texts(numbers: Annotated[Json[list[int]], Query()] = "[1]", anything: Json[Any] = "null"):
    return {"numbers": numbers, "anything": anything}


@router.get("/unions")
def unions(
    value: int | float | bool | str = 0,
    which: UUID | Literal["any"] = "any",
    several: Annotated[list[int | str] | None, Query()] = None,
    old: Optional[Union[date, int]] = None,  # noqa: UP007, UP045
):
    return {"value": value, "which": which, "several": several, "old": old, "kind": type(value).__name__}


@router.get("/secret")
async def secret(word: Annotated[SecretStr, Query()], raw: SecretBytes = SecretBytes(b"x")):
    return {"word": word, "raw": raw, "really": word.get_secret_value()}


@router.get("/nothing/{word}")
def nothing(word: str | None, none: None = None):
    return {"word": word, "none": none}


@router.get("/sequences")
async def sequences(
    many: Annotated[Sequence[int], Query(max_length=2)] = (1,),
    unique: Annotated[set[str], Query()] = set(),
    fixed: Annotated[tuple[int, str], Query()] = (1, "a"),
    open_end: Annotated[tuple[float, ...] | None, Query()] = None,
    aliased: Annotated[Numbers, Query()] = [],
):
    return {"many": many, "unique": sorted(unique), "fixed": fixed, "open": open_end, "aliased": aliased}


@router.get("/late")
def late(made: Annotated[list[int], Query(default_factory=list)], word: str = Query("w", min_length=1, pattern="^w")):
    made.append(1)
    return {"made": made, "word": word}


@router.get("/required-none")
async def required_none(word: Annotated[str | None, Query()], header: Annotated[int | None, Header()]):
    return {"word": word, "header": header}


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    limit: Annotated[int, Field(le=10, alias="most")] = 5
    tags: list[str] = []
    nested: Json[dict[str, int]] | None = None
    side: Side = Side.left
    since: datetime | None = None


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", str_strip_whitespace=True)

    limit: int
    word: str = "w"

    @model_validator(mode="after")
    def agrees(self):
        if self.limit == 13:
            raise ValueError("not thirteen")
        return self


@router.get("/model/forbidding")
async def model_forbidding(filters: Annotated[Filters, Query()]):
    return filters


@router.get("/model/loose")
def model_loose(loose: Annotated[Loose, Query()], page: int = 1):
    return {"loose": loose, "page": page}


@router.get("/model/all")
async def model_all(
    query: Annotated[Loose, Query()], header: Annotated[Loose, Header()], cookie: Annotated[Loose, Cookie()]
):
    return {"query": query, "header": header, "cookie": cookie}


class Where(BaseModel):
    number: int
    word: str


@router.get("/model/path/{number}/{word}")
def model_path(where: Annotated[Where, Path()]):
    return where


@router.get("/headers")
async def headers(
    x_count: Annotated[int, Header(ge=0)] = 0,
    x_tags: Annotated[list[str] | None, Header()] = None,
    under_score: Annotated[str | None, Header(convert_underscores=False)] = None,
    odd: Annotated[str | None, Header(alias="X-ODD")] = None,
    since: Annotated[datetime | None, Header(alias="if-modified-since")] = None,
    mood: Annotated[Mood | None, Cookie()] = None,
    pi: Annotated[Decimal | None, Cookie(alias="Pi")] = None,
):
    return [x_count, x_tags, under_score, odd, since, mood, pi]


@router.get("/order/{first}")
async def order_first(first: int):
    return {"first": first}


@router.get("/order/fixed")
async def order_fixed():
    return {"never": "the parameter takes it"}


@router.post("/order/{other}")
def order_other(other: str):
    return {"other": other}


@router.get("/order/{rest:path}")
async def order_rest(rest: str, request: Request):
    return {"rest": rest, "params": request.path_params}


@router.get("/files/{folder}/{rest:path}")
def files(folder: str, rest: str):
    return [folder, rest]


@router.get("/slash/{n:int}/")
async def slash(n: int):
    return n


@router.head("/heads")
@router.get("/heads")
async def heads(response: Response):
    response.headers["x-head"] = "1"
    return {"heads": True}


@router.api_route("/odd", methods=["PROPFIND"], include_in_schema=False)
@router.api_route("/odd", methods=["Patch"])
def odd(request: Request):
    return request.method


@router.get("/literal/a.b+c(d)")
async def literal():
    return "literal"


@router.get("/urls/{name}", name="urls")
def urls(name: str, request: Request):
    return {
        "url": str(request.url_for("urls", name=name)),
        "base": str(request.base_url),
        "root": request.scope["root_path"],
    }


inner = APIRouter(prefix="/{outer}", responses={418: {"description": "teapot"}})


@inner.get("/in/{number}")
async def inner_number(outer: Mood, number: int = Path(ge=0)):
    return [outer, number]


middle = APIRouter()
middle.include_router(inner, prefix="/m", tags=["m"])
router.include_router(middle, prefix="/outer")

with contextlib.suppress(Exception):
    router.include_router(inner, prefix="/x{outer_id}")


# A parameter that stands before them takes what they would; the oldest FastAPI takes no model beside other parameters.
FAILS = {"GET /order/fixed", "GET /order/{rest}", "GET /model/loose"}

UNSAID = ["PROPFIND /odd"]
