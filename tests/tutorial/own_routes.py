"""Route classes of one's own, routes of Starlette, sub-applications and WebSockets beside plain routes."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

router = APIRouter()


class Timed(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Any]:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response: Response = await original(request)
            response.headers["X-Timed"] = "yes"
            return response

        return handler


class Named(APIRoute):
    """Changes nothing; but it might."""


timed = APIRouter(route_class=Timed, prefix="/timed")
named = APIRouter(route_class=Named, prefix="/named")


@timed.get("/{number}")
async def read_timed(number: int):
    return {"timed": number}


@timed.post("/body")
def write_timed(body: dict[str, int]):
    return body


@named.get("/{number}")
async def read_named(number: int):
    return {"named": number}


@router.get("/plain/{number}")
async def plain(number: int):
    return {"plain": number}


async def starlette(request: Request) -> Response:
    return PlainTextResponse(f"starlette {request.method} {request.path_params}")


sub = FastAPI(openapi_url=None)


@sub.get("/inside")
async def inside(request: Request):
    return {"root_path": request.scope["root_path"]}


@router.websocket("/socket")
async def socket(websocket: WebSocket, q: int = 0):
    await websocket.accept()
    await websocket.send_json({"q": q, "said": await websocket.receive_text()})
    await websocket.close()


router.include_router(timed)
router.include_router(named)
router.add_route("/starlette/{word}", starlette, methods=["GET", "POST"])
router.routes.append(Route("/unprefixed", starlette))
router.routes.append(Mount("/sub", sub))


@router.get("/after/{number}")
def after(number: int):
    return {"after": number}


def _asks():
    from twins import Ask, place_of

    place = place_of("own_routes").encode()
    for path in ("starlette/x", "starlette/%C3%A9", "unprefixed", "sub/inside", "sub/nowhere", "sub", "sub/", "socket"):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            yield Ask(method, place + b"/" + path.encode())


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


STAYS = {
    "GET /timed/{number}": "route class",
    "POST /timed/body": "route class",
    "GET /named/{number}": "route class",
    "WS /socket": "WebSocket",
    **{f"{method} /starlette/{{word}}": "Starlette" for method in ("GET", "HEAD", "POST")},
    **{f"{method} /unprefixed": "Starlette" for method in ("GET", "HEAD")},
    "ANY /sub/…": "application",
}
UNSAID = [route for route in STAYS if "/timed" not in route and "/named" not in route]
