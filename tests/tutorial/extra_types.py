"""Types beyond JSON's own, in parameters, bodies and responses."""

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from pathlib import PurePosixPath
from re import Pattern
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Cookie, Header
from pydantic import (
    UUID4,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    Json,
    PastDate,
    SecretStr,
    StrictInt,
    StrictStr,
)

router = APIRouter()


class Colour(Enum):
    red = "RED"
    number = 7


class Everything(BaseModel):
    which: UUID
    moment: datetime
    day: date = date(2024, 2, 29)
    hour: time | None = None
    length: timedelta = timedelta(days=1, seconds=1.5)
    amount: Decimal = Decimal("1.10")
    tags: frozenset[int] = frozenset()
    data: bytes = b"data"
    colour: Colour = Colour.red
    pattern: Pattern[str] | None = None
    address: IPv4Address | None = None
    network: IPv6Network | None = None
    path: PurePosixPath | None = None
    size: ByteSize = ByteSize(1024)
    url: AnyUrl | None = None
    number: float = 0.1
    big: int = 2**70


class Encoded(BaseModel):
    model_config = ConfigDict(
        ser_json_timedelta="float", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
    )

    data: bytes
    length: timedelta = timedelta(0)
    number: float = 1.0
    aware: AwareDatetime | None = None
    past: PastDate | None = None
    secret: SecretStr = SecretStr("s")
    base: Base64Bytes | None = None
    inner: Json[dict[str, int]] | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    number: int
    ratio: float = 0.0
    moment: datetime | None = None
    day: date | None = None
    length: timedelta | None = None
    which: UUID | None = None
    pair: tuple[int, int] | None = None
    tags: set[str] | None = None
    data: bytes | None = None
    amount: Decimal | None = None
    colour: Colour | None = None
    flag: bool = False


class HalfStrict(BaseModel):
    number: StrictInt
    text: StrictStr
    loose: int = 0
    four: UUID4 | None = None
    moment: Annotated[datetime | None, Field(strict=True)] = None


@router.put("/items/{item_id}")
async def update(
    item_id: UUID,
    start: Annotated[datetime, Body()],
    end: Annotated[datetime, Body()],
    process_after: Annotated[timedelta, Body()],
    repeat_at: Annotated[time | None, Body()] = None,
):
    start_process = start + process_after
    return {
        "item_id": item_id,
        "start": start,
        "end": end,
        "process_after": process_after,
        "repeat_at": repeat_at,
        "start_process": start_process,
    }


@router.post("/everything")
async def everything(body: Everything):
    return body


@router.post("/everything/model")
def everything_model(body: Everything) -> Everything:
    return body


@router.post("/everything/dict")
async def everything_dict(body: Everything):
    return body.model_dump()


@router.post("/encoded")
async def encoded(body: Encoded) -> Encoded:
    return body


@router.post("/strict")
async def strict(body: Strict):
    return body


@router.post("/half-strict")
async def half_strict(body: HalfStrict) -> HalfStrict:
    return body


@router.get("/when/{moment}")
async def when(moment: datetime, day: date | None = None, hour: time | None = None, length: timedelta | None = None):
    return {"moment": moment, "day": day, "hour": hour, "length": length}


@router.get("/given")
def given(
    which: UUID | None = None,
    amount: Decimal = Decimal("0"),
    since: Annotated[datetime | None, Header()] = None,
    session: Annotated[UUID | None, Cookie()] = None,
    colour: Colour = Colour.red,
    data: bytes = b"",
    tags: Annotated[set[int], Header()] = set(),
):
    return {
        "which": which,
        "amount": amount,
        "since": since,
        "session": session,
        "colour": colour,
        "data": data,
        "tags": sorted(tags),
    }


@router.get("/out")
async def out():
    return {**_values(), "path": PurePosixPath("/a/b")}


@router.get("/out/any")
async def out_any() -> Any:
    return _values()


@router.get("/out/any/unknown")
def out_unknown() -> Any:
    return {"path": PurePosixPath("/a/b")}


def _values() -> dict[Any, Any]:
    zone = timezone(timedelta(hours=5, minutes=30))
    return {
        "moment": datetime(2024, 2, 29, 12, 30, 15, 123, zone),
        "naive": datetime(1, 1, 1),
        "day": date(9999, 12, 31),
        "hour": time(1, 2, 3, 4),
        "length": timedelta(days=-1, microseconds=5),
        "amounts": [Decimal("1.10"), Decimal("1E+3"), Decimal("100"), Decimal("-0")],
        "which": UUID(int=1),
        "tags": {3},
        "frozen": frozenset({"x"}),
        "data": "é".encode(),
        "colour": Colour.number,
        "address": IPv4Address("10.0.0.1"),
        "numbers": [0.1, 1e16, 1e-7, 1.0, -0.0, 123456789.123456789, 2**70],
        1: "a number as a key",
        None: "none as a key",
        False: "false as a key",
        "text": "\u2028 </script> \x00 é \U0001f600",
        "generator": (number for number in range(3)),
        "tuple": (1, (2, ())),
        "none": None,
    }


@router.get("/out/decimals")
async def out_decimals() -> list[Decimal]:
    return [Decimal("1.10"), Decimal("1E+3"), Decimal("1E-10"), Decimal("-0")]


@router.get("/out/numbers")
async def out_numbers() -> list[float | int]:
    return [0.1, 1e16, 1e-7, 1.0, -0.0, 123456789.123456789, 2**70, 1e22, 5e-324, 1.7976931348623157e308]


@router.get("/out/not-finite")
async def out_not_finite() -> list[float]:
    return [float("nan"), float("inf"), float("-inf")]


@router.get("/out/not-finite/untyped")
async def out_not_finite_untyped():
    return {"nan": float("nan")}


@router.get("/out/texts")
async def out_texts() -> dict[str, str]:
    return {"é": "\u2028 </script> \x00 \x7f é \U0001f600", "quote": '"\\/\b\f\n\r\t', "empty": ""}


@router.get("/out/surrogate")
async def out_surrogate() -> str:
    return "\ud800"


@router.get("/out/surrogate/untyped")
def out_surrogate_untyped():
    return {"text": "\ud800"}


@router.get("/out/bad-bytes")
async def out_bad_bytes():
    return {"data": b"\xff"}


FAILS = {
    "GET /out/any/unknown",
    "GET /out/not-finite/untyped",
    "GET /out/surrogate",
    "GET /out/surrogate/untyped",
    "GET /out/bad-bytes",
}

_WHICH, _MOMENT = "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11", "2024-02-29T12:30:00Z"
_EVERYTHING = {
    "which": _WHICH, "moment": _MOMENT, "day": "2024-02-29", "hour": "12:30:15.5", "length": "P1DT2H", "amount": "1.50",
    "tags": [1, 1, 2], "data": "é", "colour": "RED", "pattern": "^a+$", "address": "10.0.0.1", "network": "fe80::/64",
    "path": "/a/../b", "size": "1 MiB", "url": "HTTP://Example.COM:80/é", "number": 1e22, "big": 2**80,
}  # fmt: skip
_STRICT = {
    "number": 1, "ratio": 1, "moment": _MOMENT, "day": "2024-02-29", "length": "P1D", "which": _WHICH, "pair": [1, 2],
    "tags": ["a"], "data": "x", "amount": "1.5", "colour": "RED", "flag": True,
}  # fmt: skip
_ENCODED = {
    "data": "aGVsbG8=", "length": 1.5, "number": "inf", "aware": _MOMENT, "secret": "x", "base": "YUdWc2JHOD0=",
    "inner": '{"a": 1}',
}  # fmt: skip
SAMPLES = {
    "POST /everything": [
        _EVERYTHING,
        {"which": _WHICH, "moment": 1709209800, "length": 3600.5, "amount": 1.1, "colour": 7},
    ],
    "POST /everything/model": [_EVERYTHING],
    "POST /everything/dict": [_EVERYTHING],
    "POST /encoded": [_ENCODED],
    "POST /strict": [
        _STRICT,
        {"number": 1, "ratio": 1},
        {"number": 1, "pair": [1, 2]},
        {"number": 1, "day": "2024-02-29"},
        {"number": 1.0},
    ],
    "POST /half-strict": [
        {"number": 1, "text": "x", "loose": "2", "four": _WHICH},
        {"number": 1, "text": "x", "moment": _MOMENT},
    ],
    "PUT /items/{item_id}": [
        {"start": _MOMENT, "end": "2024-02-29", "process_after": 300, "repeat_at": "14:23:55.003"},
    ],
}
