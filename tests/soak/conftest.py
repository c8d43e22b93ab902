"""What the long tests stand on: a host in a process of its own, and what the system says of that process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from served import Served  # noqa: E402  (found through the line above)


class Process:
    """What the system says of a process."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    @property
    def rss_bytes(self) -> int:
        """Its memory."""
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def files(self) -> int:
        """Its open file descriptors."""
        return len(list((self._folder / "fd").iterdir()))

    @property
    def processor_s(self) -> float:
        """The seconds that it kept processors busy."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A host with the plugin of everything, and with short times so that a test need not wait for long ones."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "everything-files").mkdir()
    (plugins / "everything.py").write_text((TESTS / "plugins" / "everything.py").read_text())
    limits = {
        "PLUGBAY_LIMITS_HEAD_TIME_S": "2",
        "PLUGBAY_LIMITS_SILENT_TIME_S": "2",
        "PLUGBAY_LIMITS_STALL_TIME_S": "2",
        "PLUGBAY_LIMITS_CONNECTIONS": "8000",
    }
    with Served(tmp_path / "home", "--access-log", "off", plugins=plugins, **limits) as host:
        yield host.ready()


@pytest.fixture
def process(served: Served) -> Process:
    return Process(served.process.pid)
