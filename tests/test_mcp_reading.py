"""Resources and prompts over MCP: each reading passes the gate and is one record, as a call without side effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from kit import PATIENCE_S, made
from mcp.shared.exceptions import MCPError
from mcp_clients import MODES, client, run
from recorded import latest, news

from plugbay import AgentTool, PluginHost, loader, registry
from plugbay.testing import RunningHost, running_host

RULES = """
[permissions]
deny = ["mcp.resource(notes://secret*)", "mcp.resource(file:///etc/*)", "mcp.prompt(forbidden)"]
ask = ["mcp.resource(notes://asked)", "mcp.prompt(asked)"]

[limits]
pending_time_s = 0.2
"""

read: list[str] = []


def setup(host: PluginHost) -> None:
    def note(id: str) -> str:
        read.append(id)
        return f"note {id}"

    def file(path: str) -> str:
        read.append(path)
        return "content"

    def review(text: str) -> str:
        """Look at a text."""
        read.append(text)
        return f"Review {text}"

    def fail() -> str:
        raise RuntimeError("no good")

    host.add_resource("notes://{id}", note, name="note", mime_type="text/markdown")
    host.add_resource("file:///{+path}", file, name="file")
    host.add_resource("info://b", fail, name="broken")
    for name in ("review", "forbidden", "asked"):
        host.add_prompt(review, name=name)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    config = tmp_path_factory.mktemp("rules") / "plugbay.toml"
    config.write_text(RULES)
    with running_host(made(setup), log_level="off", config=str(config)) as host:
        assert host.registry.errors == []
        yield host


Reading = tuple[Any, Any]
"""What was read, or ``None`` and the error's code."""


def reading(host: RunningHost, mode: str, kind: str, name: str) -> Reading:
    """Read a resource or a prompt with a client that we did not write."""

    async def work() -> Reading:
        async with client(host.url, host.token, mode) as connected:
            try:
                if kind == "resource":
                    (content,) = (await connected.read_resource(name)).contents
                    return content.text, None
                (message,) = (await connected.get_prompt(name, {"text": "this"})).messages
                return message.content.text, None
            except MCPError as error:
                return None, (error.error.data or {}).get("code", error.error.code)

    found: Reading = run(work)
    return found


class Case(NamedTuple):
    """One reading, and all that is to come of it."""

    kind: str
    name: str
    read: str | None
    told: Any
    specifier: str | None
    decision: str | None
    outcome: str
    code: str | None


ETC = "file:///srv/%2E%2e/etc/passwd"

CASES = {
    "a resource": Case("resource", "notes://a%20b", "note a b", None, "notes://a b", "allowed", "ok", None),
    "one that fails": Case("resource", "info://b", None, "plugin", "info://b", "allowed", "failed", "plugin"),
    "one that is denied": Case(
        "resource", "notes://secret", None, "denied", "notes://secret", "denied", "refused", "denied"
    ),
    "the same in other letters": Case(
        "resource", "notes://%73ecret", None, "denied", "notes://secret", "denied", "refused", "denied"
    ),
    "a way up and down": Case("resource", ETC, None, "denied", "file:///etc/passwd", "denied", "refused", "denied"),
    "one that nobody offers": Case("resource", "none://x", None, "not_found", None, None, "refused", "not_found"),
    "a prompt": Case("prompt", "review", "Review this", None, "review", "allowed", "ok", None),
    "a prompt that is denied": Case("prompt", "forbidden", None, "denied", "forbidden", "denied", "refused", "denied"),
    "a prompt that nobody offers": Case("prompt", "none", None, "not_found", None, None, "refused", "not_found"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_each_reading_is_decided_by_the_rules_and_is_one_record(host: RunningHost, name: str, mode: str) -> None:
    case = CASES[name]
    after = latest(host)
    read.clear()
    text, told = reading(host, mode, case.kind, case.name)
    assert text == case.read
    # What the protocol has its own code for needs none of ours.
    assert told == case.told or case.code == "not_found"
    assert (read == []) == (case.read is None)
    (record,) = news(host, after, 1)
    assert (record["door"], record["principal"], record["tool"]) == ("mcp", "owner", f"mcp.{case.kind}")
    assert (record["specifier"], record["decision"], record["outcome"], record["code"]) == case[4:]
    if case.decision is not None:
        assert (record["plugin"], record["side_effect"]) == ("demo", False)
        prompt = {"name": case.name, "arguments": {"text": "this"}}
        assert record["arguments"] == ({"uri": case.name} if case.kind == "resource" else prompt)
    assert (record["rule"] is not None) == (case.decision == "denied")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "name"), [("resource", "notes://asked"), ("prompt", "asked")])
def test_a_reading_that_a_person_is_asked_about_is_pending_and_then_joins_its_approval(
    host: RunningHost, kind: str, name: str, mode: str
) -> None:
    who = f"ann-{mode}-{kind}"
    made = host.http.post("/api/host/tokens", json={"name": who, "scopes": ["approve"]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    after = latest(host)
    assert reading(host, mode, kind, name) == (None, "approval_pending")
    with httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S) as person:
        (waiting,) = person.get("/api/host/approvals").raise_for_status().json()["approvals"]
        assert (waiting["tool"], waiting["specifier"]) == (f"mcp.{kind}", name)
        said = {"digest": waiting["digest"], "decision": "once"}
        assert person.post(f"/api/host/approvals/{waiting['id']}", json=said).status_code == 200
    assert reading(host, mode, kind, name)[1] is None
    first, second = news(host, after, 2)
    assert (first["decision"], first["code"], first["approval"]) == ("asked_pending", "approval_pending", waiting["id"])
    assert (second["decision"], second["outcome"], second["answered_by"]) == ("asked_allowed", "ok", who)


@pytest.mark.parametrize("kind", ["resource", "prompt"])
def test_a_rule_with_a_star_is_one_of_what_is_read_too(host: RunningHost, kind: str) -> None:
    name = {"resource": "notes://a", "prompt": "review"}[kind]
    rule = host.http.post("/api/host/permissions/rules", json={"list": "deny", "rule": "*"}).raise_for_status().json()
    assert reading(host, "auto", kind, name) == (None, "denied")
    host.http.delete(f"/api/host/permissions/rules/{rule['id']}").raise_for_status()
    assert reading(host, "auto", kind, name)[1] is None


def test_the_rules_say_what_they_say_of_a_reading(host: RunningHost) -> None:
    def explained(tool: str, **arguments: Any) -> dict[str, Any]:
        asked = {"tool": tool, "arguments": arguments}
        told: dict[str, Any] = host.http.post("/api/host/permissions/explain", json=asked).raise_for_status().json()
        return told

    assert explained("mcp.resource", uri="notes://secret/1")["rule"]["rule"] == "mcp.resource(notes://secret*)"
    assert explained("mcp.resource", uri="notes://a")["decision"] == "allow"
    assert explained("mcp.prompt", name="asked")["decision"] == "ask"
    assert host.http.post("/api/host/permissions/lint").json()["findings"] == []
    assert reading(host, "auto", "resource", "notes://a") == ("note a", None)
    replay = host.http.get("/api/host/audit/simulate", params={"since": "1d"}).raise_for_status().json()
    assert replay["verdicts"]["allow"] > 0
    assert replay["unjudged"] == {}


def test_no_plugin_takes_the_names_of_what_is_read(host: RunningHost) -> None:
    def takes(own: PluginHost) -> None:
        own.add_agent_tool(AgentTool("mcp.resource", "Not this.", lambda args: None))

    try:
        loader.load([loader.Given("test", made(takes, "taker"))])
        (error,) = registry.errors
        assert (error.plugin, error.code) == ("taker", "conflict")
        assert "belongs to the host" in error.message
    finally:
        loader.let_go()
