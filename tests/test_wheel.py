"""The wheel installs into an empty environment and finds plugins that are installed beside it."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PLUGIN = '''\
"""A plugin that is installed."""

from plugbay import BackendPlugin, PluginHost, PluginManifest


def greet(name: str) -> str:
    """Greet somebody."""
    return f"hello {name}"


class Greeter(BackendPlugin):
    manifest = PluginManifest(id="greeter", name="Greeter", version="2.0.0")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(greet)


PLUGIN = Greeter
'''


def run(*command: str | Path, cwd: Path) -> str:
    """What the command writes to standard output; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def plugin_wheel(folder: Path) -> Path:
    """A wheel with one module and one entry point."""
    info = "greeter_plugin-2.0.0.dist-info"
    files = {
        "greeter_plugin.py": PLUGIN,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeter-plugin\nVersion: 2.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[plugbay.plugins]\ngreeter = greeter_plugin\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    path = folder / "greeter_plugin-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)
    return path


@pytest.mark.timeout(900)
def test_the_wheel_works_in_an_empty_environment_and_loads_an_installed_plugin(
    root: Path, tmp_path: Path, home: Path
) -> None:
    maturin = Path(sys.executable).parent / "maturin"
    run(maturin, "build", "--release", "--quiet", "--out", tmp_path, cwd=root)
    [wheel] = tmp_path.glob("plugbay-*.whl")
    assert re.fullmatch(r"plugbay-[\d.]+-cp311-abi3-.+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    assert [name for name in names if not re.match(r"plugbay/|plugbay-[\d.]+\.dist-info/", name)] == []

    # The versions that the tests run with, without the hashes: a wheel that was just built has none.
    locked = (root / "requirements" / "dev.txt").read_text(encoding="utf-8")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", locked, re.MULTILINE)), encoding="utf-8")

    empty = tmp_path / "empty"
    run(sys.executable, "-m", "venv", empty, cwd=tmp_path)
    install = [empty / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", constraints]
    run(*install, wheel, plugin_wheel(tmp_path), cwd=tmp_path)
    command = empty / "bin" / "plugbay"
    assert "greeter" in run(command, "plugins", cwd=tmp_path)
    assert run(command, "tool", "call", "greet", '{"name": "Ada"}', cwd=tmp_path).strip() == '"hello Ada"'
    run(empty / "bin" / "python", "-m", "pip", "check", cwd=tmp_path)
