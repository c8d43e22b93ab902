"""``plugbay token`` and ``plugbay sign-in``: who may ask a host."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

import click

from plugbay import listing
from plugbay._command import failures, host_to_ask, json_option, url_option

_SCOPES = ("call", "approve", "admin")


@click.command("sign-in")
@click.argument("page", default="/")
@url_option
def sign_in(page: str, url: str | None) -> None:
    """Print a link that signs a browser in, once, within ten minutes, and shows PAGE.

    It signs in as whoever asks: the owner, or the principal of PLUGBAY_TOKEN. PAGE is one of the host's own, such as
    /approvals or the address that a waiting call names; the page about the host by default.
    """
    path = urlsplit(page).path
    if not path.startswith("/"):
        raise click.BadParameter(f"{page!r} is no page: write /approvals, or a whole address", param_hint="PAGE")
    with failures(by_code=True), host_to_ask(url) as client:
        made = client.post("/api/host/sign-in", None)
        click.echo(client.url + made["path"] + ("" if path == "/" else "?" + urlencode({"to": path}, safe="/")))


@click.group()
def token() -> None:
    """Who may ask this host."""


@token.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    help="call, approve or admin; with commas or repeated.",
)
@click.option("--days", type=int, metavar="N", help="How long it is valid; for ever by default.")
@url_option
@json_option
def add_token(name: str, scopes: Sequence[str], days: int | None, url: str | None, as_json: bool) -> None:
    """Make a token for NAME; it is printed once and kept nowhere."""
    wanted = [each.strip() for scope in scopes for each in scope.split(",")]
    if unknown := [scope for scope in wanted if scope not in _SCOPES]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(_SCOPES)}", param_hint="--scope")
    wish = {"name": name, "scopes": wanted, "days": days}
    with failures(by_code=True), host_to_ask(url) as client:
        made = client.post("/api/host/tokens", wish)
    click.echo(listing.as_json(made) if as_json else made["token"])


@token.command("list")
@url_option
@json_option
def list_tokens(url: str | None, as_json: bool) -> None:
    """List the tokens, without the tokens themselves."""
    with failures(), host_to_ask(url) as client:
        rows = client.get("/api/host/tokens")["tokens"]
    if as_json:
        click.echo(listing.as_json({"tokens": rows}))
    else:
        cells = ((row["name"], ",".join(row["scopes"]), row["created"], row["expires"]) for row in rows)
        click.echo(listing.table(cells, ("NAME", "SCOPES", "CREATED", "EXPIRES")))


@token.command("revoke")
@click.argument("name")
@url_option
def revoke_token(name: str, url: str | None) -> None:
    """Take the token of NAME back; its sockets close. That of `owner` is replaced by a new one."""
    with failures(by_code=True), host_to_ask(url) as client:
        client.delete(f"/api/host/tokens/{quote(name, safe='')}")
    if name == "owner":
        click.echo("replaced the owner's token: the new one is in the file `token` of the host's home folder")
    else:
        click.echo(f"revoked the token of {name}")
