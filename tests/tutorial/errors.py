"""Errors: HTTPException in all its forms, from endpoints and dependencies, and what is raised by mistake."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError, WebSocketException
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

router = APIRouter()


class Own(HTTPException):
    def __init__(self, name: str) -> None:
        super().__init__(status_code=409, detail=f"{name} is own")


@router.get("/missing/{name}")
async def missing(name: str):
    raise HTTPException(status_code=404, detail=f"{name} not found", headers={"X-Error": "There goes my error"})


@router.get("/status/{code}")
def any_status(code: int):
    raise HTTPException(status_code=code if 200 <= code < 600 else 400)


@router.get("/detail/{kind}")
async def any_detail(kind: str):
    details: dict[str, Any] = {"dict": {"a": [1, None, {"é": 0.1}]}, "list": ["x", 1], "none": None, "number": 1.5}
    raise HTTPException(status_code=418, detail=details.get(kind, kind))


@router.get("/detail-unserializable")
async def unserializable():
    raise HTTPException(status_code=400, detail={"what": object()})


@router.get("/headers")
async def headers():
    raise HTTPException(
        401, "no", {"WWW-Authenticate": 'Basic realm="é"', "X-B": "2", "x-a": "1", "Content-Type": "text/x"}
    )


@router.get("/no-body/{code}")
async def no_body(code: int):
    raise HTTPException(code if code in (204, 205, 304) else 204, "not sent", {"X-There": "1"})


@router.get("/starlette")
def starlette():
    raise StarletteHTTPException(status_code=410, detail="gone", headers={"X-Gone": "1"})


@router.get("/own/{name}")
async def own(name: str):
    raise Own(name)


def refuses(word: str = "no"):
    raise HTTPException(403, word)


@router.get("/dependency")
async def dependency(number: int, refused: Annotated[None, Depends(refuses)]):
    return {"number": number, "refused": refused}


@router.get("/request-validation")
async def request_validation():
    errors = [{"type": "own", "loc": ("query", "x", 0), "msg": "own message", "input": {"a": 1.5}, "ctx": {"n": 1}}]
    raise RequestValidationError(errors, body={"b": 1})


@router.get("/response-validation")
def response_validation():
    raise ResponseValidationError([{"type": "own", "loc": ("response",), "msg": "m", "input": None}])


@router.get("/validation")
async def validation():
    TypeAdapter(int).validate_python("x")


@router.get("/websocket-exception")
async def websocket_exception():
    raise WebSocketException(1008)


@router.get("/disconnect")
async def disconnect():
    raise ClientDisconnect


@router.get("/plain")
async def plain():
    raise KeyError("on purpose")


@router.get("/group")
async def group():
    raise ExceptionGroup("on purpose", [HTTPException(404, "one"), ValueError("two")])


@router.get("/chained")
def chained():
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False)) from error


class Item(BaseModel):
    name: str
    size: int


@router.post("/late/{number}")
async def late(number: int, item: Item, request: Request):
    if number > 5:
        raise HTTPException(400, {"too": number, "body": (await request.body()).decode()})
    return item


@router.get("/returned")
async def returned():
    return HTTPException(404, "returned, not raised")


@router.get("/latin")
async def latin():
    raise HTTPException(400, "x", {"X-Latin": "\u20ac"})


FAILS = {
    f"GET /{path}"
    for path in (
        *("missing/{name}", "status/{code}", "detail/{kind}", "detail-unserializable", "headers", "starlette"),
        *("own/{name}", "dependency", "request-validation", "response-validation", "validation", "latin"),
        *("websocket-exception", "disconnect", "plain", "group", "chained"),
    )
}
