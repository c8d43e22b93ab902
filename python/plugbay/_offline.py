"""What a command does itself when no host runs: read the settings as ``serve`` does, load the plugins in this process.

The core reads the settings, in a home folder that lasts for that moment: the real one is neither locked nor written.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import click

from plugbay import _core, discovery, loader
from plugbay._runner import BackgroundHost, HostSettings


def load(flags: Mapping[str, Any], paths: Sequence[Path] = ()) -> None:
    """Load the plugins at ``paths``, else those that a host with these settings would load; runs no hook.

    Raises ``InvalidError`` for a bad setting.
    """
    settings = _settings(flags)
    results()
    everything = discovery.discover(settings.home, settings.folders)
    named = (found for path in paths for found in discovery.at(path))
    loader.load(named if paths else everything, settings.hook_time_s, fast_routes=settings.fast_routes)


@contextmanager
def host(flags: Mapping[str, Any]) -> Iterator[BackgroundHost]:
    """A host with these settings and without HTTP, for as long as the block lasts; its hooks run.

    It starts no child process, and logs nothing unless a level is asked for: what a call ends with is the answer. The
    rules that people have added to the home folder hold here, too.

    Raises ``InvalidError`` for a bad setting.
    """
    results()
    home = discovery.home_of_environment()
    with tempfile.TemporaryDirectory(prefix="plugbay-") as folder:
        rules = home / "rules.json"
        if rules.exists():
            shutil.copy2(rules, folder)
        flags = {"log_level": "off", **flags, "home": folder, "children": False}
        running = BackgroundHost(flags, lambda settings: discovery.discover(home, settings.folders), http=False)
        try:
            running.start()
            yield running
        finally:
            running.stop()


def tell() -> None:
    """Say that no host was asked."""
    home = discovery.home_of_environment()
    click.echo(f"no host runs in {home}: loaded the plugins here", err=True)


@cache
def results() -> TextIO:
    """Standard output, for results alone: what plugins print goes to standard error from the first call on."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def _settings(flags: Mapping[str, Any]) -> HostSettings:
    with tempfile.TemporaryDirectory(prefix="plugbay-") as folder:
        reader = _core.Host(json.dumps({**flags, "home": folder, "handle_signals": False}), False)
        try:
            return dataclasses.replace(HostSettings.of(reader), home=discovery.home_of_environment())
        finally:
            reader.finish()
