"""Models of every kind in and out: validators, aliases, configuration, computed and private fields, inheritance."""

import dataclasses
import re
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, Literal, NotRequired, TypeVar
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    WrapValidator,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

router = APIRouter()
T = TypeVar("T")


class Validated(BaseModel):
    name: str
    size: int = 1
    words: list[str] = []

    @field_validator("name")
    @classmethod
    def no_spaces(cls, value: str) -> str:
        if " " in value:
            raise ValueError("must not contain a space")
        return value.title()

    @field_validator("words", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def fits(self) -> "Validated":
        assert self.size != len(self.name), "the size is the length"
        return self


class Before(BaseModel):
    a: int
    b: Any = None
    mode: str = "unknown"

    @model_validator(mode="before")
    @classmethod
    def look(cls, data: Any, info: Any) -> Any:
        """What is seen before validation differs by the way in: text of JSON, or Python's objects."""
        if isinstance(data, dict):
            return {**data, "mode": f"{info.mode} {type(data.get('a')).__name__} {type(data.get('b')).__name__}"}
        return data


class Wrapped(BaseModel):
    value: Annotated[
        int, WrapValidator(lambda value, handler, info: handler(value) * 2 if info.mode == "python" else -1)
    ]
    kind: Annotated[str, PlainValidator(lambda value: type(value).__name__)] = "none"
    late: Annotated[Any, BeforeValidator(lambda value: value), AfterValidator(lambda value: value)] = None
    out: Annotated[float, PlainSerializer(lambda value: f"{value:.3f}", return_type=str)] = 1.0


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    first_name: str
    last_name: str | None = None
    home_page_url: str = Field("none", alias="HOME")


class Choices(BaseModel):
    name: str = Field(validation_alias=AliasChoices("name", "title", AliasPath("names", 0)))
    deep: int = Field(0, validation_alias=AliasPath("a", "b", 1))


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, str_to_lower=True, str_max_length=12)

    name: str
    tags: dict[str, str] = {}


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    __pydantic_extra__: dict[str, int]


class Ignoring(BaseModel):
    model_config = ConfigDict(use_enum_values=True, validate_default=True, revalidate_instances="always")

    kinds: ClassVar[int] = 3
    name: str = "n"
    level: Literal[1, "two"] = 1
    _seen: int = PrivateAttr(5)

    @computed_field(alias="howLong")  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.name) + self._seen


class Parent(BaseModel):
    name: str
    child: "Child | None" = None


class Child(Parent):
    age: int = 0


class Wide(BaseModel, Generic[T]):
    data: T
    meta: dict[str, T] = {}


class Shade(Enum):
    dark = "dark"
    light = 2


class Smart(BaseModel):
    value: int | float | bool | str | datetime | UUID | Decimal | Shade | list[int] | dict[str, int] | None
    other: bool | int = False


@pydantic_dataclass
class Dated:
    moment: datetime
    notes: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes.append("made")


@dataclasses.dataclass
class Line:
    text: str
    inner: "Line | None" = None
    count: Annotated[int, Field(gt=0)] = 1


class Form(TypedDict):
    name: str
    size: NotRequired[Annotated[int, Field(ge=0)]]


class Patterned(BaseModel):
    code: str = Field(pattern=r"^\d{3}-[a-z]+$")
    exact: Annotated[str, AfterValidator(lambda value: re.sub("a", "b", value))] = "aaa"
    price: Annotated[Decimal, Field(max_digits=6, decimal_places=2, gt=0)] = Decimal("1.00")
    ratio: float = Field(0.0, allow_inf_nan=False)
    unique: set[int] = Field(set(), max_length=3)
    either: Annotated[int | str, Field(union_mode="left_to_right")] = 0


@router.post("/validated")
async def validated(body: Validated):
    return body


@router.post("/before")
async def before(body: Before):
    return body


@router.post("/wrapped")
def wrapped(body: Wrapped) -> Wrapped:
    return body


@router.post("/camel")
async def camel(body: Camel) -> Camel:
    return body


@router.post("/camel/names", response_model_by_alias=False)
async def camel_names(body: Camel) -> Camel:
    return body


@router.post("/choices")
async def choices(body: Choices):
    return body


@router.post("/forbidding")
async def forbidding(body: Forbidding) -> Forbidding:
    return body


@router.post("/allowing")
async def allowing(body: Allowing) -> Allowing:
    return body


@router.post("/ignoring")
async def ignoring(body: Ignoring) -> Ignoring:
    return body


@router.post("/parents")
async def parents(body: Parent) -> Parent:
    return Child(**body.model_dump(), age=3) if body.child is None else body


@router.post("/wide")
async def wide(body: Wide[int | None]) -> Wide[int | None]:
    return body


@router.post("/smart")
async def smart(body: Smart):
    return {"value": body.value, "type": type(body.value).__name__, "other": body.other}


@router.post("/dated")
async def dated(body: Dated) -> Dated:
    return body


@router.post("/lines")
def lines(body: list[Line]) -> list[Line]:
    return body


@router.post("/form")
async def form(body: Form):
    return body


@router.post("/patterned")
async def patterned(body: Patterned) -> Patterned:
    return body


@router.post("/checked-list")
async def checked_list(numbers: Annotated[list[Annotated[int, Field(ge=0)]], Body(min_length=1, max_length=4)]):
    return numbers


@router.post("/unset", response_model=Smart, response_model_exclude_unset=True)
async def unset(body: Smart):
    return body


_WHICH = "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11"

SAMPLES = {
    "POST /validated": [{"name": "lamp", "size": 9, "words": "a,b"}, {"name": "a b"}, {"name": "lamp", "size": 4}],
    "POST /before": [{"a": 1, "b": 1.0}, {"a": "1", "b": [1]}, {"a": 1.0, "b": None}],
    "POST /wrapped": [{"value": 2, "kind": 1.5, "late": {"x": 1}, "out": "2.5"}],
    "POST /camel": [{"firstName": "f", "last_name": "l", "HOME": "h"}],
    "POST /choices": [{"title": "t", "a": {"b": [1, 2]}}, {"names": ["n"]}, {}],
    "POST /forbidding": [{"name": "  LAMP ", "tags": {"A": "B"}}, {"name": "x" * 13}],
    "POST /allowing": [{"name": "n", "z": 1, "a": "2"}, {"name": "n", "z": "x"}],
    "POST /parents": [{"name": "p", "child": {"name": "c", "age": 5, "child": {"name": "d"}}}],
    "POST /smart": [
        {"value": value}
        for value in (1, 1.0, 1.5, True, "1", "x", None, "2024-02-29T12:30:00", _WHICH, 2, "dark", [1], {"a": 1}, 2**70)
    ],
    "POST /dated": [{"moment": "2024-02-29T12:30:00Z", "notes": ["n"]}],
    "POST /lines": [[{"text": "t", "inner": {"text": "i", "count": 2}}]],
    "POST /patterned": [{"code": "123-abc", "price": "12.50", "unique": [1, 1, 2], "either": "5"}],
    "POST /unset": [{"value": 1}, {"value": 1, "other": 1}],
}  # fmt: skip
