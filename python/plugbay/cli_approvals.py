"""``plugbay approvals``: the calls that wait for a person, one after another, and the answer to each."""

from __future__ import annotations

import io
import json
import select
import sys
import termios
import time
from typing import Any

import click

from plugbay import listing
from plugbay._command import failures, json_option, tell, url_option
from plugbay._shown import shown
from plugbay.client import HostClient, open_client
from plugbay.errors import ConflictError, NotFoundError, PlugbayError, UnavailableError

Row = dict[str, Any]

_LOOK_S = 0.3
"""How often the host is asked what waits."""


@click.group(invoke_without_command=True)
@click.pass_context
@url_option
@json_option
def approvals(context: click.Context, url: str | None, as_json: bool) -> None:
    """Answer the calls that wait for a person, as they come: y, n, always or skip. Ends with Ctrl-C or Ctrl-D.

    With --json, print those that wait now and end.
    """
    if context.invoked_subcommand is not None:
        context.obj = url
        return
    with failures(by_code=True):
        client = _client(url)
        if as_json:
            click.echo(listing.as_json(client.get("/api/host/approvals")))
            return
        click.echo(f"calls at {client.url} that wait for a person; Ctrl-C ends", err=True)
        try:
            _watch(client)
        except (KeyboardInterrupt, click.Abort, EOFError):
            click.echo("", err=True)


@approvals.command("answer")
@click.argument("id")
@click.argument("decision", type=click.Choice(["once", "always", "deny"]))
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="The rule that always keeps, instead of the narrowest."
)
@click.option("--reason", metavar="TEXT", help="Why, for the caller.")
@url_option
@click.pass_context
def answer(
    context: click.Context, id: str, decision: str, rules: tuple[str, ...], reason: str | None, url: str | None
) -> None:
    """Answer the call that waits under ID."""
    with failures(by_code=True):
        client = _client(url or context.obj)
        approval = client.get(f"/api/host/approvals/{id}")
        answered = _answer(client, approval, decision, list(rules), reason)
    click.echo(f"{answered['state']}: {_title(answered)}")


def _client(url: str | None) -> HostClient:
    client = open_client(url)
    if client is None:
        raise UnavailableError("no host runs, so nothing waits: start one with `plugbay serve`, or name it with --url")
    return client


def _watch(client: HostClient) -> None:
    """Ask about each call that waits, the oldest first, until the person ends it."""
    passed: set[str] = set()
    while True:
        waiting = client.get("/api/host/approvals")["approvals"]
        approval = next((row for row in waiting if row["id"] not in passed), None)
        if approval is None:
            if not sys.stdin.isatty() and (passed or _is_over()):
                return
            time.sleep(_LOOK_S)
            continue
        passed.add(approval["id"])
        click.echo(describe(approval))
        try:
            _decide(client, approval)
        except (ConflictError, NotFoundError) as error:
            tell(error.message)


def _is_over() -> bool:
    """Whether nothing more comes on standard input, as far as can be told without waiting."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    given = sys.stdin.buffer
    return bool(readable) and isinstance(given, io.BufferedReader) and not given.peek(1)


def _decide(client: HostClient, approval: Row) -> None:
    choices = "y, n, always, skip" if approval["rules"] else "y, n, skip"
    while True:
        word = _asked(f"run it? ({choices})", prompt_suffix=" ").strip().lower()
        try:
            if word in ("s", "skip"):
                return
            if word in ("y", "yes", "once"):
                answered = _answer(client, approval, "once", [], None)
            elif word in ("n", "no", "deny"):
                reason = _asked("why, for the caller (or nothing)", default="", show_default=False)
                answered = _answer(client, approval, "deny", [], reason or None)
            elif word in ("a", "always") and approval["rules"]:
                answered = _answer(client, approval, "always", _rules(approval), None)
            else:
                continue
        except (ConflictError, NotFoundError):
            raise
        except PlugbayError as error:
            tell(error.message)
            if error.code == "denied":
                return
            continue
        click.echo(f"{answered['state']}: {_title(answered)}")
        return


def _rules(approval: Row) -> list[str]:
    """The one rule that would be kept, as the person edits it; several stay as they are."""
    if len(approval["rules"]) != 1:
        return []
    (rule,) = approval["rules"]
    return [_asked(f"rule [{shown(rule)}]", default=rule, show_default=False)]


def _asked(question: str, **how: Any) -> str:
    """What a person says to a question. What was typed before it was there is no answer to it."""
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    said: str = click.prompt(question, err=True, **how)
    return said


def _answer(client: HostClient, approval: Row, decision: str, rules: list[str], reason: str | None) -> Row:
    said: Row = {"digest": approval["digest"], "decision": decision}
    if rules:
        said["rule"] = rules
    if reason:
        said["reason"] = reason
    answered: Row = client.post(f"/api/host/approvals/{approval['id']}", said)
    return answered


def describe(approval: Row) -> str:
    """What a person sees of an approval."""
    lines = [
        f"{approval['caller']} wants {_title(approval)} ({approval['plugin']}, over {approval['door']})",
        f"  arguments {json.dumps(approval['arguments'], ensure_ascii=False)}",
        f"  asked because {approval['why']}" + (f": {approval['rule']}" if approval["rule"] else ""),
    ]
    lines += [f"  changed {line}" for line in approval["differences"]]
    if approval["prose_changed"]:
        lines.append("  its description has changed since it was allowed")
    lines += [f"  always would keep {rule}" for rule in approval["rules"]]
    lines.append(f"  lapses {approval['lapses']}, id {approval['id']}")
    return "\n".join(map(shown, lines))


def _title(approval: Row) -> str:
    specifier = approval["specifier"]
    return shown(approval["tool"] if specifier is None else f"{approval['tool']}({specifier})")
