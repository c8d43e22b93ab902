"""``plugbay mcp --stdio``: an MCP client that starts a command speaks with the host that runs, or with one of its own.

Its messages pass on to the host's ``/mcp``. The real standard input and output belong to the protocol: whatever plugins
print goes to standard error, and what they read is empty.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from plugbay import _core
from plugbay._runner import BackgroundHost
from plugbay.client import HostClient, open_client
from plugbay.errors import PlugbayError

_TOKEN_DAYS = 7


def serve(url: str | None, flags: Mapping[str, Any]) -> None:
    """Pass messages on until standard input ends or SIGTERM comes.

    Raises ``PlugbayError`` when no host can be reached or started, or when it goes away or takes the token no more.
    """
    streams = _take_standard_streams()
    relay = _core.Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    client = open_client(url)
    if client is not None:
        _relay(relay, client, streams)
        return
    host = BackgroundHost({"port": 0, "access_log": False, "log_level": "warn", **flags})
    try:
        host.start()
        _relay(relay, HostClient(host.core.url, host.core.token), streams)
    finally:
        code = host.stop()
        if host.is_stuck:
            sys.stderr.flush()
            os._exit(code)


def _relay(relay: _core.Relay, client: HostClient, streams: tuple[int, int]) -> None:
    token, revoke = _agents_token(client)
    failures: list[PlugbayError] = []

    def run() -> None:
        try:
            relay.run(client.url, token, *streams)
        except PlugbayError as error:
            failures.append(error)

    # Beside the main thread, which is the one that hears signals.
    running = threading.Thread(target=run, name="plugbay-relay", daemon=True)
    try:
        running.start()
        running.join()
    finally:
        revoke()
    if failures:
        raise failures[0]


def _agents_token(client: HostClient) -> tuple[str | None, Callable[[], None]]:
    """A token for the agent on the other side, and what takes it back.

    An agent has the scope ``call`` alone: else it could answer the approvals that it causes. A token that the
    environment gives is used as it is.

    The token has an end, because nobody takes it back after SIGKILL; the relay ends with it, and says so.
    """
    given = os.environ.get("PLUGBAY_TOKEN")
    if given:
        return given, lambda: None
    name = f"mcp-stdio-{os.getpid()}-{secrets.token_hex(3)}"
    made = client.post("/api/host/tokens", {"name": name, "scopes": ["call"], "days": _TOKEN_DAYS})

    def revoke() -> None:
        with suppress(PlugbayError):  # the host has gone, and took the token's use with it
            client.delete(f"/api/host/tokens/{quote(name, safe='')}")

    return made["token"], revoke


def _take_standard_streams() -> tuple[int, int]:
    """Keep descriptors 0 and 1 for the protocol. Plugins find an empty input, and standard error as their output."""
    sys.stdout.flush()
    kept = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return kept
