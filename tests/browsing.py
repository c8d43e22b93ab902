"""A real browser, driven line by line through ``tests/node/browse.mjs``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from kit import PATIENCE_S
from mcp_clients import NODE

SCRIPT = Path(__file__).parent / "node" / "browse.mjs"


class Seen(NamedTuple):
    """What the browser shows."""

    status: int
    """Of the answer that the page came with."""
    url: str
    title: str
    text: str
    """What a person can read."""
    scripts: int


class Browser:
    """One browser with a profile of its own."""

    def __init__(self, names: str = "") -> None:
        """``names``: where names of hosts lead, as Chromium's ``--host-resolver-rules`` takes it."""
        packages = SCRIPT.parent / "node_modules" / "puppeteer-core"
        assert packages.is_dir(), "the browser is not installed: `make test` does it, see the Makefile's node.stamp"
        # The bundled one unpacks itself there.
        self._folder = tempfile.TemporaryDirectory()
        environment = {"PATH": os.environ["PATH"], "HOME": self._folder.name, "TMPDIR": self._folder.name}
        environment["NAMES"] = names
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            chrome = shutil.which("chromium") or shutil.which("google-chrome")
            assert chrome is not None, "Chromium is missing: install it so that `chromium` is on the PATH"
            environment["CHROME"] = chrome
        self._process = subprocess.Popen(
            [str(NODE), str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        self._folder.cleanup()

    def go(self, url: str) -> Seen:
        """Open an address, as somebody does who types it."""
        return self._do("go", url)

    def click(self, selector: str) -> Seen:
        """Click what leads to another page."""
        return self._do("click", selector)

    def fill(self, selector: str, text: str) -> Seen:
        """Write into a field, in place of what stands there."""
        return self._do("fill", selector, text)

    def _do(self, *words: str) -> Seen:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the browser has ended with {self._process.wait(PATIENCE_S)}"
        said: dict[str, Any] = json.loads(line)
        assert "error" not in said, said["error"]
        return Seen(**said)
