"""Statuses, and returned responses of every kind; headers and cookies of the response parameter."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response, status
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse

router = APIRouter()


@router.post("/created", status_code=201)
async def created(name: str = "n"):
    return {"name": name}


@router.get("/accepted", status_code=status.HTTP_202_ACCEPTED)
def accepted():
    return "accepted"


@router.delete("/no-content", status_code=204)
async def no_content():
    return None


@router.get("/no-content/with-body", status_code=204)
async def no_content_with_body():
    return {"not": "sent"}


@router.get("/not-modified", status_code=304)
def not_modified() -> None:
    return None


@router.get("/teapot", status_code=418)
async def teapot():
    return {"teapot": True}


@router.get("/status")
async def any_status(response: Response, code: Annotated[int, Query(ge=200, le=599)] = 200):
    response.status_code = code
    return {"code": code}


@router.get("/header")
async def header(response: Response):
    response.headers["X-One"] = "1"
    response.headers.append("X-Two", "a")
    response.headers.append("X-Two", "b")
    response.headers["x-accent"] = "é"
    return {"headers": True}


@router.get("/cookie")
def cookie(response: Response):
    response.set_cookie("one", "1", max_age=60, path="/x", secure=True, httponly=True, samesite="strict")
    response.set_cookie("two", 'a "b"; c')
    response.delete_cookie("three")
    return {"cookies": True}


@router.get("/content-type")
async def content_type(response: Response):
    response.headers["content-type"] = "text/x-odd"
    return {"odd": True}


@router.get("/json")
async def json_response():
    return JSONResponse({"b": 1, "a": [None, "é", 0.1]}, status_code=203, headers={"X-Json": "1"})


@router.get("/json/mixed")
async def json_mixed(response: Response):
    response.headers["X-Lost"] = "a response of one's own does not take it"
    return JSONResponse(content="text")


@router.get("/text")
async def text() -> PlainTextResponse:
    return PlainTextResponse("plain é")


@router.get("/text/class", response_class=PlainTextResponse)
async def text_class():
    return "plain by class"


@router.get("/html", response_class=HTMLResponse)
def html():
    return "<h1>é</h1>"


@router.get("/html/returned", response_class=HTMLResponse)
async def html_returned():
    return HTMLResponse("<p>", status_code=404)


@router.get("/redirect")
async def redirect(to: str = "/x?a=é b"):
    return RedirectResponse(to)


@router.get("/redirect/class", response_class=RedirectResponse)
async def redirect_class():
    return "https://example.com/a b"


@router.get("/redirect/status", response_class=RedirectResponse, status_code=302)
async def redirect_status(response: Response):
    response.set_cookie("to", "there")
    return "/there"


@router.get("/raw")
async def raw():
    return Response(b"\x00\xff raw", media_type="application/x-raw")


@router.get("/raw/nothing")
async def raw_nothing():
    return Response()


@router.get("/raw/no-content")
async def raw_no_content():
    return Response(status_code=204)


@router.get("/raw/not-modified")
def raw_not_modified():
    return Response(status_code=304, headers={"ETag": '"e"'})


@router.get("/raw/xml")
async def raw_xml():
    return Response("<?xml version='1.0'?><é/>", media_type="application/xml")


@router.get("/raw/charset")
async def raw_charset():
    return Response("text", media_type="text/csv", headers={"Content-Disposition": "attachment; filename=a.csv"})


@router.get("/raw/type")
async def raw_type():
    return Response("x", headers={"Content-Type": "text/x-own; charset=latin-1"})


@router.get("/raw/headers")
async def raw_headers():
    response = Response("x")
    response.headers.append("Set-Cookie", "a=1")
    response.headers.append("X-Between", "1")
    response.headers.append("Set-Cookie", "b=2")
    response.raw_headers.append((b"x-empty", b""))
    return response


class Indented(JSONResponse):
    media_type = "application/x-indented+json"

    def render(self, content: Any) -> bytes:
        return repr(content).encode()


@router.get("/own-class", response_class=Indented)
async def own_class():
    return {"a": (1, 2)}


@router.get("/own-class/model", response_class=Indented)
async def own_class_model() -> list[int]:
    return [1, 2]


@router.get("/json-class", response_class=JSONResponse)
async def json_class():
    return {"b": 1.0, "a": "é"}


@router.get("/json-class/model", response_class=JSONResponse)
def json_class_model() -> dict[str, float]:
    return {"b": 1, "a": 0.1}


@router.get("/json-class/nan", response_class=JSONResponse)
async def json_class_nan():
    return float("nan")


@router.get("/either", response_model=None)
async def either(html: bool = False) -> Response | dict[str, bool]:
    return HTMLResponse("<p>") if html else {"html": False}


@router.head("/head")
async def head(response: Response):
    response.headers["X-Head"] = "1"
    return {"not": "sent"}


@router.options("/options")
async def options():
    return {"options": True}


@router.get("/fails")
async def fails():
    raise RuntimeError("on purpose")


@router.get("/fails/sync")
def fails_sync():
    raise ValueError("on purpose")


@router.get("/fails/unserializable")
async def fails_unserializable():
    return {"what": object()}


FAILS = {
    "GET /teapot",
    "GET /html/returned",
    "GET /json-class/nan",
    "GET /fails",
    "GET /fails/sync",
    "GET /fails/unserializable",
}
