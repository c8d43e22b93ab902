"""How a browser comes to a session, from where, and how the session ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from approving import ONCE, Agent, link, offer, sign_in
from browsing import Browser
from credentials import added
from kit import made

from plugbay.testing import RunningHost, running_host

NAME = "plugbay.example"
"""A name that a browser trusts as little as an address in a network: no Sec-Fetch headers, no secure context."""

SIGN_OUT = 'form[action="/sign-out"] button'


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    home = tmp_path_factory.mktemp("home")
    with running_host(made(offer, "files"), home=home, log_level="off", allow_host=[NAME]) as running:
        yield running


@contextmanager
def other_site(body: str) -> Iterator[str]:
    """A page of another site, at its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        # The host is at 127.0.0.1, which is another site.
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def offered(host: RunningHost, token: str) -> str:
    """A fresh sign-in link of whoever has the token."""
    answer = httpx.post(f"{host.url}/api/host/sign-in", headers={"Authorization": f"Bearer {token}"})
    return host.url + str(answer.json()["path"])


def answerer(host: RunningHost, browser: Browser, name: str) -> str:
    """As whom the pages take a browser."""
    filed = Agent(host, name).waits(path=f"/{name}")
    seen = browser.go(filed["url"])
    assert seen.status == 200, seen
    return seen.text.partition("Answering as ")[2].partition(":")[0]


def test_over_plain_http_by_a_name_or_address_that_is_not_loopback_calls_are_answered(host: RunningHost) -> None:
    there = host.url.replace("127.0.0.1", NAME)
    agent = Agent(host, "remote")
    filed = agent.waits(path="/remote")
    page = filed["url"].replace(host.url, there)
    with Browser(f"MAP {NAME} 127.0.0.1") as browser:
        assert browser.go(page).status == 401
        seen = browser.go(link(host, None, page).replace(host.url, there))
        assert (seen.status, seen.url, seen.title) == (200, page, "files.write(/remote)")
        assert browser.go(f"{there}/approvals").status == 200
        seen = browser.click(f'a[href="/approvals/{filed["id"]}"]')
        assert seen.status == 200
        assert "Allowed by owner" in browser.click(ONCE).text
        assert agent.ask(path="/remote").json() == {"result": "wrote /remote"}
        assert browser.go(f"{there}/docs").status == 200
        browser.go(f"{there}/")
        assert browser.click(SIGN_OUT).title == "Signed out"
        assert browser.go(page).status == 401


@pytest.mark.parametrize("page", ["/", "/approvals"])
def test_a_browser_signs_out_where_it_is_and_nowhere_else(host: RunningHost, page: str) -> None:
    with Browser() as browser, Browser() as other:
        for each in (browser, other):
            sign_in(host, each)
        browser.go(host.url + page)
        seen = browser.click(SIGN_OUT)
        assert (seen.status, seen.title) == (200, "Signed out")
        assert browser.go(host.url + page).status == 401
        assert other.go(host.url + page).status == 200


def test_a_form_whose_session_is_over_says_so_as_a_page(host: RunningHost) -> None:
    token = added(host, "brief", "call")
    with Browser() as browser:
        sign_in(host, browser, token)
        browser.go(f"{host.url}/approvals")
        host.http.delete("/api/host/tokens/brief").raise_for_status()
        seen = browser.click(SIGN_OUT)
        assert (seen.status, seen.title) == (401, "Not signed in")


def test_a_page_of_another_site_changes_no_session_unseen_and_its_link_works_by_one_more_click(
    host: RunningHost,
) -> None:
    mallory = offered(host, added(host, "mallory", "call", "approve"))
    body = f'<img src="{mallory}"><iframe src="{mallory}"></iframe><a href="{mallory}?to=/approvals">look here</a>'
    with Browser() as browser, other_site(body) as elsewhere:
        sign_in(host, browser)
        browser.go(elsewhere)
        assert answerer(host, browser, "first") == "owner"
        browser.go(elsewhere)
        seen = browser.click("a")
        assert (seen.status, seen.title) == (200, "Sign in?")
        assert "Sign this browser in as mallory" in seen.text
        assert answerer(host, browser, "second") == "owner"
        # Nothing of that has used it up.
        browser.go(elsewhere)
        browser.click("a")
        seen = browser.click("a")
        assert (seen.status, seen.url) == (200, f"{host.url}/approvals")
        assert answerer(host, browser, "third") == "mallory"


def test_a_preview_leaves_the_link_to_the_person(host: RunningHost) -> None:
    unused = link(host)
    for said in ({"Sec-Fetch-Dest": "image"}, {"Sec-Fetch-Dest": "document", "Sec-Purpose": "prefetch;prerender"}):
        answer = httpx.get(unused, headers={"Sec-Fetch-Site": "none", **said})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        assert "open it as one" in answer.text
    with Browser() as browser:
        seen = browser.go(unused)
        assert (seen.status, seen.url) == (200, f"{host.url}/")
