"""Bodies: one model, several, embedded, plain values, fields, lists, unions, together with other parameters."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field

router = APIRouter()


class Item(BaseModel):
    name: str
    description: str | None = None
    price: float
    tax: float | None = None


class User(BaseModel):
    username: str
    full_name: str | None = None


class Fielded(BaseModel):
    name: str = Field(min_length=2, max_length=10, pattern="^[a-z]+$", examples=["abc"])
    size: int = Field(gt=0, le=100, multiple_of=5, examples=[5])
    ratio: float = Field(0.5, ge=0, lt=1, allow_inf_nan=False)
    labels: list[str] = Field(default_factory=list, max_length=3)


@router.post("/items")
async def create_item(item: Item):
    return item


@router.post("/items/sum")
def sum_item(item: Item):
    found = item.model_dump()
    if item.tax is not None:
        found["with_tax"] = item.price + item.tax
    return found


@router.put("/items/{item_id}")
async def update_item(item_id: Annotated[int, Path(ge=0)], item: Item, q: str | None = None):
    return {"item_id": item_id, "q": q, **item.model_dump()}


@router.put("/optional/{item_id}")
async def update_optional(item_id: int, item: Item | None = None):
    return {"item_id": item_id, "item": item}


@router.put("/several/{item_id}")
async def update_several(item_id: int, item: Item, user: User):
    return {"item_id": item_id, "item": item, "user": user}


@router.put("/singular/{item_id}")
async def update_singular(
    item_id: int,
    *,
    item: Item,
    user: User | None = None,
    importance: Annotated[int, Body(gt=0)],
    weights: Annotated[dict[str, float], Body()] = {},
    q: Annotated[str | None, Query()] = None,
):
    return {"item_id": item_id, "item": item, "user": user, "importance": importance, "weights": weights, "q": q}


@router.put("/embedded")
async def update_embedded(item: Annotated[Item, Body(embed=True)]):
    return {"item": item}


@router.post("/embedded-number")
def embedded_number(number: Annotated[int, Body(embed=True)] = 5):
    return {"number": number}


@router.post("/embedded-alias")
async def embedded_alias(
    number: Annotated[int, Body(embed=True, alias="theNumber")], text: str = Body("x", max_length=4)
):
    return {"number": number, "text": text}


@router.post("/number")
async def plain_number(number: Annotated[int, Body()]):
    return {"number": number}


@router.post("/text")
async def plain_text(text: Annotated[str, Body(min_length=1)]):
    return {"text": text}


@router.post("/boolean")
async def plain_boolean(flag: bool = Body()):
    return {"flag": flag}


@router.post("/anything")
async def anything(body: Annotated[Any, Body()]):
    return {"body": body}


@router.post("/untyped")
async def untyped(body=Body(None)):
    return {"body": body}


@router.post("/object")
async def any_object(body: dict):
    return body


@router.post("/object-of")
async def object_of(weights: dict[int, float]):
    return weights


@router.post("/any-list")
async def any_list(body: list):
    return body


@router.post("/list")
async def item_list(items: list[Item]):
    return items


@router.post("/numbers")
def number_list(numbers: list[int]):
    return {"sum": sum(numbers), "numbers": numbers}


@router.post("/set")
async def text_set(tags: set[str]):
    return sorted(tags)


@router.post("/tuple")
async def pair(pair: tuple[int, str]):
    return {"pair": pair}


@router.post("/fielded")
async def fielded(body: Fielded):
    return body


@router.post("/default")
async def with_default(item: Annotated[Item, Body()] = Item(name="default", price=1)):
    return item


@router.post("/raw-text")
async def raw_text(body: Annotated[str, Body(media_type="text/plain")]):
    return {"body": body}


@router.post("/raw-bytes")
async def raw_bytes(body: Annotated[bytes, Body(media_type="application/octet-stream")]):
    return {"length": len(body), "body": body.hex()}


@router.post("/other-json")
async def other_json(item: Annotated[Item, Body(media_type="application/vnd.item+json")]):
    return item


@router.get("/with-get")
async def with_get(item: Item | None = None):
    return {"item": item}


@router.delete("/with-delete")
async def with_delete(ids: list[int]):
    return {"ids": ids}


@router.patch("/partial/{item_id}")
async def partial(item_id: int, changes: dict[str, Any], dry: bool = False):
    return {"item_id": item_id, "changes": changes, "dry": dry}


LAMP = {"name": "lamp", "description": "é \U0001f600", "price": 12.5, "tax": 1}

SAMPLES = {
    "POST /items": [LAMP, {"name": "", "price": "1.5"}, {"name": "x", "price": 1, "extra": [1]}],
    "POST /items/sum": [LAMP],
    "PUT /singular/{item_id}": [
        {"item": LAMP, "user": {"username": "u"}, "importance": 3, "weights": {"a": 1, "b": 0.5}}
    ],
    "POST /anything": [{"a": [1, 2.5, None, {"b": True}]}, "text", 12345678901234567890, 1.5, None],
    "POST /object": [{"b": 1, "a": {"z": [], "y": {}}}],
    "POST /object-of": [{"1": 1, "2": 0.5}],
    "POST /any-list": [[1, "x", {"a": None}]],
    "POST /list": [[LAMP, LAMP], []],
    "POST /default": [LAMP],
}

# FastAPI 0.137 takes a bare `list` for a form's field and has no good answer for one of JSON.
FAILS = {"POST /any-list"} if fastapi.__version__.startswith("0.137.") else set()
