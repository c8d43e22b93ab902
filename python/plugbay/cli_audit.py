"""``plugbay audit``: who called what, what was decided, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import click

from plugbay import listing
from plugbay._command import failures, host_to_ask, json_option, url_option
from plugbay.client import HostClient, open_client
from plugbay.errors import UnavailableError

_PAGE = 1000
"""The most records that a host gives at a time."""

_WAIT_S = 5
"""How long one answer may wait for news; shorter than the client's own patience."""

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
                click.echo(json.dumps(record, ensure_ascii=False) if as_json else "  ".join(_cells(record)))
        except KeyboardInterrupt:
            return


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
