"""Security schemes: API keys, HTTP basic, bearer and digest, OAuth2, OpenID Connect, scopes."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Security, status
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    HTTPDigest,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    OpenIdConnect,
    SecurityScopes,
)
from pydantic import BaseModel

router = APIRouter()

password = OAuth2PasswordBearer(tokenUrl="token", scopes={"me": "Oneself.", "items": "Items."})
optional_password = OAuth2PasswordBearer(tokenUrl="token", auto_error=False)
code = OAuth2AuthorizationCodeBearer(authorizationUrl="authorize", tokenUrl="token")
basic = HTTPBasic()
realm = HTTPBasic(realm="é realm", auto_error=True)
optional_basic = HTTPBasic(auto_error=False)
bearer = HTTPBearer()
optional_bearer = HTTPBearer(auto_error=False)


class User(BaseModel):
    username: str
    disabled: bool = False


USERS = {"token": User(username="alice"), "disabled": User(username="bob", disabled=True)}


async def current_user(token: Annotated[str, Depends(password)]) -> User:
    user = USERS.get(token)
    if user is None:
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Invalid authentication credentials",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return user


async def active_user(user: Annotated[User, Depends(current_user)]) -> User:
    if user.disabled:
        raise HTTPException(status_code=400, detail="Inactive user")
    return user


def scoped_user(scopes: SecurityScopes, token: Annotated[str, Depends(password)]):
    return {"scopes": scopes.scopes, "text": scopes.scope_str, "token": token}


@router.get("/token")
async def read_token(token: Annotated[str, Depends(password)]):
    return {"token": token}


@router.get("/optional-token")
def read_optional_token(token: Annotated[str | None, Depends(optional_password)]):
    return {"token": token}


@router.get("/me")
async def read_me(user: Annotated[User, Depends(active_user)]) -> User:
    return user


@router.get("/scoped")
async def read_scoped(
    one: Annotated[dict, Security(scoped_user, scopes=["me"])],
    both: Annotated[dict, Security(scoped_user, scopes=["items", "me"])],
    none: Annotated[dict, Depends(scoped_user)],
):
    return [one, both, none]


@router.get("/code")
async def read_code(token: Annotated[str, Security(code)]):
    return {"token": token}


@router.post("/token")
async def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]):
    return {"access_token": form.username, "token_type": "bearer", "scopes": form.scopes}


@router.get("/basic")
def read_basic(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]):
    right = secrets.compare_digest(credentials.username.encode(), b"user")
    if not (right and secrets.compare_digest(credentials.password.encode(), b"pass")):
        raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})
    return credentials


@router.get("/basic/realm")
async def read_realm(credentials: Annotated[HTTPBasicCredentials, Security(realm)]):
    return credentials


@router.get("/basic/optional")
async def read_optional_basic(credentials: Annotated[HTTPBasicCredentials | None, Security(optional_basic)]):
    return {"credentials": credentials}


@router.get("/bearer")
async def read_bearer(credentials: Annotated[HTTPAuthorizationCredentials, Security(bearer)]):
    return {"scheme": credentials.scheme, "credentials": credentials.credentials}


@router.get("/bearer/optional")
def read_optional_bearer(credentials: Annotated[HTTPAuthorizationCredentials | None, Security(optional_bearer)]):
    return {"credentials": credentials}


@router.get("/digest")
async def read_digest(credentials: Annotated[HTTPAuthorizationCredentials, Security(HTTPDigest())]):
    return credentials


@router.get("/key/header")
async def read_key_header(key: Annotated[str, Security(APIKeyHeader(name="X-Key"))]):
    return {"key": key}


@router.get("/key/query")
async def read_key_query(key: Annotated[str, Security(APIKeyQuery(name="api_key"))]):
    return {"key": key}


@router.get("/key/cookie")
async def read_key_cookie(key: Annotated[str, Security(APIKeyCookie(name="session"))]):
    return {"key": key}


@router.get("/key/optional")
def read_key_optional(
    header: Annotated[str | None, Security(APIKeyHeader(name="X-Key", auto_error=False))],
    query: Annotated[str | None, Security(APIKeyQuery(name="api_key", auto_error=False))],
    cookie: Annotated[str | None, Security(APIKeyCookie(name="session", auto_error=False))],
):
    return {"header": header, "query": query, "cookie": cookie}


@router.get("/connect")
async def read_connect(token: Annotated[str, Security(OpenIdConnect(openIdConnectUrl="/connect"))]):
    return {"token": token}


STAYS = {"POST /token": "form"}
FAILS = {
    "GET /token", "GET /me", "GET /scoped", "GET /code", "GET /basic", "GET /basic/realm", "GET /bearer", "GET /digest",
    "GET /key/header", "GET /key/query", "GET /key/cookie", "GET /connect",
}  # fmt: skip
