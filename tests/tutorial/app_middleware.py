"""An application with middleware: all of it stays on ASGI."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from pydantic import BaseModel

app = FastAPI(openapi_url=None)
app.add_middleware(GZipMiddleware, minimum_size=100)
app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"], expose_headers=["x-seen"])


class Item(BaseModel):
    name: str


@app.middleware("http")
async def seen(request: Request, call_next):
    response = await call_next(request)
    response.headers["X-Seen"] = request.method
    return response


@app.get("/items/{number}")
async def read(number: int):
    return {"number": number}


@app.get("/long")
def long():
    return ["long" * 10] * 20


@app.post("/items")
async def create(item: Item):
    return item


@app.get("/refused")
async def refused():
    raise HTTPException(403, "refused")


STAYS = {f"{method}": "middleware" for method in ("GET /items/{number}", "GET /long", "POST /items", "GET /refused")}
FAILS = {"GET /refused"}
