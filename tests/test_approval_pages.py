"""A call that waits for a person, answered in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from approving import ALWAYS, DENY, ONCE, Agent, link, offer, sign_in
from browsing import Browser
from credentials import added
from kit import made
from served import Served, write_plugin

from plugbay.testing import RunningHost, running_host


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with running_host(made(offer, "files"), home=tmp_path_factory.mktemp("home"), log_level="off") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def test_a_call_is_read_and_let_through_once(host: RunningHost, browser: Browser) -> None:
    sign_in(host, browser)
    agent = Agent(host, "once")
    approval = agent.waits(path="/a", pin="1234")
    assert approval["url"] == f"{host.url}/approvals/{approval['id']}"
    seen = browser.go(f"{host.url}/approvals")
    assert "files.write(/a) for once" in seen.text
    seen = browser.click(f'a[href="/approvals/{approval["id"]}"]')
    assert seen.title == "files.write(/a)"
    for part in ("once asks for this call of plugin files, over http", "changes something", '"path": "/a"', "[hidden]"):
        assert part in seen.text
    assert "1234" not in seen.text
    seen = browser.click(ONCE)
    assert (seen.status, seen.url) == (200, approval["url"])
    assert "Allowed by owner" in seen.text
    assert agent.ask(path="/a", pin="1234").json() == {"result": "wrote /a"}
    assert agent.ask(path="/a", pin="1234").status_code == 202


def test_always_keeps_the_rule_as_it_was_edited(host: RunningHost, browser: Browser) -> None:
    sign_in(host, browser)
    agent = Agent(host, "always")
    approval = agent.waits(path="/kept/1")
    seen = browser.go(approval["url"])
    browser.fill('textarea[name="rule"]', "files.write(/elsewhere)")
    seen = browser.click(ALWAYS)
    assert seen.status == 422
    assert "do not let this call through" in seen.text
    browser.click(f'a[href="/approvals/{approval["id"]}"]')
    browser.fill('textarea[name="rule"]', "files.write(/kept/*)")
    assert "Allowed by owner" in browser.click(ALWAYS).text
    assert agent.ask(path="/kept/1").json() == {"result": "wrote /kept/1"}
    assert agent.ask(path="/kept/2").json() == {"result": "wrote /kept/2"}
    kept = host.http.get("/api/host/permissions").json()["rules"]
    assert ("files.write(/kept/*)", "owner") in [(row["rule"], row["by"]) for row in kept]


def test_a_denial_tells_the_caller_why(host: RunningHost, browser: Browser) -> None:
    sign_in(host, browser)
    agent = Agent(host, "denied")
    approval = agent.waits(path="/b")
    browser.go(approval["url"])
    browser.fill('input[name="reason"]', "<not> today & never")
    assert "Denied by owner: <not> today & never" in browser.click(DENY).text
    answer = agent.ask(path="/b")
    assert answer.status_code == 403
    assert "<not> today & never" in answer.json()["detail"]


def test_what_a_caller_sends_is_text_that_can_be_seen(host: RunningHost, browser: Browser) -> None:
    sign_in(host, browser)
    agent = Agent(host, "hostile")
    evil = '</code><script>document.title="x"</script><form action="//evil"><b>\u202egnp.exe\u200b"\'&amp;'
    seen = browser.go(agent.waits(path=evil)["url"])
    assert seen.scripts == 0
    assert "<script>" in seen.title and "<script>" in seen.text
    assert "\\u{202e}gnp.exe\\u{200b}" in seen.text and "\u202e" not in seen.text
    answer = browser.click(DENY)
    assert "Denied by owner" in answer.text


def test_a_stranger_is_told_how_to_sign_in_and_nothing_else(host: RunningHost) -> None:
    approval = Agent(host, "private").waits(path="/very/private")
    with Browser() as stranger:
        for url in (approval["url"], f"{host.url}/approvals"):
            seen = stranger.go(url)
            assert seen.status == 401
            assert "plugbay sign-in" in seen.text and "private" not in seen.text
            assert f"plugbay sign-in {urlsplit(url).path}" in seen.text
        seen = stranger.go(link(host, None, approval["url"]))
        assert (seen.status, seen.url) == (200, approval["url"])
        assert "/very/private" in seen.text


ELSEWHERE = ["//elsewhere.example/", "https://elsewhere.example/", "/\\elsewhere.example", "/approvals/../x", ""]


@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_sign_in_link_leads_to_a_page_of_this_host_only(host: RunningHost, to: str) -> None:
    answer = httpx.get(link(host), params={"to": to})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_token_signs_in_as_its_principal_until_it_is_revoked(host: RunningHost) -> None:
    ann = added(host, "ann", "approve")
    agent = Agent(host, "anns-agent")
    with Browser() as browser:
        sign_in(host, browser, ann)
        approval = agent.waits(path="/c")
        browser.go(approval["url"])
        assert "Allowed by ann" in browser.click(ONCE).text
        unused = link(host, ann)
        assert host.http.delete("/api/host/tokens/ann").status_code == 204
        assert browser.go(approval["url"]).status == 401
        assert browser.go(unused).status == 401


def test_the_caller_itself_gets_no_form_and_no_answer(host: RunningHost) -> None:
    both = added(host, "both", "call", "approve")
    headers = {"Authorization": f"Bearer {both}"}
    ask = {**headers, "Prefer": "respond-async"}
    filed = host.http.post("/api/host/tools/files.write", json={"path": "/d"}, headers=ask).json()["approval"]
    with Browser() as browser:
        sign_in(host, browser, both)
        seen = browser.go(filed["url"])
        assert "not for both to give" in seen.text
    page = host.http.get(filed["url"], headers=headers)
    assert "<form" not in page.text
    form = {"digest": filed["digest"], "decision": "once"}
    answer = host.http.post(filed["url"], data=form, headers=headers)
    assert answer.status_code == 403 and "another principal" in answer.text
    agent = {"Authorization": f"Bearer {Agent(host, 'onlooker').token}"}
    assert host.http.get(filed["url"], headers=agent).status_code == 404
    assert host.http.post(filed["url"], data=form, headers=agent).status_code == 404
    state = host.http.get(f"/api/host/approvals/{filed['id']}").json()["state"]
    assert state == "pending"


def test_a_form_of_another_site_or_of_other_arguments_answers_nothing(host: RunningHost) -> None:
    filed = Agent(host, "framed").waits(path="/e")
    session = httpx.get(link(host)).headers["set-cookie"].partition(";")[0]
    form = {"digest": filed["digest"], "decision": "once"}

    def post(form: dict[str, str], **headers: str) -> httpx.Response:
        return httpx.post(filed["url"], data=form, headers={"Cookie": session, **headers})

    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert post(form, **headers).status_code == 403, headers
    own = {"Origin": host.url, "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(filed["url"], data=form).status_code == 401
    for wrong, status in (
        ({**form, "digest": "0" * 64}, 409),
        ({**form, "decision": "maybe"}, 422),
        ({"digest": filed["digest"]}, 422),
        ({**form, "more": "1"}, 422),
        ({}, 422),
    ):
        assert post(wrong, **own).status_code == status, wrong
    assert host.http.get(f"/api/host/approvals/{filed['id']}").json()["state"] == "pending"
    answer = post(form, **own)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/approvals/{filed['id']}")
    again = post(form, **own)
    assert again.status_code == 409
    typed = {"Cookie": session, "Sec-Fetch-Site": "none"}
    policy = httpx.get(filed["url"], headers=typed).headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy and "form-action 'self'" in policy


WRITE = """
def setup(host):
    host.add_agent_tool(AgentTool("files.write", "", lambda args: "wrote", side_effect=True))
"""


def test_without_authentication_a_browser_signs_in_all_the_same(tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "files", WRITE)
    with (
        Served(tmp_path / "open", "--auth", "none", plugins=tmp_path / "plugins") as served,
        Browser() as browser,
    ):
        url = served.ready().url
        headers = {"Prefer": "respond-async"}
        filed = httpx.post(f"{url}/api/host/tools/files.write", json={}, headers=headers).json()["approval"]
        served.logged(f"a call waits for a person: {re.escape(filed['url'])}")
        assert "not for local to give" in browser.go(filed["url"]).text
        assert httpx.post(f"{url}/api/host/sign-in").status_code == 403
        sign_in(served, browser)
        browser.go(filed["url"])
        assert "Allowed by owner" in browser.click(ONCE).text
