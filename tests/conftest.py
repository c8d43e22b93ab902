"""What every test stands on: the repository, an empty home, the command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit import Command

ROOT = Path(__file__).parents[1]

# A shell that runs the tests in the background lets them ignore it, and all that they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--asks``: the test of the same bytes is as thorough as one has time for."""
    parser.addoption(
        "--asks", type=int, default=180, metavar="N", help="requests for each operation of a tutorial's topic"
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of this test's own; nothing that the user's environment says reaches a test."""
    for name in list(os.environ):
        if name.startswith("PLUGBAY_") or name == "PLUGINS_DIR":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("PLUGBAY_HOME", str(home))
    return home


@pytest.fixture
def plugbay(home: Path) -> Command:
    """Runs `plugbay` with the given words, in a process of its own, with this test's home folder."""

    def run(*words: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "plugbay", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    return run
