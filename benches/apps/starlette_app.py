"""A Starlette application with one GET."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def read(_request: Request) -> JSONResponse:
    """One item."""
    return JSONResponse({"id": 7, "name": "lamp", "price": 12.5, "tags": ["home", "light"]})


app = Starlette(routes=[Route("/item", read)])
"""What a plugin mounts below its prefix."""

standalone = Starlette(routes=[Route("/api/plugins/bench-starlette/item", read)])
"""The same at the same path, without the second layer that a ``Mount`` would cost the other servers."""
