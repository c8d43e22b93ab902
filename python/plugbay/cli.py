"""The command ``plugbay``."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from plugbay import _core, _offline, listing
from plugbay._command import FAILED
from plugbay._command import failures as _failures
from plugbay._command import json_option as _as_json
from plugbay._command import url_option as _url
from plugbay._registry import registry
from plugbay.client import HostClient, open_client
from plugbay.errors import InvalidError, PlugbayError

if TYPE_CHECKING:
    from plugbay._runner import BackgroundHost, HostSettings

Function = TypeVar("Function", bound=Callable[..., Any])

_on_off = click.Choice(["on", "off"])


_ELSEWHERE = {
    "approvals": "cli_approvals",
    "audit": "cli_audit",
    "disable": "cli_plugins",
    "enable": "cli_plugins",
    "install": "cli_plugins",
    "logs": "cli_logs",
    "perms": "cli_perms",
    "secrets": "cli_secrets",
    "sign-in": "cli_tokens",
    "token": "cli_tokens",
    "uninstall": "cli_plugins",
    "update": "cli_plugins",
}
"""The commands with a module of their own, which is imported when the command is asked for: ``serve`` starts sooner."""


class _Command(click.Group):
    """The command as a whole; ends even when a plugin that it has loaded has left a thread behind."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_ELSEWHERE})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in _ELSEWHERE and name not in self.commands:
            module = importlib.import_module(f"plugbay.{_ELSEWHERE[name]}")
            self.add_command(getattr(module, name.replace("-", "_")))
        return super().get_command(context, name)

    def main(self, *args: Any, **named: Any) -> Any:
        try:
            return super().main(*args, **named)
        except SystemExit as ending:
            left = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
            if not isinstance(ending.code, str) and any(not thread.daemon for thread in left):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(ending.code or 0)
            raise


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="plugbay")
def main() -> None:
    """A backend that other people extend with plugins."""


_plugins_dir = click.option("--plugins-dir", multiple=True, type=click.Path(), help="A further folder of plugins.")
_mode = click.option(
    "--mode", type=click.Choice(["default", "plan", "autonomous"]), help="What becomes of side effects."
)
_log_level = click.option("--log-level", metavar="LEVEL", help="error, warn, info, debug, trace, or a filter.")
_config = click.option("--config", type=click.Path(), help="The file of settings, plugbay.toml by default.")


def _host_options(function: Function) -> Function:
    """The settings that every command which starts a host takes."""
    return _plugins_dir(_mode(_log_level(_config(function))))


def _load_options(function: Function) -> Function:
    """The settings that every command takes which loads plugins itself when no host runs."""
    return _plugins_dir(_config(function))


@main.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen on, 127.0.0.1 by default.")
@click.option("--port", type=int, metavar="N", help="The port to listen on, 8000 by default; 0 picks one.")
@_host_options
@click.option("--auth", type=click.Choice(["token", "none"]), help="Who may ask without a credential.")
@click.option("--ready-json", is_flag=True, default=None, help='Print {"ready": true, "port": N} once it serves.')
@click.option("--log-format", type=click.Choice(["human", "json"]), help="How log lines are written.")
@click.option("--access-log", type=_on_off, help="Write a log line for each request.")
@click.option("--database", metavar="URL", help="A PostgreSQL server that keeps what is recorded.")
@click.option("--workers", type=int, metavar="N", help="How many threads the core runs on.")
@click.option("--public-url", metavar="URL", help="The address that clients use when it is another one.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name that a Host header may have.")
@click.option("--allow-origin", multiple=True, metavar="URL", help="A further origin whose pages may ask.")
@click.option("--trust-proxy", multiple=True, metavar="CIDR", help="Proxies whose Forwarded headers are believed.")
@click.option("--tls-cert", type=click.Path(), help="The certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(), help="The private key (PEM).")
@click.option("--fast-routes", type=_on_off, help="Whether FastAPI routes are compiled; on by default.")
def serve(**given: Any) -> None:
    """Run a host."""
    from plugbay import _runner

    with _failures():
        sys.exit(_runner.serve(_flags(given), _announce))


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@_load_options
@_as_json
def check(paths: Sequence[Path], as_json: bool, **given: Any) -> None:
    """Load the plugins of folders or files, print what each offers and what is wrong.

    Without PATHS, all that a host would load. Starts no hook, writes nothing.
    """
    sys.dont_write_bytecode = True
    with _failures():
        _offline.load(_flags(given), paths)
    errors, notes = listing.errors_here(), listing.notes_here()
    if as_json:
        loaded = [
            {**row, "offers": listing.offers_here(row["id"])} for row in listing.plugins_here() if not row["error"]
        ]
        _say(listing.as_json({"plugins": loaded, "errors": errors, "notes": notes}))
    else:
        for manifest in registry.loaded:
            _say(f"{manifest.id} {manifest.version}")
            for line in listing.offers_here(manifest.id) or ["nothing"]:
                _say(f"  {line}")
        for note in notes:
            _say(f"note: {note}")
        for error in errors:
            click.echo(f"error: {error['line']}", err=True)
            if error["traceback"]:
                click.echo(_indented(error["traceback"]), err=True)
        _say(f"{len(registry.loaded)} loaded, {len(errors)} failed")
    sys.exit(FAILED if errors else 0)


@main.command()
@_url
@_load_options
@_as_json
def plugins(url: str | None, as_json: bool, **given: Any) -> None:
    """List what is loaded and what failed."""
    with _failures():
        rows = _rows(url, given, listing.plugins_there, listing.plugins_here)
    if as_json:
        _say(listing.as_json({"plugins": rows}))
        return
    # One whose server has failed is still there, and has a state.
    there = [row for row in rows if row["error"] is None or row.get("server") is not None]
    _say(listing.table(([row[name] for name in ("id", "version", "state", "source")] for row in there), _HEADS))
    for row in rows:
        if row["error"] is not None:
            word = "note" if row["state"] in ("waiting", "starting", "running") else "failed"
            click.echo(f"{word}: {row['source']}: {row['error']['stage']}: {row['error']['message']}", err=True)


_HEADS = ("PLUGIN", "VERSION", "STATE", "SOURCE")


@main.command()
@_url
@_load_options
@_as_json
def routes(url: str | None, as_json: bool, **given: Any) -> None:
    """List the routes of the plugins."""
    with _failures():
        rows = _rows(url, given, listing.routes_there, listing.routes_here)
    if as_json:
        _say(listing.as_json({"routes": rows}))
    else:
        cells = (
            (
                " ".join(row["methods"]),
                row["path"],
                row["plugin"],
                "compiled" if row["compiled"] else "asgi",
                row["reason"],
            )
            for row in rows
        )
        _say(listing.table(cells, ("METHOD", "PATH", "PLUGIN", "RUNS", "REASON")))


@main.command()
@click.option("--search", default="", metavar="WORDS", help="Only the tools that have these words, the best first.")
@click.option("--group", metavar="NAME", help="Only the tools of this group.")
@_url
@_load_options
@_as_json
def tools(search: str, group: str | None, url: str | None, as_json: bool, **given: Any) -> None:
    """List the tools."""
    with _failures():
        rows = _rows(
            url,
            given,
            lambda client: listing.tools_there(client, search, group),
            lambda: listing.tools_here(search, group),
        )
    if as_json:
        _say(listing.as_json({"tools": rows}))
    else:
        cells = (
            (row["name"], row["plugin"], "yes" if row["side_effect"] else "no", row["description"].partition("\n")[0])
            for row in rows
        )
        _say(listing.table(cells, ("TOOL", "PLUGIN", "SIDE EFFECT", "DESCRIPTION")))


@main.group()
def tool() -> None:
    """Call tools."""


@tool.command("call")
@click.argument("name")
@click.argument("arguments", required=False)
@click.option("--arg", "pairs", multiple=True, metavar="NAME=VALUE", help="One argument; JSON, or a text.")
@click.option("--json", "text", metavar="JSON", help="All arguments as a JSON object; - reads standard input.")
@_url
@_plugins_dir
@_mode
@_config
def call(
    name: str, arguments: str | None, pairs: Sequence[str], text: str | None, url: str | None, **given: Any
) -> None:
    """Call the tool NAME; its result is printed as JSON.

    The arguments are one JSON object, given as ARGUMENTS or with --json, or one by one with --arg. When no host runs,
    one without HTTP is started for the call; only that one heeds --plugins-dir, --mode and --config.
    """

    def whole(rows: Sequence[listing.Row]) -> dict[str, Any]:
        parameters: dict[str, Any] = next((row["parameters"] for row in rows if row["name"] == name), {})
        return _arguments(arguments if text is None else text) | _pairs(pairs, parameters)

    with _failures(by_code=True):
        client = open_client(url)
        if client is not None:
            result = client.call_tool(name, whole(listing.tools_there(client) if pairs else ()))
        else:
            with _offline.host(_flags(given)) as host:
                _offline.tell()
                result = _call_here(host, name, whole(listing.tools_here()))
    _say(listing.as_json(result, indent=None))


@main.command()
@click.option("--url", metavar="URL", help="Drive the host at this address instead of starting one.")
@click.option("--port", type=int, metavar="N", help="Also serve HTTP, on this port; 0 picks one.")
@_host_options
def repl(url: str | None, port: int | None, **given: Any) -> None:
    """A console with `dash`, for a host of its own or, with --url, for one that runs."""
    from plugbay._runner import BackgroundHost
    from plugbay.console import run_console
    from plugbay.repl import connect, dash_of_host

    with _failures():
        if url is not None:
            sys.exit(0 if run_console(connect(url)) else FAILED)
        flags = _flags({"log_level": "warn", **{name: value for name, value in given.items() if value}, "port": port})
        host = BackgroundHost(flags, http=port is not None)
        # A console that is ended from outside stops its host in good order.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            host.start()
            if port is not None:
                click.echo(f"Plugbay at {host.core.url}, sign in at {host.core.sign_in_link()}")
            well = run_console(dash_of_host(host))
        finally:
            host.stop()
            if host.is_stuck:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(FAILED)
        sys.exit(0 if well else FAILED)


@main.command()
@click.option("--stdio", is_flag=True, required=True, help="Speak on standard input and output.")
@click.option("--port", type=int, metavar="N", help="The port of a host of its own; one that is free by default.")
@_url
@_host_options
def mcp(stdio: bool, url: str | None, **given: Any) -> None:
    """Speak MCP with a client that starts a command: for the host that runs, or for one of its own.

    Only a host of its own heeds the options beside --url. A client that knows addresses asks http://HOST:PORT/mcp.
    """
    from plugbay import _stdio

    with _failures():
        _stdio.serve(url, _flags(given))


def _flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as the core reads it."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value not in (None, ())
    }


def _rows(
    url: str | None,
    given: Mapping[str, Any],
    there: Callable[[HostClient], list[listing.Row]],
    here: Callable[[], list[listing.Row]],
) -> list[listing.Row]:
    """Ask the host that runs, else load the plugins in this process."""
    client = open_client(url)
    if client is not None:
        return there(client)
    _offline.load(_flags(given))
    _offline.tell()
    return here()


def _say(text: str) -> None:
    """Print a result."""
    click.echo(text, file=_offline.results())


def _call_here(host: BackgroundHost, name: str, arguments: Mapping[str, Any]) -> Any:
    async def run() -> bytes:
        return await _core.invoke(name, json.dumps(arguments).encode(), "cli")

    try:
        return json.loads(host.run(run()))
    except PlugbayError as error:
        if error.code == "not_found":
            for failed in registry.errors:
                click.echo(f"plugbay: {failed}", err=True)
        raise


def _arguments(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    text = sys.stdin.read() if text == "-" else text
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidError(f'the arguments are not JSON ({error}): write them like \'{{"text": "hi"}}\'') from None
    if not isinstance(given, dict):
        raise InvalidError('the arguments of a tool are a JSON object: write them like \'{"text": "hi"}\'')
    return given


def _pairs(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given one by one. What the schema has as a text stays one; else JSON is tried first."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidError(f"--arg {pair!r} has no value: write it like --arg text=hi")
        expected = schema.get("properties", {}).get(name, {})
        given[name] = value
        if not isinstance(expected, Mapping) or expected.get("type") != "string":
            with suppress(ValueError):
                given[name] = json.loads(value)
    return given


def _announce(host: _core.Host, settings: HostSettings) -> None:
    """Say where the host is, what it has loaded, what failed, and what to try."""
    failed = [f"  {error}" for error in registry.errors]
    # At a terminal the lines below say it.
    if settings.ready_json or not (sys.stdout.isatty() and sys.stderr.isatty()):
        for error in registry.errors:
            _core.log(logging.ERROR, "plugbay", str(error))
    if settings.ready_json:
        return
    loaded = ", ".join(f"{manifest.id} {manifest.version}".strip() for manifest in registry.loaded) or "no plugin"
    lines = [
        f"Plugbay at {host.url}",
        f"Sign in: {host.sign_in_link()} (once, within ten minutes)"
        if _asks_who(host)
        else "Sign in: not needed, since authentication is off: whoever reaches this address may use it",
        f"Loaded:  {loaded}",
    ]
    lines += ["Failed:", *failed] if failed else []
    lines += ["Try:", *(f"  {command}" for command in _to_try(host, settings))]
    click.echo("\n".join(lines))


def _to_try(host: _core.Host, settings: HostSettings) -> list[str]:
    """Three commands that work when they are pasted into another terminal."""
    token_file = shlex.quote(str(settings.home / "token"))
    insecure = " --insecure" if host.url.startswith("https") else ""
    shown = f' -H "Authorization: Bearer $(cat {token_file})"' if _asks_who(host) else ""
    ask = f"curl{insecure}{shown} {host.url}"
    plain = (row for row in listing.routes_here() if "GET" in row["methods"] and not {"{", "…"} & set(row["path"]))
    route = next(plain, None)
    easy = next((row for row in listing.tools_here() if not row["parameters"].get("required")), None)
    return [
        f"{ask}{route['path'] if route else '/api/host/status'}",
        f"{ask}/api/host/plugins" if easy is None else f"{ask}/api/host/tools/{easy['name']} -d '{{}}'",
        f"{_command(settings)} tools",
    ]


def _asks_who(host: _core.Host) -> bool:
    """Whether a request has to show who asks."""
    return bool(json.loads(host.settings)["auth"] != "none")


def _command(settings: HostSettings) -> str:
    """How this command is called from a shell that has neither this one's path nor its variables."""
    words = []
    if os.environ.get("PLUGBAY_HOME"):
        words.append(f"PLUGBAY_HOME={shlex.quote(str(settings.home))}")
    script = Path(sys.argv[0]).absolute()
    if shutil.which("plugbay") == str(script):
        words.append("plugbay")
    elif script.name == "plugbay":
        words.append(shlex.quote(str(script)))
    else:
        words.append(f"{shlex.quote(sys.executable)} -m plugbay")
    return " ".join(words)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
