"""Permissions at the front door: rules in the settings, on the command line, and people who are asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import PATIENCE_S, Command, made
from raw import Socket
from served import write_plugin

from plugbay import AgentTool, PluginHost, _core
from plugbay.testing import RunningHost, running_host

Rule = tuple[str, str]

TEXT = {"path": {"type": "string"}, "pin": {"type": "string", "format": "password"}}

ALONE = """\
from plugbay import AgentTool, BackendPlugin, PluginManifest
class P(BackendPlugin):
    manifest = PluginManifest("files", "Files")
    def setup(self, host):
        path = {"path": {"type": "string"}}
        host.add_agent_tool(AgentTool("files.write", "", lambda args: "wrote", path, side_effect=True,
                                      specifier_template="{path}"))
        host.add_agent_tool(AgentTool("files.read", "", lambda args: "read", path))
PLUGIN = P()
"""


def offer(host: PluginHost) -> None:
    host.add_agent_tool(
        AgentTool("files.write", "Write.", lambda args: "wrote", TEXT, side_effect=True, specifier_template="{path}")
    )
    host.add_agent_tool(AgentTool("files.read", "Read.", lambda args: "read", TEXT))


@pytest.fixture
def host() -> Iterator[RunningHost]:
    with running_host(made(offer, "files"), log_level="off") as host:
        assert host.registry.errors == []
        yield host


def token(host: RunningHost, name: str, *scopes: str) -> str:
    answer = host.http.post("/api/host/tokens", json={"name": name, "scopes": scopes})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def run(host: RunningHost, *words: str, who: str, given: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "plugbay", *words, "--url", host.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PLUGBAY_TOKEN": who},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    process.stdin = None
    return process


# The engine and its model.


def fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def model(mode: str, rules: list[Rule], tool: dict[str, Any], arguments: dict[str, str], tripped: str | None) -> str:
    """What the documents say, in twenty lines."""
    templated = tool["specifier_template"] is not None
    known = arguments.get("path")

    def says(which: str) -> int:
        found = 0
        for where, rule in rules:
            name, _, rest = rule.partition("(")
            if where == which and fits(name, tool["name"]):
                pattern = rest[:-1]
                surely = not rest or (templated and fits(pattern, "\0" if known is None else known))
                perhaps = templated and known is None and which != "allow"
                found = max(found, 2 if surely and (not rest or known is not None or which != "allow") else perhaps)
        return found

    if says("deny") == 2 or (mode == "plan" and tool["side_effect"]):
        return "deny"
    if says("ask") == 2 or says("deny") or says("ask"):
        return "ask"
    if not tool["side_effect"]:
        return "allow"
    return "ask" if tripped else "allow" if mode == "autonomous" or says("allow") else "ask"


LISTS = st.sampled_from(["deny", "ask", "allow"])
RULES = st.lists(
    st.tuples(
        LISTS,
        st.builds(
            lambda name, scope: name + scope,
            st.sampled_from(["files.write", "files.*", "*", "other", "f*.w*"]),
            st.sampled_from(["", "(*)", "(/a)", "(/a*)", "(*b)", "(/c)"]),
        ),
    ),
    max_size=6,
)


@given(
    mode=st.sampled_from(["default", "plan", "autonomous"]),
    rules=RULES,
    side_effect=st.booleans(),
    template=st.sampled_from([None, "{path}"]),
    path=st.one_of(st.none(), st.text("/abc", max_size=4)),
    tripped=st.sampled_from([None, "too_many_calls"]),
)
def test_the_engine_agrees_with_the_model(
    mode: str, rules: list[Rule], side_effect: bool, template: str | None, path: str | None, tripped: str | None
) -> None:
    tool = {"name": "files.write", "side_effect": side_effect, "specifier_template": template}
    arguments = {} if path is None else {"path": path}
    question = {
        "mode": mode, "tool": tool, "arguments": arguments, "tripped": tripped,
        "rules": [{"list": where, "rule": rule} for where, rule in rules],
    }  # fmt: skip
    told = json.loads(_core.explain(json.dumps(question)))
    assert told["decision"] == model(mode, rules, tool, arguments, tripped), told


@given(
    values=st.tuples(st.text(max_size=8), st.text(max_size=8)),
    others=st.tuples(st.text(max_size=8), st.text(max_size=8)),
    template=st.sampled_from(["{a} {b}", "{a}:{b}", "{a} to {b}"]),
)
def test_no_two_calls_have_one_specifier(values: tuple[str, str], others: tuple[str, str], template: str) -> None:
    def specifier(pair: tuple[str, str]) -> str:
        tool = {"name": "t", "specifier_template": template}
        question = {"mode": "plan", "rules": [], "tool": tool, "arguments": dict(zip("ab", pair, strict=True))}
        return str(json.loads(_core.explain(json.dumps(question)))["specifier"])

    assert (values == others) == (specifier(values) == specifier(others))


# Rules of the settings.


def test_a_host_with_a_rule_that_cannot_work_does_not_start(home: Path, tmp_path: Path, plugbay) -> None:
    config = tmp_path / "plugbay.toml"
    config.write_text('port = 0\n[permissions]\ndeny = [\n  "files.*",\n]\nallow = ["files.read", "b(", "c"]\n')
    ended = plugbay("serve", "--config", config)
    assert ended.returncode == 2
    assert f'{config}:6: allow rule "files.read": it can never decide' in ended.stderr
    assert f'{config}:6: allow rule "b(" is not valid' in ended.stderr
    assert '"c"' not in ended.stderr
    for text, part in [
        ("[permissions]\ndenny = []\n", "plugbay.toml:2"),
        ("[permissions]\nallow = 5\n", "plugbay.toml:2"),
        ('mode = "plan"\n[permissions]\nmode = "plan"\n', "given twice"),
        ('[permissions]\nmode = "bold"\n', "default, plan, autonomous"),
    ]:
        config.write_text(text)
        ended = plugbay("serve", "--config", config)
        assert ended.returncode == 2, text
        assert part in ended.stderr, ended.stderr


def test_a_rule_that_no_tool_fits_is_among_the_errors_with_its_line(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "plugbay.toml"
    config.write_text(
        '[permissions]\ndeny = [\n  "files.read(/etc/*)",\n  "files.raed",\n  "mail.send",\n]\n'
        'allow = ["files.write(/data/*)"]\n'
    )
    with running_host(made(offer, "files"), config=str(config), log_level="off") as host:
        found = [(error.source, error.code) for error in host.registry.errors]
        assert found == [(f"{config}:3", "invalid"), (f"{config}:4", "invalid")]
        assert "has no specifier template" in host.registry.errors[0].message
        assert 'did you mean "files.read"' in host.registry.errors[1].message
        told = host.http.get("/api/host/permissions").json()
        assert [row["severity"] for row in told["findings"]] == ["error", "error", "warning"]
        assert host.http.post("/api/host/tools/files.write", json={"path": "/data/x"}).json() == {"result": "wrote"}


def test_a_template_that_names_no_argument_is_its_plugins_error() -> None:
    def wrong(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("t", "", lambda args: 1, TEXT, side_effect=True, specifier_template="{pth}"))

    def unread(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("u", "", lambda args: 1, TEXT, side_effect=True, specifier_template="{path"))

    def telling(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("v", "", lambda args: 1, TEXT, side_effect=True, specifier_template="{pin}"))

    plugins = (made(wrong, "one"), made(unread, "two"), made(telling, "three"))
    with running_host(*plugins, log_level="off") as host:
        first, second, third = host.registry.errors
        assert "marks as secret" in third.message
        assert 'names "pth", which is none of its arguments' in first.message
        assert "is not closed" in second.message


# People who are asked.


def test_a_person_answers_on_the_command_line(host: RunningHost) -> None:
    person, agent = token(host, "ann", "approve"), token(host, "agent", "call")
    call = run(host, "tool", "call", "files.write", '{"path": "/a", "pin": "secret"}', who=agent)
    assert call.stderr is not None
    line = call.stderr.readline()
    assert line.startswith("files.write waits for a person") and "/approvals/" in line
    watch = run(host, "approvals", who=person, given="what\ny\n")
    out, err = call.communicate(timeout=PATIENCE_S)
    assert (call.returncode, json.loads(out)) == (0, "wrote"), err
    out, err = watch.communicate(timeout=PATIENCE_S)
    assert "agent wants files.write(/a)" in out and "allowed: files.write(/a)" in out, out + err
    assert "[hidden]" in out and "secret" not in out


def test_with_nothing_to_ask_and_nobody_to_answer_the_list_ends(host: RunningHost) -> None:
    ended = run(host, "approvals", who=token(host, "dan", "approve"))
    assert ended.communicate(timeout=PATIENCE_S)[0] == ""
    assert ended.returncode == 0
    # Who asks cannot answer, and is not asked again and again.
    headers = {"Authorization": f"Bearer {host.token}", "Prefer": "respond-async"}
    assert host.http.post("/api/host/tools/files.write", json={"path": "/o"}, headers=headers).status_code == 202
    ended = run(host, "approvals", who=host.token, given="y\n")
    assert "PLUGBAY_TOKEN=… plugbay approvals" in ended.communicate(timeout=PATIENCE_S)[1]


def test_a_scope_that_there_is_not_is_an_error_of_the_command(host: RunningHost) -> None:
    ended = run(host, "token", "add", "eva", "--scope", "cal", who=host.token)
    assert "'cal' is none of call, approve, admin" in ended.communicate(timeout=PATIENCE_S)[1]
    assert ended.returncode == 2


def test_an_answer_by_its_id_and_always_with_a_rule_of_ones_own(host: RunningHost) -> None:
    person, agent = token(host, "bob", "approve"), token(host, "second", "call")
    headers = {"Authorization": f"Bearer {agent}", "Prefer": "respond-async"}
    filed = host.http.post("/api/host/tools/files.write", json={"path": "/b/1"}, headers=headers)
    assert filed.status_code == 202
    id = filed.json()["approval"]["id"]
    words = ["approvals", "answer", id, "always", "--rule", "files.write(/b/*)"]
    ended = run(host, *words, who=agent)
    out, err = ended.communicate(timeout=PATIENCE_S)
    assert (ended.returncode, out) == (1, "") and "approve" in err
    ended = run(host, *words, who=person)
    assert ended.communicate(timeout=PATIENCE_S)[0] == "allowed: files.write(/b/1)\n"
    for path in ("/b/1", "/b/2"):
        answer = host.http.post("/api/host/tools/files.write", json={"path": path}, headers=headers)
        assert answer.json() == {"result": "wrote"}
    kept = host.http.get("/api/host/permissions").json()["rules"]
    assert [(row["rule"], row["by"]) for row in kept] == [("files.write(/b/*)", "bob")]
    listed = run(host, "perms", "list", who=host.token)
    assert "files.write(/b/*)" in listed.communicate(timeout=PATIENCE_S)[0]


CALLER = """\
import sys
from plugbay import ToolError, connect
try:
    connect(sys.argv[1], sys.argv[2]).tools["files.write"](path="/c")
except ToolError as error:
    print(error.code, error.message)
"""


def test_a_console_of_another_process_waits_and_is_told_a_denial(host: RunningHost) -> None:
    person, agent = token(host, "eve", "approve"), token(host, "third", "call")
    with Socket(host.url, person) as socket:
        socket.receive_json()
        words = [sys.executable, "-c", CALLER, host.url, agent]
        caller = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        filed = socket.receive_json()
        assert (filed["channel"], filed["event"]) == ("approvals", "filed")
        data = filed["data"]
        assert caller.stderr is not None
        line = caller.stderr.readline()
        assert line.startswith("files.write waits for a person") and data["id"] in line
        answer = {"id": data["id"], "digest": data["digest"], "decision": "deny", "reason": "not now"}
        socket.send_json({"channel": "approvals", "event": "answer", "data": answer})
        out, err = caller.communicate(timeout=PATIENCE_S)
    assert out.startswith("denied ") and "not now" in out, out + err


def test_without_authentication_the_token_file_answers() -> None:
    with running_host(made(offer, "files"), auth="none", log_level="off") as host:
        headers = {"Authorization": "", "Prefer": "respond-async"}
        filed = host.http.post("/api/host/tools/files.write", json={"path": "/a"}, headers=headers).json()["approval"]
        assert filed["caller"] == "local"
        wish = {"list": "allow", "rule": "*"}
        local = {"Authorization": ""}
        assert host.http.post("/api/host/permissions/rules", json=wish, headers=local).status_code == 403
        said = {"digest": filed["digest"], "decision": "once"}
        place = f"/api/host/approvals/{filed['id']}"
        assert host.http.post(place, json=said, headers=local).status_code == 403
        assert host.http.post(place, json=said).json()["state"] == "allowed"
        answer = host.http.post("/api/host/tools/files.write", json={"path": "/a"}, headers=headers)
        assert answer.json() == {"result": "wrote"}


# The command line without a host.


def test_rules_are_read_explained_and_linted_without_a_host(home: Path, tmp_path: Path, plugbay) -> None:
    (tmp_path / "files.py").write_text(ALONE)
    config = tmp_path / "plugbay.toml"
    config.write_text('[permissions]\ndeny = ["files.write(/etc/*)"]\nallow = ["files.write(/*)"]\n')
    added = plugbay("perms", "add", "ask", "files.read")
    assert (added.returncode, added.stdout) == (0, "added rule 1: ask files.read\n"), added.stderr
    words = ["--config", str(config)]
    listed = plugbay("perms", "list", *words)
    assert [f"{config}:2" in listed.stdout, "rules.json, rule 1" in listed.stdout] == [True, True], listed.stderr
    words += ["--plugins-dir", str(tmp_path)]
    told = plugbay("perms", "explain", "files.write", '{"path": "/etc/x"}', *words)
    assert told.returncode == 0, told.stderr
    assert told.stdout == (
        f"files.write(/etc/x): deny by deny rule 'files.write(/etc/*)' ({config}:2)\n"
        f"without that rule: allow by allow rule 'files.write(/*)' ({config}:3)\n"
    )
    told = plugbay("perms", "explain", "files.read", *words, "--json")
    assert json.loads(told.stdout)["rule"]["place"] == "rules.json, rule 1"
    assert plugbay("perms", "explain", "nothing", *words).returncode == 2
    assert plugbay("perms", "lint", *words).returncode == 0
    removed = plugbay("perms", "rm", "1")
    assert (removed.returncode, removed.stdout) == (0, "removed rule 1\n"), removed.stderr
    assert plugbay("perms", "rm", "1").returncode == 2
    config.write_text('[permissions]\ndeny = ["files.read(/etc/*)", "mail.send"]\n')
    linted = plugbay("perms", "lint", *words)
    assert linted.returncode == 1
    assert f"error: {config}:2: deny rule 'files.read(/etc/*)': files.read has no specifier template" in linted.stdout
    assert "warning" in linted.stdout


def test_where_nobody_can_be_asked_a_side_effect_is_denied_at_once(home: Path, tmp_path: Path, plugbay) -> None:
    (tmp_path / "files.py").write_text(ALONE)
    words = ["tool", "call", "files.write", '{"path": "/a"}', "--plugins-dir", str(tmp_path)]
    ended = plugbay(*words)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "nobody can be asked here" in ended.stderr and "--mode autonomous" in ended.stderr
    assert plugbay(*words, "--mode", "autonomous").stdout == '"wrote"\n'


def test_rules_that_are_not_what_a_host_wrote_stop_the_start(home: Path, plugbay) -> None:
    home.mkdir()
    (home / "rules.json").write_text('{"version": 1, "next": 2, "rules": [{"id": 1}]}')
    ended = plugbay("serve", "--port", "0")
    assert ended.returncode != 0
    assert "rules.json" in ended.stderr and "put back a good copy" in ended.stderr


# Calls of yesterday by the rules of today.


def test_recorded_calls_are_judged_by_the_rules_of_now(host: RunningHost) -> None:
    agent = token(host, "agent", "call")
    headers = {"Authorization": f"Bearer {agent}", "Prefer": "respond-async"}
    for tool, arguments, status in [
        ("files.read", {"path": "/a"}, 200),
        ("files.write", {"path": "/data/a"}, 202),
        ("files.write", {"path": "/etc/a"}, 202),
        ("files.write", {}, 202),
        ("nothing", {}, 404),
    ]:
        assert host.http.post(f"/api/host/tools/{tool}", json=arguments, headers=headers).status_code == status
    for where, rule in [("allow", "files.write(/data/*)"), ("deny", "files.write(/etc/*)")]:
        added = host.http.post("/api/host/permissions/rules", json={"list": where, "rule": rule})
        assert added.status_code == 201, added.text

    told = host.http.get("/api/host/audit/simulate", params={"since": "1h"}).raise_for_status().json()
    assert (told["calls"], told["unjudged"]) == (4, {})
    assert told["verdicts"] == {"allow": 2, "ask": 1, "deny": 1}
    changes = {(row["specifier"], row["was"], row["now"], row["calls"]) for row in told["changes"]}
    assert changes == {("/data/a", "ask", "allow", 1), ("/etc/a", "ask", "deny", 1)}

    done = run(host, "perms", "simulate", "--last", "30d", who=host.token)
    said, error = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, error
    assert "4 calls were decided" in said
    assert "files.write(/etc/*)" in said
    wrong = run(host, "perms", "simulate", "--last", "ever", who=host.token)
    assert "no time" in wrong.communicate(timeout=PATIENCE_S)[1]
    assert wrong.returncode == 2


def test_a_rule_that_was_added_holds_for_a_call_without_a_host(home: Path, tmp_path: Path, plugbay: Command) -> None:
    write_plugin(tmp_path / "plugins", "look", LOOK)
    call = ("tool", "call", "look", "--plugins-dir", tmp_path / "plugins")
    assert plugbay(*call).stdout.strip() == '"seen"'
    assert plugbay("perms", "add", "deny", "look").returncode == 0
    done = plugbay(*call)
    assert (done.returncode, done.stdout) == (1, "")
    assert "rules.json" in done.stderr


LOOK = """
def setup(host):
    host.add_agent_tool(AgentTool("look", "Look.", lambda args: "seen"))
"""
