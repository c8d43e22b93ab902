"""Response models: filtering, include and exclude, unset, defaults, none, aliases, status, types without a model."""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, EmailStr, Field, computed_field, field_serializer, model_serializer
from typing_extensions import TypedDict

router = APIRouter()


class Base(BaseModel):
    username: str
    email: EmailStr | None = None


class UserIn(Base):
    password: str


class Item(BaseModel):
    name: str
    description: str | None = None
    price: float = 10.5
    tags: list[str] = []
    tax: float = 10.5


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    first_name: str = Field(alias="firstName")
    count: int = Field(0, serialization_alias="howMany", validation_alias="counted")


class Computed(BaseModel):
    width: float
    height: float = 2.0

    @computed_field
    @property
    def area(self) -> float:
        return self.width * self.height

    @field_serializer("width")
    def show_width(self, value: float) -> str:
        return f"{value:.2f} m"


class Whole(BaseModel):
    inner: Computed
    secret: str = Field("hidden", exclude=True)

    @model_serializer(mode="wrap")
    def show(self, handler: Any) -> dict[str, Any]:
        return {"wrapped": handler(self)}


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Film(TypedDict):
    title: str
    year: int


class Loose(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="allow")

    name: str


class Record:
    def __init__(self) -> None:
        self.name = "record"
        self.other = 1


ITEMS: dict[str, dict[str, Any]] = {
    "foo": {"name": "Foo", "price": 50.2},
    "bar": {"name": "Bar", "description": "The bartenders", "price": 62, "tax": 20.2},
    "baz": {"name": "Baz", "description": None, "price": 50.2, "tax": 10.5, "tags": []},
}


@router.post("/users", response_model=Base)
async def create_user(user: UserIn) -> Any:
    return user


@router.post("/users/annotated")
async def create_user_annotated(user: UserIn) -> Base:
    return user


@router.post("/users/unfiltered", response_model=None)
def create_user_unfiltered(user: UserIn) -> Base:
    return user


@router.get("/items/{item_id}", response_model=Item, response_model_exclude_unset=True)
async def read_item(item_id: str):
    return ITEMS.get(item_id, ITEMS["foo"])


@router.get("/items/{item_id}/defaults", response_model=Item, response_model_exclude_defaults=True)
def read_item_defaults(item_id: str):
    return ITEMS.get(item_id, ITEMS["baz"])


@router.get("/items/{item_id}/none", response_model=Item, response_model_exclude_none=True)
async def read_item_none(item_id: str):
    return Item(**ITEMS.get(item_id, ITEMS["baz"]))


@router.get("/items/{item_id}/name", response_model=Item, response_model_include={"name", "description"})
async def read_item_name(item_id: str):
    return ITEMS.get(item_id, ITEMS["bar"])


@router.get("/items/{item_id}/public", response_model=Item, response_model_exclude=["tax", "tags"])
async def read_item_public(item_id: str):
    return ITEMS.get(item_id, ITEMS["bar"])


@router.get("/items", response_model=list[Item], response_model_exclude={"__all__": {"tax"}})
async def read_items():
    return list(ITEMS.values())


@router.get("/by-name", response_model=dict[str, Item])
def read_by_name():
    return ITEMS


@router.get("/aliased", response_model=Aliased)
async def read_aliased():
    return Aliased(first_name="é")


@router.get("/aliased/names", response_model=Aliased, response_model_by_alias=False)
async def read_aliased_names():
    return {"firstName": "x", "counted": 3}


@router.get("/aliased/untyped")
async def read_aliased_untyped():
    return Aliased(first_name="x")


@router.get("/computed", response_model=Computed)
async def read_computed(width: float = 1.5):
    return {"width": width}


@router.get("/computed/untyped")
async def read_computed_untyped(width: float = 1.5):
    return Computed(width=width)


@router.get("/whole")
async def read_whole() -> Whole:
    return Whole(inner=Computed(width=1))


@router.get("/point")
def read_point() -> Point:
    return Point(1)


@router.get("/point/untyped")
def read_point_untyped():
    return [Point(1), {"nested": Point(2, 3)}]


@router.get("/film")
async def read_film() -> Film:
    return {"title": "t", "year": 1999}


@router.get("/loose", response_model=Loose)
async def read_loose():
    return Record()


@router.get("/loose/extra", response_model=Loose)
async def read_loose_extra():
    return {"name": "n", "b": [1], "a": {"c": None}}


@router.get("/union", response_model=Item | Aliased | Point)
async def read_union(kind: int = 0):
    return [Item(name="i"), Aliased(first_name="a"), Point(5), {"name": "d"}][kind % 4]


@router.get("/number")
async def read_number() -> int:
    return 5


@router.get("/number/converted", response_model=float)
async def read_converted():
    return "7"


@router.get("/text")
async def read_text() -> str:
    return 'é "quoted"'


@router.get("/nothing")
async def read_nothing() -> None:
    return None


@router.get("/nothing/untyped")
def read_nothing_untyped():
    pass


@router.get("/bytes")
async def read_bytes() -> bytes:
    return b"bytes"


@router.get("/optional")
async def read_optional(there: bool = False) -> Item | None:
    return Item(name="there") if there else None


@router.get("/tuple")
async def read_tuple() -> tuple[int, str, Item]:
    return 1, "two", Item(name="three")


@router.get("/set")
async def read_set() -> set[int]:
    return {3}


@router.get("/dict")
async def read_dict() -> dict[int, float | None]:
    return {1: 1.0, 2: None}


@router.get("/generator", response_model=list[int])
async def read_generator():
    return range(3)


@router.get("/hundred")
async def read_hundred() -> list[Item]:
    return [Item(name=f"item {number}", price=number / 3) for number in range(100)]


@router.get("/annotated")
async def read_annotated() -> Annotated[int, Field(ge=3)]:
    return 4


@router.get("/wrong", response_model=Item)
async def read_wrong():
    return {"price": "much"}


@router.get("/wrong/number")
def read_wrong_number() -> int:
    return "text"  # type: ignore[return-value]


@router.get("/created", status_code=201, response_model=Item)
async def read_created(response: Response):
    response.headers["X-Made"] = "yes"
    response.set_cookie("made", "1")
    return ITEMS["foo"]


FAILS = {"GET /wrong", "GET /wrong/number"}
SAMPLES = {
    "POST /users": [{"username": "u", "password": "p", "email": "A@Example.com"}],
    "POST /users/annotated": [{"username": "u", "password": "p", "email": None}],
}
