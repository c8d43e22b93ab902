"""Plugins to install: repositories and folders made on the spot, servers of a few lines, jobs followed to their end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

ENDED = {"done", "failed", "cancelled"}

SERVER = """
import http.server, json, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"version": %(version)r, "pid": os.getpid(), "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
server.serve_forever()
"""
"""A server that says which version it is."""

NEVER_READY = """
import sys, time
print("I lack something", file=sys.stderr, flush=True)
sys.exit(3)
"""


def manifest(id: str = "demo", **more: Any) -> dict[str, Any]:
    """A manifest of a plugin whose server is `server.py`; ``None`` takes a field away."""
    fields = {
        "name": id,
        "displayName": f"The {id}",
        "version": "1.0.0",
        "entry": "dist/index.js",
        "server": "server.py",
        "command": ["python3", "server.py"],
        **more,
    }
    return {name: value for name, value in fields.items() if value is not None}


def files_of(version: str = "1.0.0", id: str = "demo", **more: Any) -> dict[str, str]:
    """The files of a plugin with a server and no build."""
    return {
        "manifest.json": json.dumps(manifest(id, version=version, **more)),
        "server.py": SERVER % {"version": version},
        "dist/index.js": "export function mount() {}\n",
    }


def write(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *words: str) -> str:
    """What git says in a folder, as nobody in particular."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "nobody@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Repository:
    """A git repository that plugins are installed from."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        self.commit(files)

    @property
    def url(self) -> str:
        """Its address."""
        return f"file://{self.folder}"

    def commit(self, files: dict[str, str]) -> str:
        """Change files; the commit's id."""
        write(self.folder, files)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message", "change", "--allow-empty")
        return git(self.folder, "rev-parse", "HEAD")


class Jobs:
    """Installs with a client that asks as the owner."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def begin(self, source: str | Path, ref: str | None = None) -> dict[str, Any]:
        """A new job, in its review or ended."""
        wish = {"source": str(source)} | ({} if ref is None else {"ref": ref})
        answer = self.client.post("/api/host/plugins", json=wish)
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert answer.headers["location"] == f"/api/host/plugins/{job['job']}"
        return self.until(job, {"review"})

    def update(self, id: str) -> dict[str, Any]:
        """A new job that updates a plugin, in its review or ended."""
        answer = self.client.post(f"/api/host/plugins/{id}/update")
        assert answer.status_code == 202, answer.text
        return self.until(answer.json(), {"review"})

    def confirm(self, job: dict[str, Any], **leave: Any) -> dict[str, Any]:
        """The job at its end."""
        assert job["state"] == "review", job
        answer = self.client.post(f"/api/host/plugins/{job['job']}/confirm", json=leave)
        assert answer.status_code == 202, answer.text
        return self.until(answer.json(), set())

    def install(self, source: str | Path, ref: str | None = None, **leave: Any) -> dict[str, Any]:
        """A new job, confirmed and at its end."""
        return self.confirm(self.begin(source, ref), **leave)

    def until(self, job: dict[str, Any], states: set[str]) -> dict[str, Any]:
        """The job in one of these states, or at its end."""
        while job["state"] not in states | ENDED:
            answer = self.client.get(f"/api/host/plugins/{job['job']}", params={"seen": job["state"]})
            assert answer.status_code == 200, answer.text
            job = answer.json()
        return job

    def server(self, id: str = "demo") -> dict[str, Any]:
        """What the host says of a plugin's server."""
        answer = self.client.get(f"/api/host/plugins/{id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["server"]

    def ask(self, id: str = "demo") -> dict[str, Any]:
        """What a plugin's server itself says."""
        return httpx.get(f"http://127.0.0.1:{self.server(id)['port']}/").json()
