"""A host in a process of its own: `plugbay serve` with plugins written on the spot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from kit import PATIENCE_S


def write_plugin(folder: Path, id: str, text: str) -> Path:
    """A plugin file: ``text`` has the module's own lines, and a ``def setup(host)``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{id}.py"
    end = "\n\nclass Plugin(BackendPlugin):\n"
    end += f'    manifest = PluginManifest(id="{id}", name="{id}")\n\n'
    end += "    def setup(self, host):\n        setup(host)\n\n\nPLUGIN = Plugin()\n"
    path.write_text("from plugbay import AgentTool, BackendPlugin, PluginManifest\n\n" + text + end)
    return path


class Served:
    """`plugbay serve` on a free port; its standard error is read all along."""

    def __init__(
        self,
        home: Path,
        *words: str,
        plugins: Path | None = None,
        under: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> None:
        """``under``: words before the command, which must become it without another process."""
        self.home = home
        folder = [] if plugins is None else ["--plugins-dir", str(plugins)]
        command = [*under, sys.executable, "-m", "plugbay", "serve", "--port", "0", "--ready-json", *folder, *words]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PLUGBAY_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            text=True,
        )
        self._log: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = 0

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        if kind is not None:
            print(self.log, file=sys.stderr)

    def ready(self) -> Served:
        """Wait until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the host has ended: {self.log}"
        self.port = json.loads(line)["port"]
        return self

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The owner's token."""
        return (self.home / "token").read_text().strip()

    def client(self, **options: Any) -> httpx.Client:
        """A client that asks as the owner."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, **options)

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        with self._news:
            return "".join(self._log)

    def logged(self, pattern: str) -> re.Match[str]:
        """Wait for a piece of the log that matches."""
        with self._news:
            found = None

            def look() -> bool:
                nonlocal found
                found = re.search(pattern, "".join(self._log))
                return found is not None

            assert self._news.wait_for(look, PATIENCE_S), f"no {pattern!r} in the log: {''.join(self._log)}"
            assert found is not None
            return found

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._log.append(line)
                self._news.notify_all()
