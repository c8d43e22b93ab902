"""What the long tests stand on: a host in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served
from system import Process

TESTS = Path(__file__).parents[1]


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
