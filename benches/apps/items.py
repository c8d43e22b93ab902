"""The FastAPI router that every server serves: small answers, a body, dependencies, a long list, a ``yield``."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
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


class Paging:
    """The innermost of three dependencies."""

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit


async def search(paging: Annotated[Paging, Depends()], q: str) -> dict[str, object]:
    """The next."""
    return {"name": q, "limit": paging.limit}


async def found(search: Annotated[dict[str, object], Depends(search)]) -> dict[str, object]:
    """The outermost."""
    return {"id": 7, **search, "tags": ["home", "light"]}


async def opened() -> AsyncIterator[list[str]]:
    """What keeps a route on ASGI."""
    yield ["home", "light"]


HUNDRED = [Stored(id=number, name=f"item {number}", price=number / 4, tags=["home", "light"]) for number in range(100)]

router = APIRouter()


@router.get("/items/{number}")
async def read(number: int, q: str, limit: int = 10):
    """One item, as a plain dict."""
    return {"id": number, "name": q, "limit": limit, "tags": ["home", "light"]}


@router.get("/items-sync/{number}")
def read_sync(number: int, q: str, limit: int = 10):
    """The same from a plain ``def``, which FastAPI runs on a worker thread."""
    return {"id": number, "name": q, "limit": limit, "tags": ["home", "light"]}


@router.post("/items")
async def write(item: Item) -> Stored:
    """The item that came, with its number."""
    return Stored(id=7, **item.model_dump())


@router.get("/nested")
async def nested(found: Annotated[dict[str, object], Depends(found)]):
    """What three dependencies, one within the other, have found."""
    return found


@router.get("/hundred")
async def hundred() -> list[Stored]:
    """A hundred items."""
    return HUNDRED


@router.get("/opened/{number}")
async def read_opened(number: int, q: str, tags: Annotated[list[str], Depends(opened)], limit: int = 10):
    """The dict once more, with a dependency that is closed afterwards."""
    return {"id": number, "name": q, "limit": limit, "tags": tags}
