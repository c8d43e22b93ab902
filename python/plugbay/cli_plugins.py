"""``plugbay install``, ``update``, ``uninstall``, ``enable`` and ``disable``.

All of them ask a host: the one that runs, else one of this command's own, without plugins, which starts no child.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from plugbay import listing
from plugbay._command import FAILED, failures, host_to_ask, json_option, url_option
from plugbay.client import HostClient, open_client
from plugbay.errors import InvalidError, UnavailableError

_LOOK_S = 0.2
"""How often a job is looked at."""

_START_S = 60.0
"""How long a plugin may take to stop and to start again."""

_yes = click.option("--yes", is_flag=True, help="Confirm without being asked.")
_allow_build = click.option(
    "--allow-build",
    multiple=True,
    metavar="NAME",
    help="Let this native npm module be built; can be given more than once.",
)


@click.command()
@click.argument("source")
@click.option("--ref", metavar="REF", help="A branch, a tag or a whole commit id.")
@_yes
@_allow_build
@url_option
@json_option
def install(
    source: str, ref: str | None, yes: bool, allow_build: Sequence[str], url: str | None, as_json: bool
) -> None:
    """Install the plugin at SOURCE: a folder, or a git repository as https://… or git@….

    What it is and what it would run is shown and has to be confirmed before anything of it is run.
    """
    with failures(by_code=True):
        wish = {"source": _absolute(source)} | ({} if ref is None else {"ref": ref})
        with _asked(url) as (client, starts):
            job = client.post("/api/host/plugins", wish)
            _see_through(client, job, _Answer(yes, allow_build, starts, as_json))


@click.command()
@click.argument("plugin")
@_yes
@_allow_build
@url_option
@json_option
def update(plugin: str, yes: bool, allow_build: Sequence[str], url: str | None, as_json: bool) -> None:
    """Fetch the plugin PLUGIN again from where it was installed.

    The version before is kept, and comes back when the new one does not get ready.
    """
    with failures(by_code=True), _asked(url) as (client, starts):
        job = client.post(f"{_path(plugin)}/update", {})
        _see_through(client, job, _Answer(yes, allow_build, starts, as_json))


@click.command()
@click.argument("plugin")
@_yes
@url_option
def uninstall(plugin: str, yes: bool, url: str | None) -> None:
    """Stop the plugin PLUGIN and remove it with its secrets and all that it keeps in its own folder."""
    if not yes and not _confirmed(f"Remove {plugin}, its secrets and all that it keeps in its folder?"):
        sys.exit(FAILED)
    with failures(by_code=True), _asked(url) as (client, _):
        client.delete(_path(plugin), timeout_s=_START_S)
    click.echo(f"uninstalled {plugin}")


@click.command()
@click.argument("plugin")
@url_option
def enable(plugin: str, url: str | None) -> None:
    """Let the plugin PLUGIN run; a running host starts its server."""
    _switch(plugin, "enable", url)


@click.command()
@click.argument("plugin")
@url_option
def disable(plugin: str, url: str | None) -> None:
    """Stop the server of the plugin PLUGIN, and do not start it again, or load the plugin, until it is enabled."""
    _switch(plugin, "disable", url)


class _Answer:
    """What the person at the command line says to a review."""

    def __init__(self, yes: bool, allow_build: Sequence[str], starts: bool, as_json: bool) -> None:
        self.yes = yes
        self.wish = {"allow_build": list(allow_build), "start": starts}
        self.as_json = as_json


def _switch(plugin: str, word: str, url: str | None) -> None:
    with failures(by_code=True), _asked(url) as (client, starts):
        client.post(f"{_path(plugin)}/{word}", {}, timeout_s=_START_S)
        plugins = client.get("/api/host/plugins")["plugins"]
    # A plugin without a server is in the host's process for as long as that runs.
    counts_now = starts and any(row["id"].lower() == plugin.lower() and row["server"] is not None for row in plugins)
    click.echo(f"{word}d {plugin}" if counts_now else f"{word}d {plugin}, for the next start of a host")


def _see_through(client: HostClient, job: Mapping[str, Any], answer: _Answer) -> None:
    """Follow a job to its end: show what it says, ask what it asks."""
    path = f"/api/host/plugins/{quote(job['job'], safe='')}"
    said = 0
    try:
        while True:
            job = client.get(path)
            said = _tell(job["log"], said)
            if job["state"] == "review":
                if not _reviewed(job["review"], answer):
                    client.delete(path)
                    raise UnavailableError("not confirmed: nothing was installed")
                client.post(f"{path}/confirm", answer.wish)
            elif job["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        client.delete(path)
        raise
    if answer.as_json:
        click.echo(listing.as_json(job))
    if job["state"] == "done":
        if not answer.as_json:
            _tell_end(job, answer)
        return
    if job["error"] is not None:
        click.echo(f"plugbay: {job['error']['message']}", err=True)
    sys.exit(FAILED)


def _tell_end(job: Mapping[str, Any], answer: _Answer) -> None:
    review = job["review"]
    if review is None:
        click.echo(f"{job['plugin']} is up to date")
        return
    done = "updated" if job["what"] == "update" else "installed"
    at = f" at {review['commit'][:12]}" if review["commit"] else ""
    later = "" if answer.wish["start"] and review["kind"] == "process" else "; it is loaded when a host starts"
    click.echo(f"{done} {_named(review)}{at}{later}")


def _tell(log: str, said: int) -> int:
    """Show what is new of a log, unless its beginning was let go meanwhile."""
    new = log[said:] if len(log) >= said else log
    click.echo(new, nl=False, err=True)
    return len(log)


def _reviewed(review: Mapping[str, Any], answer: _Answer) -> bool:
    for line in _review_lines(review):
        # What a stranger wrote must not move the cursor.
        click.echo("".join(letter if letter.isprintable() else "?" for letter in line), err=True)
    return answer.yes or _confirmed("Install it, and let its build run?")


def _named(review: Mapping[str, Any]) -> str:
    """The id and the version; that of a Python plugin is not known before it is loaded."""
    return f"{review['id']} {review['version']}".strip()


def _review_lines(review: Mapping[str, Any]) -> Iterator[str]:
    yield f"{_named(review)}: {review['name']}" if review["version"] else f"{review['id']}, a Python plugin"
    rows = {
        "": review["description"],
        "author": review["author"],
        "from": review["source"],
        "reference": review["reference"],
        "commit": review["commit"],
        "replaces": review["replaces"],
        "kind": review["kind"],
        "command": " ".join(review["command"]),
        "permissions": ", ".join(review["permissions"]),
        "npm packages": review["dependencies"] or "",
        "install scripts, not run": ", ".join(review["install_scripts"]),
        "native modules": ", ".join(review["native_modules"]),
        "may be built": ", ".join(sorted({*review["allow_build"]})),
    }
    rows |= {f"script {name}": text for name, text in review["scripts"].items()}
    for name, value in rows.items():
        if value:
            yield f"  {name}: {value}" if name else f"  {value}"
    for note in review["notes"]:
        yield f"  note: {note}"


def _confirmed(question: str) -> bool:
    """Ask at a terminal; without one nobody can answer."""
    if not sys.stdin.isatty():
        click.echo(f"{question} Nobody is there to answer: add --yes", err=True)
        return False
    return click.confirm(question, err=True)


def _absolute(source: str) -> str:
    """The path of a folder as the host can find it; anything else is left to the host."""
    if "://" in source or not source.strip():
        return source
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.is_file():
        raise InvalidError(
            f"{source} is a file: put it into the folder `plugins` of the home folder or into one of --plugins-dir, or "
            "make it a package, a folder with __init__.py"
        )
    if ":" not in source:
        raise InvalidError(f"there is no folder {source}: name a folder, or a repository as https://… or git@…")
    return source


@contextmanager
def _asked(url: str | None) -> Iterator[tuple[HostClient, bool]]:
    """A host to ask, and whether it is one that runs plugins."""
    starts = open_client(url) is not None
    with host_to_ask(url) as client:
        yield client, starts


def _path(plugin: str) -> str:
    return f"/api/host/plugins/{quote(plugin, safe='')}"
