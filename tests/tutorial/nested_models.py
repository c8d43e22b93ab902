"""Nested models: lists, sets, dicts, urls, recursion, generics, discriminated unions, dataclasses, TypedDicts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

from fastapi import APIRouter, Body
from pydantic import BaseModel, Discriminator, EmailStr, Field, HttpUrl, RootModel, Tag
from typing_extensions import TypedDict

router = APIRouter()
T = TypeVar("T")


class Image(BaseModel):
    url: HttpUrl
    name: str


class Item(BaseModel):
    name: str
    tags: set[str] = set()
    images: list[Image] | None = None
    sizes: dict[str, list[int]] = {}


class Offer(BaseModel):
    name: str
    items: list[Item] = Field(max_length=4)
    contact: EmailStr | None = None


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog", "hound"]
    good: bool = True


class Lizard(BaseModel):
    kind: Literal["lizard"] = "lizard"
    colour: str


Pet = Annotated[Cat | Dog | Lizard, Field(discriminator="kind")]


class Owner(BaseModel):
    name: str
    pets: list[Pet]


class Circle(BaseModel):
    radius: float


class Square(BaseModel):
    side: float


def which(value: object) -> str | None:
    if isinstance(value, dict):
        return "circle" if "radius" in value else "square" if "side" in value else None
    return type(value).__name__.lower()


Shape = Annotated[Annotated[Circle, Tag("circle")] | Annotated[Square, Tag("square")], Discriminator(which)]


class Page(BaseModel, Generic[T]):
    total: int
    items: list[T]


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    labels: list[str] = dataclasses.field(default_factory=list)


class Film(TypedDict, total=False):
    title: str
    year: int


class Pair(NamedTuple):
    first: int
    second: str = "second"


@router.post("/items")
async def create_item(item: Item):
    return item


@router.post("/images")
async def create_images(images: list[Image]):
    return images


@router.post("/offers")
def create_offer(offer: Offer):
    return offer


@router.post("/trees")
async def create_tree(tree: Tree):
    return tree


@router.post("/pets")
async def create_pet(pet: Pet):
    return {"type": type(pet).__name__, "pet": pet}


@router.post("/pets/embedded")
async def create_embedded_pet(pet: Annotated[Cat | Dog, Body(embed=True, discriminator="kind")]):
    return pet


@router.post("/owners")
async def create_owner(owner: Owner) -> Owner:
    return owner


@router.post("/shapes")
async def create_shape(shape: Shape):
    return {"type": type(shape).__name__, "shape": shape}


@router.post("/either")
async def either(body: Cat | Item | list[int] | str):
    return {"type": type(body).__name__, "body": body}


@router.post("/left-to-right")
async def left_to_right(body: Annotated[int | float | str | None, Field(union_mode="left_to_right"), Body()]):
    return {"type": type(body).__name__, "body": body}


@router.post("/pages")
async def create_page(page: Page[Item]) -> Page[Item]:
    return page


@router.post("/numbers")
async def create_numbers(numbers: Numbers) -> Numbers:
    return numbers


@router.post("/points")
async def create_point(point: Point) -> Point:
    return point


@router.post("/point-list")
def create_points(points: list[Point], scale: float = 1.0):
    return [dataclasses.replace(point, x=point.x * scale) for point in points]


@router.post("/films")
async def create_film(film: Film) -> Film:
    return film


@router.post("/pairs")
async def create_pair(pair: Annotated[Pair, Body()]) -> Pair:
    return pair


@router.post("/mappings")
async def create_mapping(weights: Mapping[str, Sequence[int]]):
    return weights


@router.post("/deep")
async def create_deep(deep: dict[str, list[dict[str, Image]]]):
    return deep


@router.post("/optional-nested")
async def optional_nested(item: Annotated[Item | None, Body()] = None, pets: Annotated[list[Pet], Body()] = []):
    return {"item": item, "pets": pets}


@router.post("/literal")
async def literal(value: Annotated[Literal["a", 1, True, None], Body()]):
    return {"value": value, "type": type(value).__name__}


_IMAGE = {"url": "http://example.com/é?q=1#f", "name": "i"}
_ITEM = {"name": "lamp", "tags": ["a", "a"], "images": [_IMAGE], "sizes": {"s": [1, 2]}}

SAMPLES = {
    "POST /items": [_ITEM],
    "POST /offers": [{"name": "o", "items": [_ITEM], "contact": "Name@Example.COM"}],
    "POST /trees": [{"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]}],
    "POST /pets": [
        {"kind": "cat"},
        {"kind": "hound", "good": "no"},
        {"kind": "lizard", "colour": "red"},
        {"kind": "cow"},
        {},
    ],
    "POST /owners": [{"name": "o", "pets": [{"kind": "cat", "lives": 3}, {"kind": "dog"}]}],
    "POST /shapes": [{"radius": 1}, {"side": 2}, {"other": 1}],
    "POST /either": [_ITEM, {"kind": "cat"}, [1, 2], ["x"], "x", 5],
    "POST /left-to-right": [1, 1.5, "x", "1", None, True],
    "POST /films": [{"title": "t", "year": "1999"}, {}, {"other": 1}],
    "POST /pairs": [[1, "x"], [1], {"first": 1}],
    "POST /deep": [{"a": [{"b": _IMAGE}]}],
}
