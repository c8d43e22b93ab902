"""Who may ask what: every path that the host knows, with every kind of credential."""

from __future__ import annotations

import http.client
import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from credentials import added, keep, kept_token, link_of, sign_in
from raw import HANDSHAKE, WAIT_S, request, say
from websockets.exceptions import InvalidStatus

from plugbay import listing
from plugbay.testing import RunningHost, running_host

ROOT = Path(__file__).parents[1]
EVERYTHING = ROOT / "tests" / "plugins" / "everything.py"

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
UPGRADE = "upgrade"
"""Stands among the methods for a GET that asks for a WebSocket."""

FILLED = {"id": "everything", "name": "nobody-here", "code": "no-such-code", "file": "index.html", "path": "page.html"}
"""What stands for a placeholder in a path; a call of a tool needs a real one."""

RULES = "/api/host/permissions/rules"
"""Where rules are changed, which needs two scopes."""

ABSENT = ["/unknown", "/api", "/api/nobody", "/api/host", "/api/host/unknown", "/plugin-ws/everything"]
"""Paths that nobody answers: they must not say so to strangers."""


class Credential(NamedTuple):
    """One way to say who asks."""

    name: str
    headers: dict[str, str]
    scopes: set[str] | None
    """What it may do; ``None`` when it is nobody's."""
    refusal: int = 401
    """The status when it counts for nothing."""
    query: str = ""


class Host(NamedTuple):
    """A host, and the credentials that there are."""

    running: RunningHost
    credentials: list[Credential]
    cookie: str

    @property
    def url(self) -> str:
        return self.running.url


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    home = tmp_path_factory.mktemp("access") / "home"
    expired, record = kept_token("late", ["call", "approve", "admin"], datetime(2026, 1, 2, tzinfo=UTC))
    keep(home, record)
    # Many calls with side effects are made here, and none is to be asked for.
    calm = {"breaker_calls": 100_000}
    with running_host(EVERYTHING, home=home, mode="autonomous", log_level="error", limits=calm) as running:
        assert running.registry.errors == []

        def bearer(token: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {token}"}

        revoked = added(running, "gone", "call", "approve", "admin")
        running.http.delete("/api/host/tokens/gone").raise_for_status()
        cookie = sign_in(running)
        every = {"call", "approve", "admin"}
        credentials = [
            Credential("none", {}, None),
            Credential("wrong bearer", bearer("plugbay_" + "x" * 43), None),
            Credential("a bearer of another house", bearer("eyJhbGciOi"), None),
            Credential("revoked", bearer(revoked), None),
            Credential("expired", bearer(expired), None),
            Credential("call only", bearer(added(running, "caller", "call")), {"call"}),
            Credential("approve only", bearer(added(running, "approver", "approve")), {"approve"}),
            Credential("admin only", bearer(added(running, "keeper", "admin")), {"admin"}),
            Credential("owner", bearer(running.token), every),
            Credential("cookie, own origin", {"Cookie": cookie, "Origin": running.url}, every),
            Credential("cookie, no origin", {"Cookie": cookie}, None, 403),
            Credential("cookie, foreign origin", {"Cookie": cookie, "Origin": "http://evil.example"}, None, 403),
            Credential("token in the query", {}, every, query=f"?token={running.token}"),
        ]
        yield Host(running, credentials, cookie)


def known_paths(host: RunningHost) -> list[str]:
    """Every path that the host knows: its own routes as the source declares them, then what the plugins offer."""
    sources = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src/edge").glob("*.rs")))
    declared = re.findall(r"\.route\(\s*\"([^\"]+)\"", sources)
    assert len(declared) > 12, declared
    own = [re.sub(r"\{\*?(\w+)\}", lambda found: FILLED[found[1]], path) for path in declared]
    tools = [f"/api/host/tools/{name}" for name in host.registry.agent_tools]
    routes = [re.sub(r"\{\w+(:path)?\}", "1", row["path"]) for row in listing.routes_here()]
    documented = [re.sub(r"\{\w+\}", "1", path) for path in host.http.get("/openapi.json").json()["paths"]]
    below = [f"{mount}{rest}" for mount in ("/api/plugins/everything", "/api/everything-app") for rest in ("", "/none")]
    found = [*own, "/metrics", *tools, *routes, *documented, *below, *ABSENT]
    return list(dict.fromkeys(found))


def need(method: str, path: str) -> str | None:
    """What a question needs, as the documents say: a scope, ``known``, or nothing."""
    if path in ("/healthz", "/readyz") or path.startswith(("/sign-in/", "/.well-known/oauth-protected-resource")):
        return None
    if path.startswith(("/api/host/tokens", "/api/host/audit", "/api/host/permissions")):
        return "admin"
    if path.startswith("/api/host/plugins") and (path.count("/") > 4 or method not in ("GET", "HEAD", UPGRADE)):
        return "admin"
    if path.startswith("/api/host/tools") and method == "POST":
        return "call"
    if path == "/api/host" or path.startswith("/api/host/"):
        return "known"
    if path == "/api" or path.startswith(("/api/", "/plugin-ws/", "/mcp")):
        return "call"
    return "known"


def is_shown(path: str) -> bool:
    """Whether browsers come to a path also from where they say nothing of themselves: over plain HTTP."""
    return path in ("/", "/docs", "/openapi.json", "/approvals") or path.startswith(("/docs/", "/approvals/"))


def expected(credential: Credential, method: str, path: str) -> int | None:
    """The status that a question must be refused with; ``None`` when it must not be refused."""
    asked = need(method, path)
    foreign = credential.headers.get("Origin", "").startswith("http://evil")
    if asked is None and not foreign:
        return None
    scopes = credential.scopes
    if credential.name == "cookie, no origin" and method in ("GET", "HEAD", UPGRADE) and is_shown(path):
        return None
    if credential.query and method != UPGRADE:
        scopes = None
    if scopes is None:
        return credential.refusal
    if (method, path) in (("POST", RULES), ("DELETE", f"{RULES}/{FILLED['id']}")):
        return None if {"admin", "approve"} <= scopes else 403
    return None if asked in ("known", *scopes) else 403


def headers_of(host: Host, credential: Credential, path: str) -> dict[str, str]:
    """The headers of a question; one that ends a session has a session of its own."""
    if path == "/sign-out" and "Cookie" in credential.headers:
        return {**credential.headers, "Cookie": sign_in(host.running)}
    return credential.headers


def test_every_path_lets_in_those_who_may_and_nobody_else(host: Host) -> None:
    line = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=WAIT_S)
    surprises = []
    paths = known_paths(host.running)
    for path, credential, method in itertools.product(paths, host.credentials, METHODS):
        line.request(method, path + credential.query, headers=headers_of(host, credential, path))
        answer = line.getresponse()
        answer.read()
        refusal = expected(credential, method, path)
        if path.startswith("/sign-in/") and method == "GET" and refusal is None:
            # Everybody may come; a code that is none is still refused.
            refusal = 401
        if (answer.status in (401, 403, 421)) if refusal is None else (answer.status != refusal):
            surprises.append(f"{method} {path}, {credential.name}: {answer.status}, not {refusal or 'let in'}")
    line.close()
    assert surprises == []
    assert len(paths) > 30


def test_every_path_asked_for_a_websocket_lets_in_those_who_may_and_nobody_else(host: Host) -> None:
    surprises, opened = [], set()
    for path, credential in itertools.product(known_paths(host.running), host.credentials):
        if path.startswith("/sign-in/"):
            continue
        answer = say(host.url, request(host.url, path + credential.query, [*HANDSHAKE, *credential.headers.items()]))
        assert answer is not None, path
        refusal = expected(credential, UPGRADE, path)
        if answer.status == 101:
            opened.add(path)
        # A FastAPI router says 403 to a WebSocket on a path that has none, but not as a problem.
        refused = answer.status in (401, 403, 421) and b"application/problem+json" in answer.head
        if refused if refusal is None else (answer.status != refusal):
            surprises.append(f"{path}, {credential.name}: {answer.status}, not {refusal or 'let in'}")
    assert surprises == []
    # A plugin without a server is told so by a close, after the handshake.
    assert opened == {"/ws", "/api/plugins/everything/sock/1", "/plugin-ws/everything"}


def test_a_path_written_in_another_way_needs_no_less(host: Host) -> None:
    """Whoever may not come to a path may not come to it by another spelling either."""
    spellings = [
        "/api/host/tokens/", "//api/host/tokens", "/api//host/tokens", "/api/host/../host/tokens",
        "/api/host/%74okens", "/API/HOST/TOKENS", "/api/host/tokens%2f", "/healthz/../api/host/tokens",
        "/healthz/%2e%2e/api/host/tokens", "/sign-in/../api/host/tokens", "/api/host/tokens;x", "/./api/host/tokens",
        "/api/plugins/everything/../../host/tokens", "/healthz%00/api/host/tokens", "/api/host\\tokens",
        "/healthz?/../api/host/tokens", "/healthz#/api/host/tokens",
    ]  # fmt: skip
    for path in spellings:
        for credential in host.credentials:
            if credential.scopes is not None and "admin" in credential.scopes:
                continue
            answer = say(host.url, request(host.url, path, credential.headers.items()))
            assert answer is None or b'"tokens":' not in answer.body, (path, credential.name, answer)


HOSTILE_ORIGINS = [
    "null", "http://evil.example", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}@evil.example", "http://localhost.evil.example:{port}", "http://[::1]:{port}",
    "http://127.1:{port}", "file://", "http://LOCALHOST.:{port}", "chrome-extension://abcdef",
]  # fmt: skip
HOSTILE_HOSTS = ["evil.example", "evil.example:{port}", "localhost.evil.example:{port}", "127.0.0.1:1", "127.1:{port}"]


@pytest.mark.parametrize("path", ["/ws", "/api/plugins/everything/sock/1", "/api/plugins/everything/plain"])
def test_no_hostile_page_and_no_rebound_name_gets_in_with_any_credential(host: Host, path: str) -> None:
    port = host.url.rpartition(":")[2]
    own = [{"Authorization": f"Bearer {host.running.token}"}, {"Cookie": host.cookie}]
    for name, values, status in (("Origin", HOSTILE_ORIGINS, 403), ("Host", HOSTILE_HOSTS, 421)):
        for value, credential in itertools.product(values, own):
            hostile = {name: value.format(port=port), **credential}
            assert httpx.get(host.url + path, headers=hostile).status_code == status, hostile
            if "plain" not in path:
                answer = say(host.url, request(host.url, path, [*HANDSHAKE, *hostile.items()]))
                assert answer is not None
                assert answer.status == status, hostile


def test_a_library_that_names_a_hostile_origin_is_refused_its_websocket(host: Host) -> None:
    with pytest.raises(InvalidStatus) as refused:
        host.running.websocket("/ws", origin="http://evil.example")
    assert refused.value.response.status_code == 403
    with host.running.websocket("/ws", origin=host.url) as socket:
        assert json.loads(socket.recv())["event"] == "hello"


SITES = [None, "same-origin", "none", "same-site", "cross-site", "", "Same-Origin", "same-origin, cross-site"]
MODES = [None, "cors", "no-cors", "navigate", "same-origin", "websocket"]
DESTINATIONS = [None, "empty", "document", "image"]


def test_a_cookie_counts_only_for_the_hosts_own_pages_whatever_else_a_browser_says(host: Host) -> None:
    origins = {None: True, host.url: True, "http://evil.example": False, "null": False}
    line = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=WAIT_S)
    for site, mode, destination, origin in itertools.product(SITES, MODES, DESTINATIONS, origins):
        said = {
            "Cookie": host.cookie,
            "Origin": origin,
            "Sec-Fetch-Site": site,
            "Sec-Fetch-Mode": mode,
            "Sec-Fetch-Dest": destination,
        }
        headers = {name: value for name, value in said.items() if value is not None}
        line.request("POST", "/api/host/tools/everything.write", '{"path": "x"}', headers)
        answer = line.getresponse()
        answer.read()
        own = origins[origin] and (site in ("same-origin", "none") or (site is None and origin is not None))
        assert answer.status == (200 if own else 403), headers
    line.close()


def test_two_different_words_about_the_site_are_as_good_as_a_foreign_one(host: Host) -> None:
    for sites in (["same-origin", "cross-site"], ["cross-site", "same-origin"]):
        headers = [("Cookie", host.cookie), *(("Sec-Fetch-Site", site) for site in sites)]
        answer = say(host.url, request(host.url, "/api/host/status", headers))
        assert answer is not None
        assert answer.status == 403, sites


def test_a_sign_in_link_signs_one_browser_in_and_is_then_used_up(host: Host) -> None:
    link = link_of(host.running)
    page = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with httpx.Client(base_url=host.url, headers=page) as browser:
        assert browser.head(link).status_code == 204
        came = browser.get(link, follow_redirects=True)
        assert [hop.status_code for hop in came.history] == [303]
        assert (came.status_code, came.url.path) == (200, "/")
        cookie = came.history[0].headers["set-cookie"]
        assert re.fullmatch(r"plugbay_[0-9a-f]{8}=[\w-]{40,}; Path=/; HttpOnly; SameSite=Strict", cookie)
        assert host.running.token not in cookie
        own = {"Sec-Fetch-Site": "same-origin", "Origin": host.url}
        called = browser.post("/api/host/tools/everything.echo", json={"text": "hi"}, headers=own)
        assert called.json() == {"result": "hi"}
    with httpx.Client(base_url=host.url, headers=page) as thief:
        late = thief.get(link)
        assert (late.status_code, "set-cookie" in late.headers) == (401, False)
        assert "older than ten minutes" in late.text
        assert thief.get("/").status_code == 401
