"""Plugins come in and go out: from folders and git, reviewed first, swapped in one step, and back when they fail."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installing import NEVER_READY, Jobs, Repository, files_of, git, manifest, write

from plugbay.testing import running_host

SECRET = "canary-7d10aa"


@pytest.fixture
def jobs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A host that may install from `file://`, with a secret in its environment."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with running_host(home=home, install_sources=["file"]) as host:
        yield Jobs(host.http)


def is_empty(folder: Path) -> bool:
    """Whether nothing lies in a folder, or there is none."""
    return not folder.exists() or not any(folder.iterdir())


def test_a_plugin_is_installed_from_git_after_a_review_and_runs(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    repository = Repository(tmp_path / "plugin-demo", files_of())
    commit = git(repository.folder, "rev-parse", "HEAD")
    job = jobs.begin(repository.url)
    review = job["review"]
    assert (review["id"], review["version"], review["commit"]) == ("demo", "1.0.0", commit)
    assert review["command"] == ["python3", "server.py"]
    assert is_empty(home / "plugins")
    assert jobs.client.get("/api/host/plugins/demo").status_code == 404
    done = jobs.confirm(job)
    assert (done["state"], done["plugin"], done["error"]) == ("done", "demo", None)
    assert jobs.server()["state"] == "running"
    assert jobs.ask()["version"] == "1.0.0"
    assert (home / "plugins/demo/server.py").is_file()
    assert not (home / "plugins/demo/.git").exists()
    assert is_empty(home / "staging")
    kept = json.loads((home / "installed.json").read_text())["plugins"]["demo"]
    assert (kept["source"], kept["commit"]) == (repository.url, commit)
    assert stat.S_IMODE((home / "installed.json").stat().st_mode) == 0o600


def test_a_folder_is_copied_without_what_npm_and_git_keep_there(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    folder = write(tmp_path / "mine", {**files_of(), ".git/config": "[x]", "__pycache__/a.pyc": "", "data/x.txt": "x"})
    done = jobs.install(folder)
    assert done["state"] == "done", done
    placed = home / "plugins/demo"
    assert sorted(path.name for path in placed.iterdir()) == ["data", "dist", "manifest.json", "server.py"]
    assert jobs.ask()["version"] == "1.0.0"
    assert SECRET not in json.dumps(jobs.ask())


def test_a_branch_a_tag_and_a_commit_can_be_named(jobs: Jobs, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "demo", files_of("1.0.0"))
    first = git(repository.folder, "rev-parse", "HEAD")
    git(repository.folder, "tag", "v1")
    git(repository.folder, "branch", "old")
    repository.commit(files_of("2.0.0"))
    for ref, version in (("v1", "1.0.0"), ("old", "1.0.0"), (first, "1.0.0"), ("main", "2.0.0"), (None, "2.0.0")):
        job = jobs.begin(repository.url, ref)
        assert job["review"]["version"] == version, (ref, job)
        assert jobs.client.delete(f"/api/host/plugins/{job['job']}").status_code == 204
        assert jobs.until(job | {"state": ""}, set())["state"] == "cancelled"
    lost = jobs.begin(repository.url, "no-such-branch")
    assert lost["state"] == "failed"
    assert "has to be a branch, a tag or a whole commit id" in lost["error"]["message"]


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("", 422), ("-x", 422), ("relative/path", 422), ("/no/such/folder", 422), ("ext::sh -c true", 422),
        ("https://user:word@127.0.0.1/x", 422), ("http://127.0.0.1/x", 403), ("git://127.0.0.1/x", 422),
        ("ssh://-oProxyCommand=true/x", 422), ("https://example.com/a b\nc", 422),
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused_at_once(jobs: Jobs, source: str, status: int) -> None:
    answer = jobs.client.post("/api/host/plugins", json={"source": source})
    assert answer.status_code == status, answer.text
    assert len(answer.json()["detail"]) > 20


def test_a_private_address_is_not_asked_unless_the_operator_allows_it(jobs: Jobs) -> None:
    for url in ("https://127.0.0.1:1/x", "https://localhost:1/x", "ssh://git@[::1]:1/x", "https://169.254.169.254/x"):
        job = jobs.begin(url)
        assert (job["state"], job["error"]["code"]) == ("failed", "denied"), job
        assert "private address" in job["error"]["message"]


def test_nobody_elses_git_configuration_counts(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Repository(tmp_path / "evil", files_of(id="evil"))
    good = Repository(tmp_path / "good", files_of())
    config = write(tmp_path / "user", {".gitconfig": f'[url "{evil.url}"]\n\tinsteadOf = {good.url}\n'})
    monkeypatch.setenv("HOME", str(config))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{evil.url}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", good.url)
    assert jobs.begin(good.url)["review"]["id"] == "demo"


BAD = {
    "nothing": ({"readme.md": "x"}, "is no plugin"),
    "no json": ({"manifest.json": "{"}, "manifest.json is not JSON"),
    "bad name": ({"manifest.json": json.dumps(manifest("a b"))}, 'field "name"'),
    "bad package": ({**files_of(), "package.json": "["}, "package.json of the plugin cannot be used"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_plugin_never_comes_to_a_review(jobs: Jobs, name: str, tmp_path: Path, home: Path) -> None:
    files, message = BAD[name]
    job = jobs.begin(write(tmp_path / "bad", files))
    assert job["state"] == "failed", job
    assert message in job["error"]["message"]
    assert str(home) not in job["error"]["message"]
    assert is_empty(home / "staging")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "dist/../../outside"])
def test_a_link_that_leads_out_is_refused(jobs: Jobs, tmp_path: Path, target: str) -> None:
    folder = write(tmp_path / "plugin", files_of())
    (tmp_path / "outside").write_text("x")
    (folder / "dist/inside.js").symlink_to("index.js")
    (folder / "link").symlink_to(target)
    job = jobs.begin(folder)
    assert job["state"] == "failed", job
    assert "the link link leads out" in job["error"]["message"]
    (folder / "link").unlink()
    assert jobs.begin(folder)["state"] == "review"


def test_a_server_that_the_build_does_not_make_is_said(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    files = {"manifest.json": files_of()["manifest.json"]}
    done = jobs.install(write(tmp_path / "plugin", files))
    assert done["state"] == "failed"
    assert "server.py, which is not there after the build" in done["error"]["message"]
    assert is_empty(home / "plugins")


def test_a_plugin_that_does_not_get_ready_is_taken_out_again(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    done = jobs.install(write(tmp_path / "plugin", files_of() | {"server.py": NEVER_READY}))
    assert done["state"] == "failed"
    assert "I lack something" in done["error"]["message"]
    assert "was taken out again" in done["error"]["message"]
    assert is_empty(home / "plugins")
    assert json.loads((home / "installed.json").read_text())["plugins"] == {}
    assert jobs.client.get("/api/host/plugins/demo").json().get("state") in (None, "failed")
    again = jobs.install(write(tmp_path / "plugin", files_of()))
    assert again["state"] == "done", again


def test_an_update_fetches_again_keeps_the_version_before_and_says_when_there_is_none(
    jobs: Jobs, tmp_path: Path, home: Path
) -> None:
    repository = Repository(tmp_path / "demo", files_of("1.0.0"))
    assert jobs.install(repository.url)["state"] == "done"
    first = jobs.ask()["pid"]
    same = jobs.update("demo")
    assert (same["state"], same["review"]) == ("done", None)
    assert jobs.ask()["pid"] == first
    commit = repository.commit(files_of("2.0.0"))
    job = jobs.update("demo")
    assert job["review"]["commit"] == commit
    assert job["review"]["replaces"] != commit
    assert jobs.ask()["pid"] == first
    done = jobs.confirm(job)
    assert done["state"] == "done", done
    assert (jobs.ask()["version"], jobs.ask()["pid"] == first) == ("2.0.0", False)
    assert '"1.0.0"' in (home / "previous/demo/manifest.json").read_text()
    assert jobs.client.get("/api/host/plugins/demo").json()["version"] == "2.0.0"


@pytest.mark.parametrize(
    "broken",
    [{"server.py": NEVER_READY}, {"manifest.json": json.dumps(manifest("other"))}],
    ids=["not ready", "renamed"],
)
def test_the_version_before_comes_back_when_the_new_one_fails(
    jobs: Jobs, tmp_path: Path, home: Path, broken: dict[str, str]
) -> None:
    repository = Repository(tmp_path / "demo", files_of("1.0.0"))
    assert jobs.install(repository.url)["state"] == "done"
    before = json.loads((home / "installed.json").read_text())
    repository.commit(files_of("2.0.0") | broken)
    job = jobs.update("demo")
    done = jobs.confirm(job) if job["state"] == "review" else job
    assert done["state"] == "failed", done
    assert jobs.server()["state"] == "running"
    assert jobs.ask()["version"] == "1.0.0"
    assert json.loads((home / "installed.json").read_text()) == before
    assert jobs.client.get("/api/host/plugins/demo").json()["version"] == "1.0.0"
    repository.commit(files_of("3.0.0"))
    assert jobs.confirm(jobs.update("demo"))["state"] == "done"
    assert jobs.ask()["version"] == "3.0.0"


def test_a_plugin_is_removed_with_its_process_files_secrets_and_switch(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    assert jobs.install(write(tmp_path / "plugin", files_of()))["state"] == "done"
    pid = jobs.ask()["pid"]
    jobs.client.put("/api/host/plugins/demo/secrets/key", json={"value": "v"}).raise_for_status()
    assert jobs.client.delete("/api/host/plugins/demo").status_code == 204
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert is_empty(home / "plugins")
    assert is_empty(home / "previous")
    assert jobs.client.get("/api/host/plugins/demo").status_code == 404
    assert jobs.client.get("/api/host/plugins/demo/secrets").json()["secrets"] == []
    assert jobs.client.delete("/api/host/plugins/demo").status_code == 404
    assert jobs.install(tmp_path / "plugin")["state"] == "done"


def test_a_disabled_plugin_stays_so_through_an_update_and_a_restart(tmp_path: Path, home: Path) -> None:
    repository = Repository(tmp_path / "demo", files_of("1.0.0"))
    with running_host(home=home, install_sources=["file"]) as host:
        jobs = Jobs(host.http)
        assert jobs.install(repository.url)["state"] == "done"
        pid = jobs.ask()["pid"]
        answer = jobs.client.post("/api/host/plugins/demo/disable")
        assert (answer.status_code, answer.json()) == (200, {"plugin": "demo", "enabled": False})
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        repository.commit(files_of("2.0.0"))
        assert jobs.confirm(jobs.update("demo"))["state"] == "done"
        assert jobs.server()["state"] == "stopped"
    with running_host(home=home, plugins_dirs=[home / "plugins"]) as host:
        jobs = Jobs(host.http)
        assert (jobs.server()["state"], jobs.server()["enabled"]) == ("stopped", False)
        assert jobs.client.post("/api/host/plugins/demo/enable").status_code == 200
        assert jobs.ask()["version"] == "2.0.0"


def test_a_plugin_of_the_hosts_own_process_is_neither_switched_nor_removed(home: Path) -> None:
    greeter = Path(__file__).parent / "plugins/good/greeter.py"
    with running_host(greeter, home=home) as host:
        assert host.http.post("/api/host/plugins/greeter/disable").status_code == 422
        removed = host.http.delete("/api/host/plugins/greeter")
        assert (removed.status_code, removed.json()["code"]) == (409, "conflict")
        assert "was not installed by this host" in removed.json()["detail"]
        for method, path in (("POST", "nobody/enable"), ("POST", "nobody/update"), ("DELETE", "nobody")):
            assert host.http.request(method, f"/api/host/plugins/{path}").status_code == 404


def test_an_id_that_is_taken_is_refused_whatever_its_case(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.install(write(tmp_path / "one", files_of()))["state"] == "done"
    for id in ("demo", "DEMO"):
        job = jobs.begin(write(tmp_path / id / "two", files_of(id=id)))
        assert (job["state"], job["error"]["code"]) == ("failed", "conflict"), job
        assert "installed already" in job["error"]["message"]


def test_of_many_installations_of_one_plugin_at_once_one_is_done(jobs: Jobs, tmp_path: Path) -> None:
    folder = write(tmp_path / "plugin", files_of())
    outcomes: list[str] = []

    def install() -> None:
        job = jobs.begin(folder)
        outcomes.append((jobs.confirm(job) if job["state"] == "review" else job)["state"])

    threads = [threading.Thread(target=install) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] + 5 * ["failed"]
    assert jobs.ask()["version"] == "1.0.0"


def test_different_plugins_are_installed_at_once(jobs: Jobs, tmp_path: Path, home: Path) -> None:
    outcomes: dict[str, str] = {}

    def install(id: str) -> None:
        outcomes[id] = jobs.install(write(tmp_path / id, files_of(id=id)))["state"]

    threads = [threading.Thread(target=install, args=(f"p{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == dict.fromkeys(outcomes, "done")
    assert sorted(json.loads((home / "installed.json").read_text())["plugins"]) == sorted(outcomes)
    assert len(outcomes) == 5


def test_jobs_have_a_limit_and_a_review_can_be_called_off(jobs: Jobs, tmp_path: Path) -> None:
    begun = [jobs.begin(write(tmp_path / str(number), files_of(id=f"p{number}"))) for number in range(8)]
    assert {job["state"] for job in begun} == {"review"}
    full = jobs.client.post("/api/host/plugins", json={"source": str(tmp_path / "0")})
    assert (full.status_code, full.json()["code"]) == (503, "busy")
    path = f"/api/host/plugins/{begun[0]['job']}"
    assert jobs.client.delete(path).status_code == 204
    assert jobs.until(begun[0], set())["state"] == "cancelled"
    assert jobs.client.post(f"{path}/confirm").status_code == 409
    assert jobs.client.delete(path).status_code == 409
    assert jobs.begin(tmp_path / "0")["state"] == "review"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 9, "plugins": {}}', '{"version": 1}'])
def test_a_damaged_registry_is_reported_and_nothing_comes_of_it(tmp_path: Path, home: Path, damage: str) -> None:
    folder = write(tmp_path / "plugin", files_of())
    with running_host(home=home) as host:
        assert Jobs(host.http).install(folder)["state"] == "done"
    (home / "installed.json").write_text(damage)
    with running_host(home=home, plugins_dirs=[home / "plugins"], log_level="off") as host:
        jobs = Jobs(host.http)
        assert [error for error in host.registry.errors if "installed.json cannot be used" in error.message]
        started = jobs.client.post("/api/host/plugins/demo/start")
        assert started.status_code == 503
        assert "installed.json cannot be used" in started.json()["detail"]
        for method, path in (("POST", "/demo/update"), ("DELETE", "/demo"), ("POST", "")):
            answer = jobs.client.request(method, f"/api/host/plugins{path}", json={"source": str(folder)})
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), (method, path, answer.text)
    assert (home / "installed.json").read_text() == damage


def flip(path: Path) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte": lambda plugin: flip(plugin / "server.py"),
    "a file more": lambda plugin: (plugin / "json.py").write_text("print('mine')"),
    "the manifest": lambda plugin: (plugin / "manifest.json").write_text(json.dumps(manifest(version="1.0.1"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_code_that_has_changed_since_it_was_installed_is_not_started(
    jobs: Jobs, tmp_path: Path, home: Path, change: str
) -> None:
    repository = Repository(tmp_path / "demo", files_of())
    assert jobs.install(repository.url)["state"] == "done"
    jobs.client.post("/api/host/plugins/demo/stop").raise_for_status()
    (home / "plugins/demo/notes.txt").write_text("data is no code")
    jobs.client.post("/api/host/plugins/demo/start").raise_for_status()
    jobs.client.post("/api/host/plugins/demo/stop").raise_for_status()
    CHANGES[change](home / "plugins/demo")
    refused = jobs.client.post("/api/host/plugins/demo/start")
    assert refused.status_code == 503
    assert "has changed since it was installed" in refused.json()["detail"]
    assert jobs.confirm(jobs.update("demo"))["state"] == "done"
    assert jobs.ask()["version"] == "1.0.0"


def test_a_python_plugin_is_installed_for_the_next_start(tmp_path: Path, home: Path) -> None:
    text = (Path(__file__).parent / "plugins/good/greeter.py").read_text()
    with running_host(home=home) as host:
        job = Jobs(host.http).begin(write(tmp_path / "greeter", {"__init__.py": text}))
        assert (job["review"]["id"], job["review"]["kind"]) == ("greeter", "python")
        assert Jobs(host.http).confirm(job)["state"] == "done"
    with running_host(home=home, plugins_dirs=[home / "plugins"]) as host:
        assert [each.id for each in host.registry.loaded] == ["greeter"]
        assert host.http.delete("/api/host/plugins/greeter").status_code == 204
    assert is_empty(home / "plugins")


def test_what_a_host_that_was_killed_has_left_half_made_is_removed(home: Path) -> None:
    write(home / "staging/job.x/plugin", files_of())
    with running_host(home=home):
        assert is_empty(home / "staging")
