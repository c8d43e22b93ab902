"""Corners of applications: handlers by status, by base class and for everything, those that fail, what they read."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel


class Denied(HTTPException):
    pass


class Mine(Exception):
    def __init__(self, word: str) -> None:
        self.word = word


class Younger(Mine):
    pass


def mine(request: Request, error: Exception) -> Response:
    """A plain function: it runs on a thread."""
    word = getattr(error, "word", "?")
    return JSONResponse({"mine": word, "kind": type(error).__name__, "path": request.url.path}, 418, {"x-mine": "é"})


async def gone(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"gone: {getattr(error, 'detail', None)} {request.path_params}", 410)


def denied(request: Request, error: Denied) -> Response:
    if error.detail == "again":
        raise HTTPException(401, "again")
    return StreamingResponse(iter([b"de", b"nied"]), error.status_code, error.headers)


async def everything(request: Request, error: Exception) -> Response:
    return JSONResponse({"everything": type(error).__name__}, 500)


async def broken(request: Request, error: RequestValidationError) -> Response:
    body = error.body if isinstance(error.body, dict) else None
    return JSONResponse({"errors": len(error.errors()), "body": body, "query": request.url.query}, 400)


async def needs_agent(request: Request, user_agent: Annotated[str, Header()] = "none") -> str:
    if user_agent == "bad":
        raise Denied(403, "bad agent", {"x-agent": user_agent})
    request.state.agent = user_agent
    return user_agent


app = FastAPI(
    title="Corners",
    dependencies=[Depends(needs_agent)],
    exception_handlers={Mine: mine, 404: gone, Denied: denied, Exception: everything, RequestValidationError: broken},
    docs_url=None,
    redoc_url=None,
    responses={418: {"description": "Mine"}},
)


class Item(BaseModel):
    name: str
    count: int = 0


@app.get("/mine/{word}")
async def raises_mine(word: str):
    raise Younger(word) if word == "younger" else Mine(word)


@app.get("/mine/sync/{word}")
def raises_mine_sync(word: str):
    raise Younger(word)


@app.get("/gone/{number}")
def raises_gone(number: int):
    raise HTTPException(404, f"no {number}")


@app.get("/denied/{detail}")
async def raises_denied(detail: str):
    raise Denied(403, detail, {"x-denied": "1"})


@app.get("/other")
async def raises_other():
    raise KeyError("other")


@app.get("/wrong")
def wrong() -> Item:
    return {"name": None}  # type: ignore[return-value]


@app.post("/items/{number}")
async def create(number: int, item: Item, request: Request) -> dict[str, Any]:
    return {"number": number, "item": item, "agent": request.state.agent}


@app.get("/agents")
def agents(one: Annotated[str, Depends(needs_agent)], request: Request):
    return [one, request.state.agent]


routed = APIRouter(prefix="/routed", default_response_class=PlainTextResponse)


@routed.get("/text")
async def routed_text() -> str:
    return "text"


app.include_router(routed)
app.include_router(routed, prefix="/v2", include_in_schema=False)


def _asks():
    from twins import Ask, place_of

    place = place_of("app_corners").encode()
    for path in (
        b"/denied/again",
        b"/mine/younger",
        b"/gone/x",
        b"/nowhere",
        b"/v2/routed/text",
        b"/openapi.json",
        b"/openapi.json/",
    ):
        for agent in (b"good", b"bad"):
            for method in ("GET", "HEAD", "POST"):
                yield Ask(method, place + path, ((b"user-agent", agent),))


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


FAILS = {
    "GET /mine/{word}", "GET /mine/sync/{word}", "GET /gone/{number}", "GET /denied/{detail}", "GET /other",
    "GET /wrong",
}  # fmt: skip

UNSAID = ["GET /openapi.json", "HEAD /openapi.json", "GET /v2/routed/text"]
