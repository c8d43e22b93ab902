"""An application with settings of its own: default class, dependencies, overrides, lifespan state, its document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel


class Spaced(JSONResponse):
    media_type = "application/x-spaced"

    def render(self, content: Any) -> bytes:
        return super().render(content).replace(b":", b": ")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"opened": "yes"}


async def needs_key(x_key: Annotated[int, Header(examples=[1])]):
    return x_key


async def settings(q: str = "production"):
    return {"settings": q}


async def test_settings(q: str = "test", extra: int = 1):
    return {"settings": q, "extra": extra}


async def inner():
    return "inner"


async def outer(value: Annotated[str, Depends(inner)]):
    return f"outer {value}"


def other_inner():
    return "other"


app = FastAPI(
    title="Settings",
    version="1.2.3",
    lifespan=lifespan,
    default_response_class=Spaced,
    dependencies=[Depends(needs_key)],
    strict_content_type=False,
    redirect_slashes=False,
    docs_url=None,
    redoc_url=None,
)
app.dependency_overrides[settings] = test_settings
app.dependency_overrides[inner] = other_inner


class Item(BaseModel):
    name: str


@app.get("/plain")
async def plain():
    return {"a": 1, "b": [1, 2]}


@app.get("/model")
def model() -> Item:
    return Item(name="n")


@app.get("/own-class", response_class=JSONResponse)
async def own_class():
    return {"a": 1}


@app.post("/items")
async def create(item: Item):
    return item


@app.get("/settings")
async def read_settings(found: Annotated[dict, Depends(settings)]):
    return found


@app.get("/overridden")
def read_outer(found: Annotated[str, Depends(outer)]):
    return {"found": found}


@app.get("/state")
async def state(request: Request):
    return {"opened": request.state.opened, "title": request.app.title}


router = APIRouter(prefix="/routed", default_response_class=JSONResponse)


@router.get("/one")
async def routed():
    return {"a": 1}


@router.get("/slash/")
async def routed_slash():
    return {"a": 1}


app.include_router(router)


def _asks():
    from twins import Ask, place_of

    place = place_of("app_settings").encode()
    for path in (b"/openapi.json", b"/docs", b"", b"/", b"/plain/", b"/routed/slash"):
        yield Ask("GET", place + path)
        yield Ask("HEAD", place + path)
    for kind in ((), ((b"content-type", b"text/plain"),), ((b"content-type", b""),)):
        yield Ask("POST", place + b"/items", ((b"x-key", b"1"), *kind), b'{"name": "n"}')


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


UNSAID = ["GET /openapi.json", "HEAD /openapi.json"]
