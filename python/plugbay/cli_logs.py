"""``plugbay logs``: what a plugin's server wrote."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import click

from plugbay._command import failures, url_option
from plugbay.client import open_client
from plugbay.discovery import home_of_environment
from plugbay.errors import NotFoundError, UnavailableError

_LINES = 100


@click.command()
@click.argument("plugin", metavar="NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--lines", type=click.IntRange(min=0), default=_LINES, show_default=True, help="How many lines at first.")
@url_option
def logs(plugin: str, follow: bool, lines: int, url: str | None) -> None:
    """Print what the server of the plugin NAME wrote to its standard output (out) and error (err).

    Without a host that runs, what the last one has kept is read.
    """
    with failures(by_code=True):
        client = open_client(url)
        if client is None:
            if follow:
                raise UnavailableError("no host runs, so nothing more will be written: leave out -f, or start one")
            _print_kept(plugin, lines)
            return
        path = f"/api/host/plugins/{quote(plugin, safe='')}/logs?lines={lines}"
        with suppress(KeyboardInterrupt):
            for text in client.stream(path + ("&follow=1" if follow else "")):
                click.echo(text, nl=False)


def _print_kept(plugin: str, lines: int) -> None:
    kept = home_of_environment() / "logs" / f"{plugin}.log"
    # A name that is a path names no plugin.
    if kept.name != f"{plugin}.log" or not kept.is_file():
        raise NotFoundError(f"there is no log of a plugin {plugin!r} in {kept.parent}: `plugbay plugins` lists them")
    last = kept.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in last[max(0, len(last) - lines) :]:
        click.echo(line)
