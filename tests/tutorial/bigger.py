"""Bigger applications: routers in routers, with prefixes, tags, dependencies, responses and classes of their own."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Path
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel


async def needs_token(x_token: Annotated[str, Header(examples=["secret"])]):
    if x_token != "secret":
        raise HTTPException(status_code=400, detail="X-Token header invalid")


def needs_query(token: str = "jessica"):
    if token != "jessica":
        raise HTTPException(status_code=400, detail="No Jessica token provided")
    return token


class Item(BaseModel):
    name: str
    note: str | None = None


users = APIRouter(tags=["users"])
items = APIRouter(
    prefix="/items", tags=["items"], dependencies=[Depends(needs_token)], responses={404: {"description": "No"}}
)
admin = APIRouter(default_response_class=PlainTextResponse, deprecated=True)
tenants = APIRouter(prefix="/tenants/{tenant}")
deep = APIRouter(prefix="/deep")
shared = APIRouter()
hidden = APIRouter(include_in_schema=False)


@users.get("/users")
async def read_users(order: str = "up"):
    return [{"username": "Rick"}, {"username": order}]


@users.get("/users/me")
def read_me():
    return {"username": "me"}


@users.get("/users/{username}")
async def read_user(username: str):
    return {"username": username}


@items.get("")
async def read_items():
    return {"plumbus": {"name": "Plumbus"}}


@items.get("/")
async def read_items_slash():
    return {"slash": True}


@items.get("/{item_id}")
async def read_item(item_id: str):
    if item_id == "gone":
        raise HTTPException(status_code=404, detail="Item not found")
    return {"item_id": item_id}


@items.put(
    "/{item_id}", tags=["custom"], responses={403: {"description": "Forbidden"}}, response_model_exclude_unset=True
)
def update_item(item_id: str, item: Item, token: Annotated[str, Depends(needs_query)]) -> Item:
    if item_id == "plumbus":
        raise HTTPException(status_code=403, detail="You can only update plumbus")
    return item


@admin.post("")
async def update_admin():
    return "Admin getting schwifty"


@admin.get("/json", response_class=PlainTextResponse, status_code=202)
def admin_text():
    return "text"


@tenants.get("/info")
async def tenant_info(tenant: Annotated[int, Path(ge=1)], page: int = 1):
    return {"tenant": tenant, "page": page}


@tenants.get("/untold")
async def tenant_untold():
    return {"untold": True}


@deep.get("/{number}")
async def read_deep(number: int, tenant: str):
    return {"number": number, "tenant": tenant}


@deep.get("/fixed/value")
async def read_fixed():
    return {"fixed": True}


@shared.get("/shared")
async def read_shared():
    return {"shared": True}


@shared.post("/shared")
async def write_shared(item: Item):
    return item


@hidden.get("/hidden")
async def read_hidden(n: int = 0):
    return {"hidden": n}


@hidden.get("/hidden/{number}")
def read_hidden_number(number: int):
    return {"hidden": number}


# The same path in two routers, with another method, and with the same one: the first has it.
twice = APIRouter()


@twice.get("/users/{username}")
async def read_user_twice(username: str):
    return {"never": username}


@twice.delete("/users/{username}")
async def delete_user(username: int):
    return {"deleted": username}


tenants.include_router(deep, dependencies=[Depends(needs_query)])
tenants.include_router(shared, prefix="/one", tags=["one"])
tenants.include_router(shared, prefix="/two", dependencies=[Depends(needs_token)])

router = APIRouter()
router.include_router(users)
router.include_router(items)
router.include_router(admin, prefix="/admin", dependencies=[Depends(needs_token)], tags=["admin"])
router.include_router(tenants)
router.include_router(shared)
router.include_router(hidden)
router.include_router(twice)


@router.get("")
async def root():
    return {"root": True}


@router.get("/late/{number}", dependencies=[Depends(needs_query)])
def late(number: int):
    return {"late": number}


def _asks():
    from twins import Ask, place_of

    place = place_of("bigger").encode()
    for path in (
        b"/hidden",
        b"/hidden?n=x",
        b"/hidden/5",
        b"/hidden/x",
        b"/hidden/",
        b"",
        b"/",
        b"/items",
        b"/items/",
        b"/items//",
    ):
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            yield Ask(method, place + path)
            yield Ask(method, place + path, ((b"x-token", b"secret"),))


def __getattr__(name: str):
    if name == "ASKS":
        return list(_asks())
    raise AttributeError(name)


# The last is never reached: another router has it before.
UNSAID = ["GET /hidden", "GET /hidden/{number}", "GET /users/{username}"]
