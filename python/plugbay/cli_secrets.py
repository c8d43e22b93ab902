"""``plugbay secrets``: what a plugin's server is told with each request, and nobody else.

A running host is asked; without one the file of the home folder is changed, under the lock that a host takes too.
"""

from __future__ import annotations

import sys
from urllib.parse import quote

import click

from plugbay import _core, listing
from plugbay._command import failures, json_option, url_option
from plugbay.client import HostClient, open_client
from plugbay.discovery import home_of_environment
from plugbay.errors import InvalidError

_VALUE_BYTES = 1 << 16
"""More than any value may have; the rest of what stands on standard input is not read."""


@click.group()
def secrets() -> None:
    """What a plugin's server is sent with each request."""


@secrets.command("set")
@click.argument("plugin")
@click.argument("name")
@url_option
def set_secret(plugin: str, name: str, url: str | None) -> None:
    """Keep the secret NAME of PLUGIN; its value is read from standard input, or asked for.

    The plugin need not be there yet. A change counts from the next request.
    """
    with failures(by_code=True):
        value = _value(plugin, name)
        client = open_client(url)
        if client is None:
            _core.set_secret(str(home_of_environment()), plugin, name, value)
        else:
            answer = client.put(_path(plugin, name), {"value": value})
            if not answer["known"]:
                click.echo(f"note: the host at {client.url} has no plugin {plugin}; the secret waits for it", err=True)
    click.echo(f"set {name.lower()} of {plugin}")


@secrets.command("list")
@click.argument("plugin")
@url_option
@json_option
def list_secrets(plugin: str, url: str | None, as_json: bool) -> None:
    """List the names of the secrets of PLUGIN; the values are never shown."""
    with failures(by_code=True):
        client = open_client(url)
        names = _names(client, plugin)
    if as_json:
        click.echo(listing.as_json({"plugin": plugin, "secrets": names}))
    else:
        for name in names:
            click.echo(name)


@secrets.command("rm")
@click.argument("plugin")
@click.argument("name")
@url_option
def remove_secret(plugin: str, name: str, url: str | None) -> None:
    """Remove the secret NAME of PLUGIN."""
    with failures(by_code=True):
        client = open_client(url)
        if client is None:
            _core.remove_secret(str(home_of_environment()), plugin, name)
        else:
            client.delete(_path(plugin, name))
    click.echo(f"removed {name.lower()} of {plugin}")


def _names(client: HostClient | None, plugin: str) -> list[str]:
    if client is None:
        return _core.list_secrets(str(home_of_environment()), plugin)
    answer = client.get(f"/api/host/plugins/{quote(plugin, safe='')}/secrets")
    if not answer["known"]:
        click.echo(f"note: the host at {client.url} has no plugin {plugin}", err=True)
    names: list[str] = answer["secrets"]
    return names


def _value(plugin: str, name: str) -> str:
    """From a terminal without an echo, else all of standard input."""
    if sys.stdin.isatty():
        value: str = click.prompt(f"{name} of {plugin}", hide_input=True, err=True)
        return value
    try:
        return sys.stdin.buffer.read(_VALUE_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidError("the value is not UTF-8: encode it as base64") from None


def _path(plugin: str, name: str) -> str:
    return f"/api/host/plugins/{quote(plugin, safe='')}/secrets/{quote(name, safe='')}"
