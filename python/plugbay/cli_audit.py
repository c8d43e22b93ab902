"""``plugbay audit``: who called what, what was decided, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import click

from plugbay import listing
from plugbay._command import failures, host_to_ask, json_option, url_option
from plugbay._shown import shown
from plugbay.client import HostClient, open_client
from plugbay.errors import UnavailableError

_PAGE = 1000
"""The most records that a host gives at a time."""

_WAIT_S = 5
"""How long one answer may wait for news; shorter than the client's own patience."""

_AGO = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_HEADS = ("TIME", "CALLER", "DOOR", "TOOL", "DECISION", "OUTCOME", "MS", "SPECIFIER")


@click.command()
@click.option("--tool", metavar="NAME", help="Only calls of this tool.")
@click.option("--since", metavar="WHEN", help="Only calls since then: a time, or how long ago, like 24h or 30d.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many, the latest; 50, or all --since.")
@click.option("--follow", is_flag=True, help="Go on with each call as it ends, until interrupted.")
@url_option
@json_option
def audit(tool: str | None, since: str | None, limit: int | None, follow: bool, url: str | None, as_json: bool) -> None:
    """Show who called which tool, what was decided, and how it ended; the latest last.

    With --json one object with all, and with --follow one object a line.
    """
    since = None if since is None else _moment(since)
    with failures(by_code=True):
        if not follow:
            with host_to_ask(url) as client:
                records = _latest(client, tool, since, limit)
            if as_json:
                click.echo(listing.as_json({"records": records}))
            else:
                click.echo(listing.table((_cells(record) for record in records), _HEADS))
            return
        running = open_client(url)
        if running is None:
            raise UnavailableError("there is no host to follow: start one with `plugbay serve`, or name one with --url")
        try:
            for record in _followed(running, tool, since, limit):
                line = listing.as_json(record, indent=None) if as_json else shown("  ".join(_cells(record)))
                click.echo(line)
        except KeyboardInterrupt:
            return


@click.command()
@click.option("--last", default="30d", show_default=True, metavar="WHEN", help="Calls since then, like 24h or 30d.")
@url_option
@json_option
def simulate(last: str, url: str | None, as_json: bool) -> None:
    """Judge recorded calls by the rules of now, and say what would be decided otherwise.

    What cannot be judged is counted, with why. Plugins that are not loaded make their calls such.
    """
    with failures(by_code=True):
        client = open_client(url)
        if client is None:
            raise UnavailableError("there is no host to ask: start one with `plugbay serve`, or name one with --url")
        told = client.get(f"/api/host/audit/simulate?{urlencode({'since': last})}")
    if as_json:
        click.echo(listing.as_json(told))
        return
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in told["verdicts"].items()) or "none"
    click.echo(f"{told['calls']} calls were decided; by the rules of now: {verdicts}")
    for why, number in told["unjudged"].items():
        click.echo(f"{number} cannot be judged: {shown(why)}")
    heads = ("CALLS", "WAS", "NOW", "TOOL", "SPECIFIER", "BY")
    cells = (
        (row["calls"], row["was"], row["now"], row["tool"], row["specifier"] or "", row["rule"] or row["reason"])
        for row in told["changes"]
    )
    if told["changes"]:
        click.echo(listing.table(cells, heads))


def _moment(text: str) -> str:
    """A time, of how long ago it was: one moment for all pages, which a host would count from each anew.

    Whatever else it is stays as it is, and the host says what is wrong with it.
    """
    ago = _AGO.fullmatch(text)
    if ago is None:
        return text
    try:
        moment = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]])
    except OverflowError:
        return text
    return moment.isoformat().replace("+00:00", "Z")


def _latest(client: HostClient, tool: str | None, since: str | None, limit: int | None) -> list[Mapping[str, Any]]:
    """The latest records, the earliest of them first."""
    left = limit if limit is not None else 50 if since is None else None
    found: list[Mapping[str, Any]] = []
    cursor = None
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = _page(client, tool=tool, since=since, cursor=cursor, limit=size)
        found += page["records"]
        left = None if left is None else left - len(page["records"])
        cursor = page["next"]
        if cursor is None:
            break
    return found[::-1]


def _followed(
    client: HostClient, tool: str | None, since: str | None, limit: int | None
) -> Iterator[Mapping[str, Any]]:
    """The latest records, then each new one."""
    records = _latest(client, tool, since, limit if since is not None or limit is not None else 10)
    yield from records
    after = records[-1]["id"] if records else 0
    while True:
        page = _page(client, tool=tool, since=since, after=after, wait_s=_WAIT_S, limit=_PAGE)
        yield from page["records"]
        after = page["next"]


def _page(client: HostClient, **wish: Any) -> Any:
    given = {name: value for name, value in wish.items() if value is not None}
    return client.get(f"/api/host/audit?{urlencode(given)}")


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    decision = record["decision"] or "-"
    outcome = record["outcome"] if record["code"] is None else f"{record['outcome']} ({record['code']})"
    return (
        record["time"][:19].replace("T", " "),
        record["principal"],
        record["door"],
        record["tool"],
        f"{decision} by {record['rule']}" if record["rule"] else decision,
        outcome,
        f"{record['duration_us'] / 1000:.1f}",
        record["specifier"] or "",
    )
