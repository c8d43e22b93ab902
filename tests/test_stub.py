"""The stub of the Rust module says what the module is."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_stub_agrees_with_the_extension(root: Path) -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "plugbay._core", "--mypy-config-file", "pyproject.toml"]
    environment = {**os.environ, "MYPYPATH": str(root / "python")}
    checked = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
