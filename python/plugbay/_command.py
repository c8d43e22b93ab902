"""What the commands of ``plugbay`` share: exit codes, options, a host to ask, failures as a line and a code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from plugbay._shown import shown
from plugbay.client import HostClient, open_client
from plugbay.errors import ConflictError, InvalidError, PlugbayError

FAILED, MISUSED, OCCUPIED = 1, 2, 3
"""The exit codes besides 0: it failed; it was asked for wrongly; another host is there."""

_MISUSES = {"invalid", "malformed", "not_found"}

url_option = click.option("--url", metavar="URL", help="The host to ask; else the one that runs in PLUGBAY_HOME.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def tell(message: str) -> None:
    """Say on standard error what went wrong. Others have written parts of it: only the ends of its lines stay."""
    click.echo("\n".join(map(shown, message.split("\n"))), err=True)


@contextmanager
def failures(*, by_code: bool = False) -> Iterator[None]:
    """Turn a failure into a line on standard error and an exit code."""
    try:
        yield
    except PlugbayError as error:
        tell(f"plugbay: {error.message}")
        if isinstance(error, ConflictError) and not by_code:
            sys.exit(OCCUPIED)
        misused = error.code in _MISUSES if by_code else isinstance(error, InvalidError)
        sys.exit(MISUSED if misused else FAILED)


@contextmanager
def host_to_ask(url: str | None, **settings: Any) -> Iterator[HostClient]:
    """A host to ask; when none runs, one without plugins for the time of the question."""
    client = open_client(url)
    if client is not None:
        yield client
        return
    from plugbay._runner import BackgroundHost

    flags = {"host": "127.0.0.1", "port": 0, "access_log": False, "log_level": "error", **settings}
    host = BackgroundHost(flags, lambda _: ())
    try:
        host.start()
        yield HostClient(host.core.url, host.core.token)
    finally:
        host.stop()
