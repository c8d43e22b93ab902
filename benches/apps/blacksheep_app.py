"""The small answers and the body in BlackSheep, for uvicorn."""

from dataclasses import dataclass

from blacksheep import Application, FromJSON, json
from blacksheep.server.responses import Response

from apps.items import PREFIX


@dataclass
class Item:
    """What a client sends."""

    name: str
    price: float
    tags: list[str]


app = Application()


@app.router.get(f"{PREFIX}/items/{{number}}")
async def read(number: int, q: str, limit: int = 10) -> Response:
    """One item."""
    return json({"id": number, "name": q, "limit": limit, "tags": ["home", "light"]})


@app.router.get(f"{PREFIX}/items-sync/{{number}}")
def read_sync(number: int, q: str, limit: int = 10) -> Response:
    """The same from a plain ``def``."""
    return json({"id": number, "name": q, "limit": limit, "tags": ["home", "light"]})


@app.router.post(f"{PREFIX}/items")
async def write(item: FromJSON[Item]) -> Response:
    """The item that came, with its number."""
    value = item.value
    return json({"id": 7, "name": value.name, "price": value.price, "tags": value.tags})
