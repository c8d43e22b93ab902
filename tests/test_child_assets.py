"""The web files of plugins with a manifest: what lies beside or below the entry and the icon, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from installing import files_of, manifest, write
from raw import request, say

from plugbay.testing import RunningHost, running_host

FILES = {
    **files_of(icon="icon.svg"),
    "icon.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
    "other.png": "picture",
    "package.json": "{}",
    "dist/style.css": "p {}",
    "dist/deep/page.html": "<p>hello</p>",
    "dist/.hidden": "secret",
    "dist/node_modules/x/index.js": "secret",
    "dist/index.js.map": "{}",
    "src/server.ts": "secret",
    ".git/config": "secret",
    "node_modules/ws/index.js": "secret",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plugins."""
    plugins = tmp_path_factory.mktemp("plugins")
    demo = write(plugins / "demo", FILES)
    (plugins / "outside.js").write_text("secret")
    (demo / "dist/out.js").symlink_to("../../outside.js")
    (demo / "dist/in.js").symlink_to("index.js")
    (demo / "dist/far.js").symlink_to("../node_modules/ws/index.js")
    (demo / "dist/git").symlink_to("../.git")
    flat = manifest("flat", entry="./index.js", icon="art/icon.svg", server=None, command=None)
    write(plugins / "flat", {"manifest.json": json.dumps(flat), "index.js": "x", "art/icon.svg": "x", "lib/a.css": "x"})
    return plugins


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[RunningHost]:
    """A host with these plugins."""
    with running_host(plugins_dirs=[folder]) as running:
        assert running.registry.errors == []
        yield running


SHOWN = {
    "demo/assets/dist/index.js": "text/javascript",
    "demo/assets/dist%2Findex.js": "text/javascript",
    "demo/assets/dist/in.js": "text/javascript",
    "demo/assets/dist/style.css": "text/css",
    "demo/assets/dist%2Fdeep%2Fpage.html": "text/html",
    "demo/assets/icon.svg": "image/svg+xml",
    "demo/assets/other.png": "image/png",
    "flat/assets/index.js": "text/javascript",
    "flat/assets/lib/a.css": "text/css",
    "flat/assets/art%2Ficon.svg": "image/svg+xml",
}


@pytest.mark.parametrize("path", SHOWN)
def test_what_lies_beside_or_below_entry_and_icon_is_served(host: RunningHost, path: str) -> None:
    answer = host.http.get(f"/api/plugins/{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(SHOWN[path])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    head = host.http.head(f"/api/plugins/{path}")
    assert (head.status_code, head.content) == (200, b"")


KEPT_BACK = [
    "package.json", "manifest.json", "server.py", "src/server.ts", ".git/config", "dist/.hidden", "dist/out.js",
    "node_modules/ws/index.js", "dist/node_modules/x/index.js", "dist/far.js", "dist/git/config", "dist/nothing.js",
    "dist", "dist/", "dist%2F..%2Fsrc%2Fserver.ts", "dist/%2e%2e/src/server.ts", "dist%252Findex.js", "dist/index.js%00",
    "/etc/passwd", "%2Fetc%2Fpasswd", "dist\\index.js", "dist/deep/../../src/server.ts", "..%2Foutside.js", "",
]  # fmt: skip


@pytest.mark.parametrize("path", KEPT_BACK)
def test_nothing_else_is_served_however_it_is_asked_for(host: RunningHost, path: str) -> None:
    headers = {"Authorization": f"Bearer {host.token}"}
    answer = say(host.url, request(host.url, f"/api/plugins/demo/assets/{path}", headers.items()))
    assert answer is not None
    assert answer.status in (400, 404), path
    assert b"secret" not in answer.body


def test_a_disabled_plugin_shows_nothing(host: RunningHost) -> None:
    path = "/api/plugins/demo/assets/dist/index.js"
    host.http.post("/api/host/plugins/demo/disable").raise_for_status()
    assert host.http.get(path).status_code == 404
    host.http.post("/api/host/plugins/demo/enable").raise_for_status()
    assert host.http.get(path).status_code == 200


def test_strangers_see_no_assets(host: RunningHost) -> None:
    assert httpx.get(f"{host.url}/api/plugins/demo/assets/dist/index.js").status_code == 401
