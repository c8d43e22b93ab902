"""Path parameters: types, enums, order, convertors, constraints."""

from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path

router = APIRouter()


class Model(str, Enum):
    alexnet = "alexnet"
    resnet = "resnet"
    lenet = "le net/é"


class Level(IntEnum):
    low = 1
    high = 2


@router.get("/items/{item_id}")
async def read_item(item_id):
    return {"item_id": item_id}


@router.get("/numbers/{number}")
async def read_number(number: int):
    return {"number": number}


@router.get("/floats/{number}")
async def read_float(number: float):
    return {"number": number}


@router.get("/flags/{flag}")
def read_flag(flag: bool):
    return {"flag": flag}


@router.get("/users/me")
async def read_me():
    return {"user": "me"}


@router.get("/users/{user_id}")
async def read_user(user_id: str):
    return {"user": user_id}


@router.get("/models/{model}")
async def read_model(model: Model):
    return {"model": model, "is": model is Model.alexnet}


@router.get("/levels/{level}")
async def read_level(level: Level):
    return {"level": level}


@router.get("/kinds/{kind}")
async def read_kind(kind: Literal["a", "b", 3]):
    return {"kind": kind}


@router.get("/files/{file_path:path}")
async def read_file(file_path: str):
    return {"file_path": file_path}


@router.get("/whole/{number:int}")
async def read_whole(number: int):
    return {"number": number}


@router.get("/whole/{number:int}/as-text")
async def read_whole_text(number: Annotated[str, Path(examples=["5"])]):
    return {"number": number}


@router.get("/real/{number:float}")
def read_real(number: float):
    return {"number": number}


@router.get("/real/{number:float}/exact")
async def read_exact(number: Decimal):
    return {"number": number}


@router.get("/uuid/{which:uuid}")
async def read_uuid(which: UUID):
    return {"which": which}


@router.get("/uuid/{which:uuid}/untyped")
async def read_untyped(which=Path(examples=["c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11"])):
    return {"which": which}


@router.get("/between/{first}-{second}")
async def read_between(first: str, second: int):
    return {"first": first, "second": second}


@router.get("/dotted/{name}.{suffix}")
async def read_dotted(name: str, suffix: str):
    return {"name": name, "suffix": suffix}


@router.get("/checked/{number}")
async def read_checked(number: Annotated[int, Path(title="A number", ge=1, le=1000, multiple_of=3)]):
    return {"number": number}


@router.get("/strict/{number}")
async def read_strict(number: Annotated[float, Path(gt=0, lt=10.5, allow_inf_nan=False)]):
    return {"number": number}


@router.get("/text/{text}")
async def read_text(text: Annotated[str, Path(min_length=2, max_length=5, pattern="^[a-zé]+$")]):
    return {"text": text}


@router.get("/either/{value}")
async def read_either(value: int | bool | UUID | str):
    return {"value": value, "type": type(value).__name__}


@router.get("/aliased/{itemId}")
async def read_aliased(item_id: Annotated[int, Path(alias="itemId")]):
    return {"item_id": item_id}


@router.get("/old-style/{number}")
def read_old(number: int = Path(..., ge=0)):
    return {"number": number}


@router.put("/items/{item_id}")
@router.delete("/items/{item_id}")
async def change_item(item_id: int):
    return {"changed": item_id}


@router.get("/spaced path/{name}")
async def read_spaced(name: str):
    return {"name": name}


@router.get("/é/{name}")
async def read_accented(name: str):
    return {"name": name}


@router.get("/trailing/{name}/")
async def read_trailing(name: str):
    return {"name": name}


@router.api_route("/many/{name}", methods=["GET", "POST", "HEAD", "OPTIONS"])
async def read_many(name: str):
    return {"name": name}


# The convertor gives a number, which is no text.
FAILS = {"GET /whole/{number}/as-text"}
