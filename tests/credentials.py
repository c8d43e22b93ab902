"""Ways to say who asks: tokens, sessions and sign-in links of a host."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

import httpx

from plugbay.testing import RunningHost


def kept_token(name: str, scopes: list[str], expires: datetime) -> tuple[str, dict[str, object]]:
    """A token as the host makes them, and its record in ``tokens.json``."""
    token = "plugbay_" + hashlib.sha256(name.encode()).hexdigest()[:43]
    record = {
        "name": name,
        "scopes": scopes,
        "created": "2026-01-01T00:00:00Z",
        "expires": expires.isoformat().replace("+00:00", "Z"),
        "digest": hashlib.sha256(token.encode()).hexdigest(),
    }
    return token, record


def keep(home: Path, *records: dict[str, object]) -> None:
    """Write the tokens of a home folder."""
    home.mkdir(mode=0o700)
    (home / "tokens.json").write_text(json.dumps({"version": 1, "tokens": records}))


def link_of(host: RunningHost) -> str:
    """A fresh sign-in link, as `plugbay serve` prints one."""
    return host._host.core.sign_in_link()


def sign_in(host: RunningHost) -> str:
    """A fresh session's cookie, as ``name=value``."""
    answer = httpx.get(link_of(host))
    assert answer.status_code == 303
    return answer.headers["set-cookie"].partition(";")[0]


def added(host: RunningHost, name: str, *scopes: str) -> str:
    """The token of a new principal."""
    made = host.http.post("/api/host/tokens", json={"name": name, "scopes": scopes})
    assert made.status_code == 201, made.text
    return made.json()["token"]
