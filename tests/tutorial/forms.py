"""Forms and files."""

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel

router = APIRouter()


class Login(BaseModel):
    username: str
    password: str
    remember: bool = False


class Exact(BaseModel):
    model_config = {"extra": "forbid"}

    name: str
    tags: list[str] = []


@router.post("/login")
async def login(username: Annotated[str, Form()], password: Annotated[str, Form(min_length=3)]):
    return {"username": username, "length": len(password)}


@router.post("/optional")
def optional(name: Annotated[str | None, Form()] = None, tags: Annotated[list[int], Form()] = []):
    return {"name": name, "tags": tags}


@router.post("/model")
async def model(data: Annotated[Login, Form()]):
    return data


@router.post("/exact")
async def exact(data: Annotated[Exact, Form()]):
    return data


@router.post("/bytes")
async def as_bytes(file: Annotated[bytes, File()]):
    return {"size": len(file)}


@router.post("/file")
async def upload(file: UploadFile):
    return {"name": file.filename, "type": file.content_type, "size": len(await file.read())}


@router.post("/files")
async def uploads(files: list[UploadFile], note: Annotated[str, Form()] = "none"):
    return {"names": [file.filename for file in files], "note": note}


@router.post("/file/optional")
def optional_file(file: Annotated[UploadFile | None, File()] = None):
    return {"name": file.filename if file else None}


@router.get("/plain")
async def plain(n: int = 0):
    return {"n": n}


STAYS = {f"POST /{path}": "form" for path in ("login", "optional", "model", "exact")}
STAYS |= {f"POST /{path}": "file" for path in ("bytes", "file", "files", "file/optional")}
