"""An application with handlers of its own for exceptions and statuses."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

app = FastAPI(openapi_url=None)


class UnicornError(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


class SmallError(UnicornError):
    pass


class Item(BaseModel):
    title: str
    size: int


@app.exception_handler(UnicornError)
async def unicorn(request: Request, error: UnicornError):
    return JSONResponse({"message": f"Oops! {error.name}", "path": request.url.path}, 418, {"X-Unicorn": "1"})


@app.exception_handler(StarletteHTTPException)
async def http_error(request: Request, error: StarletteHTTPException):
    if error.status_code == 403:
        return PlainTextResponse(str(error.detail), status_code=error.status_code)
    response = await http_exception_handler(request, error)
    response.headers["X-Seen"] = str(error.status_code)
    return response


@app.exception_handler(RequestValidationError)
async def validation(request: Request, error: RequestValidationError):
    return JSONResponse({"errors": jsonable_encoder(error.errors()), "body": jsonable_encoder(error.body)}, 400)


@app.exception_handler(ResponseValidationError)
def response_validation(request: Request, error: ResponseValidationError):
    return JSONResponse({"wrong": len(error.errors())}, 555)


@app.exception_handler(405)
async def not_allowed(request: Request, error: HTTPException):
    return Response(f"{request.method} is not allowed", 405, error.headers)


@app.exception_handler(ZeroDivisionError)
def divided(request: Request, error: ZeroDivisionError):
    return PlainTextResponse("divided by zero", 400)


@app.get("/unicorns/{name}")
async def read_unicorn(name: str):
    if name == "yolo":
        raise UnicornError(name)
    if name == "small":
        raise SmallError(name)
    return {"unicorn_name": name}


@app.get("/numbers/{number}")
def read_number(number: int):
    if number == 3:
        raise HTTPException(status_code=403, detail="Nope! I don't like 3.")
    if number == 4:
        raise HTTPException(status_code=404, detail="No 4.", headers={"X-Four": "4"})
    return {"number": number, "part": 10 / number}


@app.post("/items")
async def create_item(item: Item):
    return item


@app.get("/wrong", response_model=Item)
async def wrong():
    return {"title": 1}


@app.get("/fails")
async def fails():
    raise RuntimeError("on purpose")


def _asks():
    from twins import Ask, place_of

    place = place_of("app_handlers").encode()
    for path in (
        "unicorns/yolo",
        "unicorns/small",
        "numbers/3",
        "numbers/4",
        "numbers/0",
        "numbers/x",
        "nowhere",
        "items/",
    ):
        for method in ("GET", "HEAD", "POST"):
            yield Ask(method, place + b"/" + path.encode())
    yield Ask("GET", place)
    yield Ask("GET", place + b"/")


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


FAILS = {"GET /wrong", "GET /fails"}
