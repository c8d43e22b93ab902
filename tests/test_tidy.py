"""The shape of the source, as a test."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PACKAGE = ROOT / "python" / "plugbay"

WALL = 500
"""Lines that no source file goes beyond."""

NAMES_PYO3 = re.compile(r"lib|host|engine/python/\w+")
"""The Rust files that may name a pyo3 type: the module's own and the engine's."""

ATTACHES = re.compile(r"engine/python/\w+")
"""The Rust files that may attach to the interpreter."""

UNSAFE = re.compile(r"app|base/memory|engine/(native/library|process/spawn|python/\w+)")
"""The Rust files that may hold `unsafe`; each place says why in an `expect`."""


@cache
def tracked() -> list[Path]:
    """The files of the project: what git knows or would add; without git, all but what the build makes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]
    made = {".git", ".venv", ".venv-oldest", ".venv-robyn", "target", "dist", "node_modules", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts)]


def name_of(path: Path) -> str:
    """A file's path below the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    """A file's text; empty for one that is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def rust_files() -> dict[str, str]:
    """The text of every Rust file of the core, `mod.rs` aside, by its path below `src` without `.rs`."""
    files = (path for path in SRC.rglob("*.rs") if path.name != "mod.rs")
    return {path.relative_to(SRC).with_suffix("").as_posix(): text_of(path) for path in files}


def without_tests(text: str) -> str:
    """A Rust file's text up to its tests."""
    return text.split("#[cfg(test)]", 1)[0]


def code(text: str) -> str:
    """A Rust text without its comments and docs."""
    return re.sub(r"//.*", "", text)


@cache
def floors() -> dict[str, float]:
    """The floor of each Rust file, read from the `mod call; // 1.3` lines of lib.rs and of each mod.rs."""
    found = {"lib": 99.0}
    for index in [SRC / "lib.rs", *SRC.rglob("mod.rs")]:
        folder = "" if index.name == "lib.rs" else f"{index.parent.relative_to(SRC).as_posix()}/"
        for name, floor in re.findall(r"mod (\w+);\s*// (\d+\.\d+)", text_of(index)):
            found[folder + name] = float(floor)
    return found


def imports(file: str) -> set[str]:
    """The core's own files that `file` uses: `use crate::kernel::call::{…}` is "kernel/call".

    A path that leads to no file stays as it is, and is then on no floor.
    """
    text = code(rust_files()[file])
    paths = set(re.findall(r"\bcrate::((?:\w+::)+\w+)", text))
    for folder, names in re.findall(r"\bcrate::((?:\w+::)+)\{([^}]*)\}", text):
        paths |= {folder + name.split("::")[0].split(" as ")[0].strip() for name in names.split(",") if name.strip()}
    known = {
        path: [path.rsplit("::", cut)[0].replace("::", "/") for cut in range(path.count("::") + 1)] for path in paths
    }
    return {next((file for file in files if file in floors()), path) for path, files in known.items()}


def test_every_rust_file_is_on_a_floor() -> None:
    assert set(rust_files()) == set(floors())


def test_a_rust_file_imports_only_from_lower_floors() -> None:
    floor = floors()
    up = [
        f"{file} uses {used}"
        for file in rust_files()
        for used in imports(file) - {file}
        if not floor.get(used, 99) < floor[file]
    ]
    assert up == []


def test_rust_imports_are_written_so_that_this_test_can_read_them() -> None:
    hidden = [
        f"{file}: {found}"
        for file, text in rust_files().items()
        for found in re.findall(r"use crate::\{|\b(?:use|in) super::", code(without_tests(text)))
    ]
    assert hidden == []


def test_an_index_of_a_storey_holds_its_sign_and_its_files_and_nothing_else() -> None:
    line = re.compile(r"//! .*|//!|#\[cfg\(.*\)\]|pub mod \w+;( // \d+\.\d+)?|")
    other = [
        f"{name_of(index)}: {text}"
        for index in SRC.rglob("mod.rs")
        for text in text_of(index).splitlines()
        if not line.fullmatch(text)
    ]
    assert other == []


def test_an_index_names_its_files_lowest_first() -> None:
    for index in SRC.rglob("mod.rs"):
        listed = [float(floor) for floor in re.findall(r"// (\d+\.\d+)", text_of(index))]
        assert listed == sorted(listed), f"{name_of(index)} is not in the order of its floors"


def test_no_rust_test_stands_where_only_a_build_with_python_has_it() -> None:
    """The tests of Rust are built without the feature `python`."""
    hidden = [file for file, text in rust_files().items() if NAMES_PYO3.fullmatch(file) and "cfg(test)" in text]
    assert hidden == []


def test_no_source_file_is_longer_than_the_wall() -> None:
    sources = [path for path in tracked() if path.suffix in {".rs", ".py", ".pyi", ".sh"}]
    long = [f"{name_of(path)}: {lines}" for path in sources if (lines := text_of(path).count("\n")) > WALL]
    assert long == []


def test_every_source_file_begins_with_its_sign() -> None:
    rust = [path for path in tracked() if path.suffix == ".rs" and not text_of(path).startswith("//! ")]
    python = [
        path
        for path in tracked()
        if path.suffix == ".py"
        and not name_of(path).startswith("tests/plugins/")
        and ast.get_docstring(ast.parse(text_of(path))) is None
    ]
    assert [name_of(path) for path in [*rust, *python]] == []


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        (r"\bpyo3(_async_runtimes)?::", NAMES_PYO3),
        (r"\bPython::(try_)?attach\b|\bwith_gil\b", ATTACHES),
        (r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b)", UNSAFE),
    ],
    ids=["pyo3", "attach", "unsafe"],
)
def test_only_its_own_files_name(what: str, allowed: re.Pattern[str]) -> None:
    elsewhere = [
        file for file, text in rust_files().items() if re.search(what, code(text)) and not allowed.fullmatch(file)
    ]
    assert elsewhere == []


def test_no_work_is_left_without_an_issue_number() -> None:
    mark = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d+)")
    left = [
        f"{name_of(path)}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__)
        for line in text_of(path).splitlines()
        if mark.search(line)
    ]
    assert left == []


def test_the_project_names_no_machine_and_no_package_registry() -> None:
    places = r"(?<![\w.])/(?:work|root|Users|home/(?!nobody/)\w+)/|\.pyenv/|bash_jobs"
    registries = (
        r"(?:test\.)?pypi\.org/simple|files\.pythonhosted|registry\.npmjs|index\.crates\.io|--(?:extra-)?index-url"
    )
    forbidden = re.compile(f"{places}|{registries}")
    found = [
        f"{name_of(path)}: {hit.group()}"
        for path in tracked()
        if path != Path(__file__)
        for hit in forbidden.finditer(text_of(path))
    ]
    assert found == []


def package_imports() -> dict[str, set[str]]:
    """For each module of the package, the modules of the package that it imports when it is itself imported."""
    modules = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        used: set[str] = set()
        for node in ast.parse(text_of(path)).body:
            if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").startswith("plugbay")):
                base = (node.module or "").removeprefix("plugbay").strip(".")
                used |= {base} if base else {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                used |= {a.name.removeprefix("plugbay.") for a in node.names if a.name.startswith("plugbay.")}
        found[module] = used & set(modules)
    return found


def test_no_python_modules_import_each_other_in_a_circle() -> None:
    left = package_imports()
    while free := {module for module, used in left.items() if not used & set(left)}:
        left = {module: used for module, used in left.items() if module not in free}
    assert left == {}


def test_a_bundled_plugin_stands_on_the_public_names_alone() -> None:
    inner = re.compile(r"^\s*(?:from plugbay\.(?!testing)\w|import plugbay\.|from \.\.)", re.MULTILINE)
    assert [name_of(path) for path in (PACKAGE / "plugins").rglob("*.py") if inner.search(text_of(path))] == []


def test_no_test_waits_for_a_time() -> None:
    waits = []
    for path in [*ROOT.glob("tests/test_*.py"), ROOT / "tests/conftest.py"]:
        for node in ast.walk(ast.parse(text_of(path))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}):
                continue
            if [ast.unparse(argument) for argument in node.args] != ["0"]:
                waits.append(f"{name_of(path)}:{node.lineno}")
    assert waits == []
