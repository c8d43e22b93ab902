"""Plugins are found in a fixed order, and what cannot be looked at is a record."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from powers import permissions_count

from plugbay import load_plugins, registry
from plugbay.testing import running_host

GOOD = Path(__file__).parent / "plugins" / "good"

PLUGIN = """
from plugbay import BackendPlugin, PluginManifest

class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id={id!r}, name="Found")

    def setup(self, host):
        pass
"""


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """Nothing is left of a test."""
    yield
    registry.reset()


def write(path: Path, id: str) -> Path:
    """A plugin that offers nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PLUGIN.format(id=id))
    return path


def loaded() -> list[str]:
    """The ids of what is loaded, in order."""
    return [manifest.id for manifest in registry.loaded]


def write_installed(folder: Path, name: str, module: str, target: str, text: str) -> None:
    """What `pip install --target` leaves of a package with an entry point."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[plugbay.plugins]\n{name} = {target}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    return site


def test_the_order_is_home_then_plugins_dir_then_extra_dirs_then_entry_points(
    home: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "plugins" / "installed.py", "installed")
    write(tmp_path / "one" / "one.py", "one")
    write(tmp_path / "two" / "two.py", "two")
    write(tmp_path / "extra" / "extra.py", "extra")
    monkeypatch.setenv("PLUGINS_DIR", os.pathsep.join([str(tmp_path / "two"), "", str(tmp_path / "one")]))
    write_installed(site, "b", "found_b", "found_b", PLUGIN.format(id="b"))
    write_installed(site, "a", "found_a", "found_a:PLUGIN", PLUGIN.format(id="a"))
    write_installed(site, "c", "found_c", "found_c:made", PLUGIN.format(id="c") + "made = PLUGIN()\n")
    assert load_plugins(extra_dirs=[tmp_path / "extra"]) is registry
    assert registry.errors == []
    assert loaded() == ["installed", "two", "one", "extra", "a", "b", "c"]


def test_a_host_looks_where_load_plugins_does(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugbay._runner import BackgroundHost

    write(home / "plugins" / "installed.py", "installed")
    write(tmp_path / "one" / "one.py", "one")
    write(tmp_path / "extra" / "extra.py", "extra")
    monkeypatch.setenv("PLUGINS_DIR", str(tmp_path / "one"))
    host = BackgroundHost({"plugins_dir": [str(tmp_path / "extra")], "log_level": "warn"}, http=False)
    try:
        host.start()
        assert loaded() == ["installed", "one", "extra"]
    finally:
        host.stop()


def test_within_a_folder_the_order_is_that_of_the_bytes_of_names(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "B.py", "ä.py", "a_b.py", "aa/__init__.py", "10.py", "9.py"):
        write(tmp_path / name, f"p-{len(name)}-{ord(name[0])}-{name.count('a')}")
    load_plugins(extra_dirs=[tmp_path])
    assert registry.errors == []
    order = ["10.py", "9.py", "B.py", "a.py", "a_b.py", "aa/__init__.py", "b.py", "ä.py"]
    assert loaded() == [f"p-{len(name)}-{ord(name[0])}-{name.count('a')}" for name in order]


def test_what_is_no_plugin_is_passed_over_without_an_error(tmp_path: Path) -> None:
    for name in (".hidden.py", "_private.py", "__pycache__/x.py", ".git/__init__.py"):
        write(tmp_path / name, "never")
    (tmp_path / "notes.txt").write_text("not a plugin")
    (tmp_path / "data.py.orig").write_text("not a plugin")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "module.py").write_text("raise SystemExit")
    (tmp_path / "named.py").mkdir()
    load_plugins(extra_dirs=[tmp_path])
    assert loaded() == []
    assert registry.errors == []


def test_a_folder_that_is_not_there_is_a_record_and_the_rest_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "one.py", "one")
    load_plugins(extra_dirs=[tmp_path / "nowhere", tmp_path / "plugins"])
    [error] = registry.errors
    assert (error.source, error.stage, error.code) == (str(tmp_path / "nowhere"), "discover", "not_found")
    assert loaded() == ["one"]


def test_a_file_in_the_place_of_a_folder_is_a_record(tmp_path: Path) -> None:
    path = write(tmp_path / "one.py", "one")
    load_plugins(extra_dirs=[path])
    [error] = registry.errors
    assert (error.stage, error.code) == ("discover", "invalid")


def test_a_plugin_that_cannot_be_read_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    write(tmp_path / "one.py", "one")
    load_plugins(extra_dirs=[tmp_path])
    found = {(Path(error.source).name, error.stage, error.code) for error in registry.errors}
    assert found == {("gone.py", "read", "not_found"), ("loop.py", "read", "unavailable")}
    assert loaded() == ["one"]


def test_what_may_not_be_read_is_a_record(tmp_path: Path) -> None:
    write(tmp_path / "locked" / "one.py", "one")
    write(tmp_path / "open" / "two.py", "two").chmod(0)
    (tmp_path / "locked").chmod(0)
    with permissions_count():
        load_plugins(extra_dirs=[tmp_path / "locked", tmp_path / "open"])
    (tmp_path / "locked").chmod(0o700)
    assert [(error.stage, error.code) for error in registry.errors] == [("discover", "denied"), ("read", "denied")]


def test_two_folders_may_hold_one_file_name(tmp_path: Path) -> None:
    write(tmp_path / "one" / "same.py", "one")
    write(tmp_path / "two" / "same.py", "two")
    load_plugins(extra_dirs=[tmp_path / "one", tmp_path / "two"])
    assert registry.errors == []
    assert loaded() == ["one", "two"]


def test_a_folder_that_is_named_twice_is_looked_at_once(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "one.py", "one")
    (tmp_path / "link").symlink_to(tmp_path / "plugins")
    load_plugins(extra_dirs=[tmp_path / "plugins", tmp_path / "link", tmp_path / "plugins"])
    assert registry.errors == []
    assert loaded() == ["one"]


def test_a_plugin_may_be_named_like_a_module_of_the_library(tmp_path: Path) -> None:
    import json

    write(tmp_path / "json.py", "json")
    write(tmp_path / "my-plugin 2.py", "odd-name")
    load_plugins(extra_dirs=[tmp_path])
    assert loaded() == ["json", "odd-name"]
    assert sys.modules["json"] is json


def test_a_package_imports_its_own_modules_relatively() -> None:
    load_plugins(extra_dirs=[GOOD])
    assert registry.errors == []
    assert {"shout", "double"} <= set(registry.agent_tools)
    names = [name for name in sys.modules if name.startswith("plugbay_plugin_package")]
    assert len([name for name in names if name.endswith((".inner", ".inner.words", ".inner.numbers"))]) == 3
    registry.reset()
    assert not any(name.startswith("plugbay_plugin_package") for name in sys.modules)


def test_a_module_can_be_pickled_by_the_name_it_has(tmp_path: Path) -> None:
    text = PLUGIN.format(id="pickles") + "import pickle\nclass Thing: pass\npickle.loads(pickle.dumps(Thing()))\n"
    (tmp_path / "pickles.py").write_text(text)
    load_plugins(extra_dirs=[tmp_path])
    assert registry.errors == []


def test_of_two_packages_of_one_name_the_first_on_the_path_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_installed(site, "old", "found_twice", "found_twice", PLUGIN.format(id="old"))
    write_installed(site, "other", "found_once", "found_once", PLUGIN.format(id="other"))
    first = tmp_path / "first"
    first.mkdir()
    write_installed(first, "new", "found_twice", "found_twice", PLUGIN.format(id="new"))
    monkeypatch.syspath_prepend(first)
    load_plugins()
    assert loaded() == ["new", "other"]
    # It counts when it offers nothing, too.
    (first / "found_twice-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\na = b:c\n")
    registry.reset()
    load_plugins()
    assert loaded() == ["other"]


def test_a_package_with_damaged_metadata_takes_no_other_plugin_away(site: Path) -> None:
    write_installed(site, "fine", "found_fine", "found_fine", PLUGIN.format(id="fine"))
    write_installed(site, "odd", "found_odd", "found_odd", PLUGIN.format(id="odd"))
    (site / "found_odd-1.0.dist-info" / "METADATA").unlink()
    load_plugins()
    assert loaded() == ["fine", "odd"]


def test_an_entry_point_that_fails_is_a_record_with_its_name(site: Path) -> None:
    write_installed(site, "broken", "found_broken", "found_broken", "import found_helper\nraise RuntimeError('no')\n")
    (site / "found_helper.py").write_text("")
    write_installed(site, "missing", "found_missing", "found_missing:nothing", "")
    load_plugins()
    ends = [(error.source, error.stage, error.message) for error in registry.errors]
    assert ends[0] == ("entry_point:broken", "import", "RuntimeError: no")
    assert ends[1][:2] == ("entry_point:missing", "import")
    assert ends[1][2].startswith("AttributeError: ")
    assert "found_broken" not in sys.modules
    assert "found_missing" not in sys.modules


def test_an_entry_point_is_found_in_a_wheel_that_pip_installed(tmp_path: Path, root: Path) -> None:
    info = "spam_plugin-1.0.dist-info"
    files = {
        "spam_plugin/__init__.py": "from .plugin import PLUGIN\n",
        "spam_plugin/plugin.py": PLUGIN.format(id="spam"),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: spam-plugin\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[plugbay.plugins]\nspam = spam_plugin\n",
    }
    wheel = tmp_path / "spam_plugin-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    script = "from plugbay import load_plugins; r = load_plugins(); print(r.loaded[0].id, r.errors)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "spam []\n"


def test_the_folder_of_bundled_plugins_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plugbay.plugins
    from plugbay import discovery

    bundled = tmp_path / "bundled"
    write(bundled / "first.py", "first")
    monkeypatch.setattr(discovery, "BUNDLED", bundled)
    monkeypatch.setattr(plugbay.plugins, "__path__", [str(bundled)])
    write(tmp_path / "plugins" / "second.py", "second")
    load_plugins(extra_dirs=[tmp_path / "plugins"])
    assert registry.errors == []
    assert loaded() == ["first", "second"]
    assert "plugbay.plugins.first" in sys.modules
    registry.reset()
    assert "plugbay.plugins.first" not in sys.modules
    assert not hasattr(plugbay.plugins, "first")


def test_a_folder_with_a_manifest_is_a_plugin_whose_server_is_not_started_without_a_host(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    manifest = '{"name": "Child_1", "displayName": "Child", "entry": "index.js", "server": "none.js"}'
    (tmp_path / "folder" / "manifest.json").write_text(manifest)
    load_plugins(extra_dirs=[tmp_path])
    assert (registry.errors, loaded()) == ([], ["Child_1"])


def test_a_test_host_takes_paths_modules_classes_and_instances(tmp_path: Path) -> None:
    import types

    from plugbay import BackendPlugin, PluginHost, PluginManifest

    class Given(BackendPlugin):
        manifest = PluginManifest(id="given", name="Given")

        def setup(self, host: PluginHost) -> None:
            pass

    class Made(Given):
        manifest = PluginManifest(id="made", name="Made")

    module = types.ModuleType("module")
    exec(PLUGIN.format(id="module"), module.__dict__)
    write(tmp_path / "folder" / "one.py", "one")
    write(tmp_path / "folder" / "two.py", "two")
    write(tmp_path / "listed" / "three.py", "three")
    plugins = [GOOD / "greeter.py", str(GOOD / "package"), tmp_path / "folder", module, Given, Made()]
    with running_host(*plugins, plugins_dirs=[tmp_path / "listed"]):
        assert registry.errors == []
        assert loaded() == ["greeter", "package", "one", "two", "module", "given", "made", "three"]
    assert loaded() == []
