"""Cookies and headers: single, repeated, underscores, models."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Header
from pydantic import BaseModel, ConfigDict, Field

router = APIRouter()


@router.get("/cookies")
async def read_cookies(ads_id: Annotated[str | None, Cookie()] = None, count: Annotated[int, Cookie(ge=0)] = 0):
    return {"ads_id": ads_id, "count": count}


@router.get("/needed-cookie")
def needed_cookie(session: Annotated[str, Cookie(min_length=2)]):
    return {"session": session}


@router.get("/aliased-cookie")
async def aliased_cookie(session: str = Cookie("none", alias="session-id")):
    return {"session": session}


@router.get("/cookie-list")
async def cookie_list(words: Annotated[list[str], Cookie()] = []):
    return {"words": words}


class Cookies(BaseModel):
    session_id: str
    fatebook_tracker: str | None = None
    visits: int = 0


class ExactCookies(BaseModel):
    model_config = ConfigDict(extra="forbid")

    session_id: str


@router.get("/cookie-model")
async def cookie_model(cookies: Annotated[Cookies, Cookie()]):
    return cookies


@router.get("/exact-cookie-model")
async def exact_cookie_model(cookies: Annotated[ExactCookies, Cookie()]):
    return cookies


@router.get("/headers")
async def read_headers(user_agent: Annotated[str | None, Header()] = None, x_number: Annotated[int, Header()] = 0):
    return {"user_agent": user_agent, "x_number": x_number}


@router.get("/underscores")
async def underscores(strange_header: Annotated[str | None, Header(convert_underscores=False)] = None):
    return {"strange_header": strange_header}


@router.get("/repeated")
async def repeated(x_token: Annotated[list[str] | None, Header()] = None):
    return {"x_token": x_token}


@router.get("/numbers")
def numbers(x_number: Annotated[list[int], Header(min_length=1)], x_set: Annotated[set[str], Header()] = set()):
    return {"x_number": x_number, "x_set": sorted(x_set)}


@router.get("/needed-header")
async def needed_header(x_key: Annotated[str, Header(max_length=5)], accept: Annotated[str, Header()] = "nothing"):
    return {"x_key": x_key, "accept": accept}


@router.get("/aliased-header")
async def aliased_header(key: str | None = Header(None, alias="X-API-Key"), flag: bool = Header(False, alias="x_flag")):
    return {"key": key, "flag": flag}


class Headers(BaseModel):
    save_data: bool
    if_modified_since: str | None = None
    traceparent: str | None = None
    x_tag: list[str] = []


class ExactHeaders(BaseModel):
    model_config = ConfigDict(extra="forbid")

    x_only: str = "only"


class PlainHeaders(BaseModel):
    plain_name: int = 0
    aliased: str = Field("none", alias="X-Aliased")


@router.get("/header-model")
async def header_model(headers: Annotated[Headers, Header()]):
    return headers


@router.get("/exact-header-model")
async def exact_header_model(headers: Annotated[ExactHeaders, Header()]):
    return headers


@router.get("/plain-header-model")
async def plain_header_model(headers: Annotated[PlainHeaders, Header(convert_underscores=False)]):
    return headers


@router.get("/all")
async def everything(
    q: str,
    x_one: Annotated[int, Header()],
    one: Annotated[float, Cookie()],
    x_two: Annotated[bool, Header()] = False,
    two: Annotated[str | None, Cookie()] = None,
):
    return {"q": q, "x_one": x_one, "one": one, "x_two": x_two, "two": two}


# Every request has a header more: its host.
FAILS = {"GET /exact-header-model"}
