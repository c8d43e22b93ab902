"""A Starlette application with the same GET; unchanged under every server."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route


async def read(_request: Request) -> JSONResponse:
    """One item."""
    return JSONResponse({"id": 7, "name": "lamp", "price": 12.5, "tags": ["home", "light"]})


inner = Starlette(routes=[Route("/item", read)])
app = Starlette(routes=[Mount("/api/plugins/bench-starlette", app=inner)])
