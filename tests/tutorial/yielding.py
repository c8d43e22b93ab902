"""Dependencies with ``yield``: what runs after the response, and what they make of exceptions."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response

router = APIRouter()


async def opened(request: Request):
    request.scope["opened"] = ["opened"]
    try:
        yield request.scope["opened"]
    finally:
        request.scope["opened"].append("closed")


def plain():
    yield "plain"


def over(inner: Annotated[list, Depends(opened)]):
    inner.append("over")
    yield inner


async def turns(response: Response):
    try:
        yield "turns"
    except ValueError as error:
        raise HTTPException(400, f"turned {error}") from error


def early():
    yield "early"


async def around(said: Annotated[str, Depends(plain)]):
    return f"around {said}"


@router.get("/opened")
async def read_opened(found: Annotated[list, Depends(opened)]):
    return found


@router.get("/plain")
def read_plain(found: Annotated[str, Depends(plain)], n: int = 0):
    return {"found": found, "n": n}


@router.get("/over")
async def read_over(found: Annotated[list, Depends(over)]):
    return found


@router.get("/turns/{word}")
async def read_turns(word: str, found: Annotated[str, Depends(turns)]):
    if word == "bad":
        raise ValueError(word)
    if word == "http":
        raise HTTPException(418, word)
    return {"found": found}


@router.get("/early")
async def read_early(found: Annotated[str, Depends(early, scope="function")]):
    return {"found": found}


@router.get("/beneath")
async def read_beneath(found: Annotated[str, Depends(around)]):
    return {"found": found}


@router.get("/decorated", dependencies=[Depends(plain)])
def read_decorated():
    return {"decorated": True}


@router.get("/without")
async def without():
    return {"without": True}


STAYS = {
    f"GET /{path}": "yield" for path in ("opened", "plain", "over", "turns/{word}", "early", "beneath", "decorated")
}
