"""``plugbay perms``: the rules in force, what is wrong with them, what they say of a call, and their changes.

``list``, ``lint`` and ``explain`` ask the host that runs, else read the settings and load the plugins in this process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from plugbay import _core, _offline, listing
from plugbay._command import FAILED, failures, host_to_ask, json_option, url_option
from plugbay.cli_audit import simulate
from plugbay.client import open_client
from plugbay.errors import InvalidError, NotFoundError

Row = dict[str, Any]

_LISTS = click.Choice(["deny", "ask", "allow"])
_config = click.option("--config", type=click.Path(), help="The file of settings, plugbay.toml by default.")
_plugins_dir = click.option("--plugins-dir", multiple=True, type=click.Path(), help="A further folder of plugins.")


@click.group()
def perms() -> None:
    """The rules that decide which tool calls run."""


perms.add_command(simulate)


@perms.command("list")
@url_option
@_config
@json_option
def list_rules(url: str | None, config: str | None, as_json: bool) -> None:
    """List the rules, each with the place where it stands."""
    with failures():
        client = open_client(url)
        found = client.get("/api/host/permissions") if client else _here(_flags(config, ()))
    if as_json:
        click.echo(listing.as_json({"mode": found["mode"], "rules": found["rules"]}))
        return
    click.echo(f"mode {found['mode']}")
    cells = ((row["list"], row["rule"], row["place"], row.get("by") or "") for row in found["rules"])
    click.echo(listing.table(cells, ("LIST", "RULE", "PLACE", "BY")))


@perms.command()
@url_option
@_config
@_plugins_dir
@json_option
def lint(url: str | None, config: str | None, plugins_dir: Sequence[str], as_json: bool) -> None:
    """Find rules that cannot work; exits with 1 when there is one."""
    with failures():
        client = open_client(url)
        findings = client.post("/api/host/permissions/lint", {}) if client else _lint_here(_flags(config, plugins_dir))
    rows: list[Row] = findings["findings"]
    if as_json:
        _say(listing.as_json({"findings": rows}))
    else:
        for row in rows:
            where = f"{row['severity']}: {row['place']}: {row['list']} rule {row['rule']!r}"
            _say(f"{where}: {row['problem']}; {row['cure']}")
        errors = sum(row["severity"] == "error" for row in rows)
        _say(f"{errors} {'error' if errors == 1 else 'errors'}, {len(rows)} found")
    sys.exit(FAILED if any(row["severity"] == "error" for row in rows) else 0)


@perms.command()
@click.argument("tool")
@click.argument("arguments", default="{}")
@click.option("--caller", metavar="NAME", help="Whose call; yours by default.")
@url_option
@_config
@_plugins_dir
@json_option
def explain(
    tool: str,
    arguments: str,
    caller: str | None,
    url: str | None,
    config: str | None,
    plugins_dir: Sequence[str],
    as_json: bool,
) -> None:
    """Say what would become of a call of TOOL with ARGUMENTS (JSON), by which rule, and what if it were not there."""
    with failures(by_code=True):
        given = _object(arguments)
        client = open_client(url)
        if client is not None:
            wish = {"tool": tool, "arguments": given} | ({"caller": caller} if caller else {})
            told = client.post("/api/host/permissions/explain", wish)
        else:
            told = _explain_here(_flags(config, plugins_dir), tool, given)
    _say(listing.as_json(told) if as_json else _in_words(told))


@perms.command()
@click.argument("list_name", metavar="LIST", type=_LISTS)
@click.argument("rule")
@url_option
@json_option
def add(list_name: str, rule: str, url: str | None, as_json: bool) -> None:
    """Add RULE, like files.write(/data/*), to LIST: deny, ask or allow. It holds at once and is kept."""
    with failures(by_code=True), host_to_ask(url) as client:
        made = client.post("/api/host/permissions/rules", {"list": list_name, "rule": rule})
    click.echo(listing.as_json(made) if as_json else f"added rule {made['id']}: {made['list']} {made['rule']}")


@perms.command()
@click.argument("number", type=int)
@url_option
def rm(number: int, url: str | None) -> None:
    """Remove the added rule of that NUMBER; those of the settings are removed there."""
    with failures(by_code=True), host_to_ask(url) as client:
        client.delete(f"/api/host/permissions/rules/{number}")
    click.echo(f"removed rule {number}")


def _flags(config: str | None, plugins_dir: Sequence[str]) -> Row:
    given: Row = {"config": config, "plugins_dir": list(plugins_dir)}
    return {name: value for name, value in given.items() if value}


def _here(flags: Mapping[str, Any]) -> Row:
    """The rules of the settings and those that were kept, without a host."""
    found: Row = json.loads(_core.rules_of_settings(json.dumps(flags)))
    return {"mode": found["mode"], "rules": [*found["rules"], *_kept(Path(found["home"]))]}


def _kept(home: Path) -> list[Row]:
    """The rules that people added. Raises ``InvalidError`` when the file is not what a host wrote."""
    file = home / "rules.json"
    try:
        kept = json.loads(file.read_bytes())["rules"]
        return [
            {
                "list": rule["list"],
                "rule": rule["rule"],
                "place": f"rules.json, rule {rule['id']}",
                "id": rule["id"],
                "by": rule["by"],
                "plugin": (rule.get("seen") or {}).get("plugin"),
                "fingerprint": (rule.get("seen") or {}).get("fingerprint"),
            }
            for rule in kept
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InvalidError(f"cannot read the rules in {file}: {error}; put back a good copy, or remove it") from None


def _tools_here(flags: Mapping[str, Any]) -> list[Row]:
    _offline.load(flags)
    _offline.tell()
    return _core.tools()


def _lint_here(flags: Mapping[str, Any]) -> Row:
    question = {"rules": _here(flags)["rules"], "tools": _tools_here(flags)}
    found: Row = json.loads(_core.lint(json.dumps(question)))
    return found


def _explain_here(flags: Mapping[str, Any], name: str, arguments: Row) -> Row:
    policy = _here(flags)
    tool = next((row for row in _tools_here(flags) if row["name"] == name), None)
    if tool is None:
        raise NotFoundError(f'no plugin offers a tool "{name}": `plugbay tools` lists what there is')
    told: Row = json.loads(_core.explain(json.dumps({**policy, "tool": tool, "arguments": arguments})))
    return told


def _object(text: str) -> Row:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InvalidError(f'the arguments are not JSON ({error}): write them like \'{{"path": "/a"}}\'') from None
    if not isinstance(given, dict):
        raise InvalidError('the arguments of a tool are a JSON object: write them like \'{"path": "/a"}\'')
    return given


def _in_words(told: Row) -> str:
    name = told["tool"] if told["specifier"] is None else f"{told['tool']}({told['specifier']})"
    lines = [f"{name}: {_verdict(told)}"]
    if told["without"] is not None:
        lines.append(f"without that rule: {_verdict(told['without'])}")
    return "\n".join(lines)


def _verdict(told: Row) -> str:
    rule = told["rule"]
    by = f" by {rule['list']} rule {rule['rule']!r} ({rule['place']})" if rule else ""
    why = "" if told["reason"] == "rule" else f", because {told['why']}"
    return f"{told['decision']}{by}{why}"


def _say(text: str) -> None:
    click.echo(text, file=_offline.results())
