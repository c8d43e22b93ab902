"""The FastAPI router that every server serves: one GET, one POST with a pydantic body."""

from fastapi import APIRouter
from pydantic import BaseModel

PREFIX = "/api/plugins/bench"


class Item(BaseModel):
    """What a client sends."""

    name: str
    price: float
    tags: list[str]


class Stored(Item):
    """What it gets back."""

    id: int


router = APIRouter()


@router.get("/item")
async def read() -> dict[str, object]:
    """One item, as a plain dict."""
    return {"id": 7, "name": "lamp", "price": 12.5, "tags": ["home", "light"]}


@router.get("/item-sync")
def read_sync() -> dict[str, object]:
    """The same from a plain ``def``, which FastAPI runs on a worker thread."""
    return {"id": 7, "name": "lamp", "price": 12.5, "tags": ["home", "light"]}


@router.post("/item")
async def write(item: Item) -> Stored:
    """The item that came, with its number."""
    return Stored(id=7, **item.model_dump())
