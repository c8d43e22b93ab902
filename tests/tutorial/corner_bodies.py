"""Corners of bodies: unions told apart, generic, recursive and hidden models, serializers and aliases."""

import enum
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from fastapi import APIRouter, Body, Header, Query, Request
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    NonNegativeInt,
    PlainSerializer,
    RootModel,
    SecretStr,
    StrictInt,
    Tag,
    WithJsonSchema,
    computed_field,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

router = APIRouter()
T = TypeVar("T")


class Mood(enum.IntEnum):
    low = 1
    high = 2


class Flag(enum.Flag):
    a = 1
    b = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: NonNegativeInt = 9


class Dog(BaseModel):
    kind: Literal["dog", "wolf"]
    barks: bool = Field(default=True, alias="isLoud")


def _kind_of(value: Any) -> str | None:
    return value.get("k") if isinstance(value, dict) else getattr(value, "k", None)


class Circle(BaseModel):
    k: str = "c"
    r: float


class Square(BaseModel):
    k: str = "s"
    side: Decimal


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]
Shape = Annotated[Annotated[Circle, Tag("c")] | Annotated[Square, Tag("s")], Discriminator(_kind_of)]


@router.post("/animals")
async def animals(animal: Annotated[Cat | Dog, Body(discriminator="kind")]) -> Animal:
    return animal


@router.post("/zoo")
def zoo(animals: list[Animal], shapes: Annotated[dict[str, Shape], Body()]):
    return {"animals": animals, "shapes": shapes}


class Node(BaseModel):
    name: str
    children: "list[Node]" = []
    parent: "Node | None" = Field(default=None, exclude=True)


class Page(BaseModel, Generic[T]):
    items: list[T]
    total: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean(self) -> float:
        return self.total / len(self.items)


class Numbered(RootModel[dict[int, list[T]]], Generic[T]):
    pass


@router.post("/nodes", response_model_exclude_defaults=True)
async def nodes(node: Node) -> Node:
    return node


@router.post("/pages", response_model=Page[Animal], response_model_exclude={"items": {0: {"lives"}}})
async def pages(page: Page[Animal]):
    return page


@router.post("/numbered")
def numbered(numbered: Numbered[Mood]) -> Numbered[int]:
    return numbered  # type: ignore[return-value]


class Hidden(BaseModel):
    word: SecretStr
    raw: bytes = b"\xc3\xa9"
    lasts: timedelta = timedelta(days=1, microseconds=1)
    path: PurePosixPath = PurePosixPath("/a")
    flags: Flag = Flag.a
    shown: Annotated[int, PlainSerializer(lambda value: f"<{value}>", return_type=str)] = 1
    odd: Annotated[Any, WithJsonSchema({"type": "string"})] = None

    @field_serializer("path")
    def path_as_list(self, path: PurePosixPath) -> list[str]:
        return list(path.parts)


class Bytes64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_timedelta="float")

    raw: bytes
    lasts: timedelta = timedelta(seconds=90)


class Finite(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    number: float = float("nan")
    numbers: list[float] = [float("inf"), -0.0, 1e22, 5e-324]


class Turned(BaseModel):
    a: int = 1
    b: str = "b"

    @model_serializer(mode="wrap")
    def turned(self, handler: Callable[[Any], Any], info: Any) -> Any:
        return {"mode": info.mode, **handler(self)}


@router.post("/hidden")
async def hidden(hidden: Hidden) -> Hidden:
    return hidden


@router.post("/hidden/untyped")
def hidden_untyped(hidden: Hidden):
    return {"hidden": hidden, "word": hidden.word.get_secret_value()}


@router.post("/base64")
async def base64(data: Bytes64) -> Bytes64:
    return data


@router.get("/finite")
async def finite() -> Finite:
    return Finite()


@router.post("/finite")
def finite_back(finite: Finite):
    return finite.model_dump()


@router.post("/turned")
async def turned(turned: Turned | None = None) -> Turned:
    return turned or Turned(a=2)


class Chosen(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    first: int = Field(validation_alias=AliasChoices("one", AliasPath("list", 0)), serialization_alias="premier")
    second: StrictInt | None = Field(default=None, alias="deux")


@router.post("/chosen")
def chosen(chosen: Chosen) -> Chosen:
    return chosen


@router.post("/chosen/names", response_model_by_alias=False)
async def chosen_names(chosen: Chosen) -> Chosen:
    return chosen


@router.post("/chosen/untyped", response_model=None)
async def chosen_untyped(chosen: Annotated[Chosen, Body(embed=True)]) -> Any:
    return chosen


class Option(TypedDict, total=False):
    name: str
    at: date


class Pair(NamedTuple):
    left: int
    right: str = "r"


@router.post("/typed-dict")
async def typed_dict(option: Option, pair: Annotated[Pair | None, Body()] = None) -> tuple[Option, Pair | None]:
    return option, pair


@router.post("/mixed/{number}")
def mixed(
    number: int,
    node: Node,
    flag: Annotated[bool, Body()],
    request: Request,
    count: Annotated[int | None, Body(alias="theCount", ge=0)] = None,
    q: str = Query(default="q"),
    x_word: str | None = Header(default=None),
):
    return [number, node, flag, count, q, x_word, request.url.query]


@router.post("/json-body")
async def json_body(data: Json[list[int]] = Body()):
    return data


@router.post("/either")
async def either(value: Cat | list[Dog] | int | None = Body(default=None)):
    return {"value": value, "kind": type(value).__name__}


@router.post("/media", response_model=Cat)
def media(cat: Annotated[Cat, Body(media_type="application/vnd.cat+json")]):
    return cat


@router.delete("/delete")
async def delete(node: Node | None = None):
    return node


SAMPLES = {
    "POST /animals": [{"kind": "wolf", "isLoud": "no"}, {"kind": "cow"}, {"lives": 1}, {"kind": "cat", "lives": -1}],
    "POST /zoo": [
        {"animals": [{"kind": "cat"}], "shapes": {"a": {"k": "c", "r": 1}, "b": {"k": "s", "side": "2.50"}}},
        {"animals": [{"kind": "dog"}], "shapes": {"a": {"k": "t"}}},
    ],
    "POST /nodes": [{"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}], "parent": {"name": "p"}}],
    "POST /pages": [{"items": [{"kind": "cat", "lives": "3"}, {"kind": "dog"}], "total": 3}, {"items": [], "total": 1}],
    "POST /numbered": [{"1": [1, 2], "02": ["1"]}, {"x": [3]}, {"1": [9]}],
    "POST /base64": [{"raw": "aGVsbG8=", "lasts": 1.5}, {"raw": "_-8=", "lasts": "P1D"}],
    "POST /finite": [
        {"number": 2, "numbers": [1.5]},
        {"number": "NaN", "numbers": [1, -0.0]},
        {"numbers": ["-Infinity", 1e400]},
    ],
    "POST /chosen": [{"one": 1, "deux": 2}, {"list": ["3"], "second": 4}, {"first": 5, "deux": "6"}],
    "POST /typed-dict": [{"option": {"at": "2024-02-29"}, "pair": [1]}, {"option": {}, "pair": {"left": 1}}],
    "POST /either": [{"kind": "cat"}, [{"kind": "dog"}], 5, "5", None, [1]],
}
