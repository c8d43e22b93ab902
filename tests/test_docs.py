"""The documents are true: their code runs, and their lists are complete."""

import ast
import inspect
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    role: str
    """What follows the language: ``plugin=hello.py``, ``test=test_x.py``, ``live``, or nothing."""
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every fenced block that names its language."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(path.relative_to(ROOT).as_posix(), line, found[1], found[2], found[3])


BLOCKS = list(blocks())


def read(path: str) -> str:
    """The text of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


def source(pattern: str) -> str:
    """The Rust files that fit the pattern, one after the other."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").glob(pattern)))


def rows(document: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading: for each row its first code word, and all its cells."""
    section = re.split(rf"^#+ {re.escape(heading)}$", read(document), flags=re.MULTILINE)[1]
    lines = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    found = {}
    for line, following in itertools.pairwise([*lines, ""]):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        is_row = line.startswith("|") and not following.startswith("| ---")
        if is_row and (word := re.match(r"`([^`]+)`", cells[0])):
            found[word[1]] = cells
    return found


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_every_python_block_compiles_and_imports_only_public_names(block: Block) -> None:
    import plugbay

    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module == "plugbay":
            assert [alias.name for alias in node.names if alias.name not in plugbay.__all__] == []


@pytest.fixture
def shown_plugins(tmp_path: Path) -> Path:
    """A folder with the plugins of the documents."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for block in BLOCKS:
        if block.role.startswith("plugin="):
            (folder / block.role.removeprefix("plugin=")).write_text(block.text, encoding="utf-8")
    return folder


def test_the_plugins_of_the_documents_load(shown_plugins: Path, plugbay) -> None:
    assert len(list(shown_plugins.iterdir())) >= 3
    checked = plugbay("check", shown_plugins)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_tests_of_the_documents_pass(shown_plugins: Path) -> None:
    tests = [block for block in BLOCKS if block.role.startswith("test=")]
    assert tests
    for block in tests:
        path = shown_plugins / block.role.removeprefix("test=")
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(shown_plugins)]
    done = subprocess.run(command, cwd=shown_plugins, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_other_python_blocks_run(shown_plugins: Path) -> None:
    for block in BLOCKS:
        if block.language == "python" and not block.role:
            done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}: {done.stderr}"


def test_what_is_shown_against_a_running_host_works(shown_plugins: Path) -> None:
    from plugbay.testing import running_host

    with running_host(plugins_dirs=[shown_plugins]) as host:
        token = host.home / "token"
        for block in BLOCKS:
            if block.role != "live":
                continue
            script = block.text.replace("http://127.0.0.1:8000", host.url)
            script = script.replace("~/.local/share/plugbay/token", str(token))
            script = re.sub(r"\bplugbay ", f"{sys.executable} -m plugbay ", script)
            environment = {**os.environ, "PLUGBAY_HOME": str(host.home), "PLUGBAY_TOKEN": host.token}
            command = [sys.executable, "-c", script] if block.language == "python" else ["bash", "-e", "-c", script]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


def commands() -> dict[str, click.Command]:
    """Every command of `plugbay`, by its words."""
    from plugbay.cli import main

    found: dict[str, click.Command] = {}

    def visit(words: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                visit(f"{words} {name}", inner)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found[words] = command

    visit("plugbay", main)
    return found


def test_every_command_that_is_shown_exists() -> None:
    known = commands()
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    for block in BLOCKS:
        if block.language != "bash":
            continue
        for line in block.text.splitlines():
            words = line.split()
            if words[0] == "make":
                assert words[1] in targets, f"{block}: {line}"
            if words[0] == "plugbay":
                command = next((known[name] for name in sorted(known, reverse=True) if line.startswith(name)), None)
                assert command is not None, f"{block}: {line}"
                flags = {flag for option in command.params for flag in option.opts}
                assert set(re.findall(r"(?<= )--[\w-]+", line)) <= flags, f"{block}: {line}"


def test_every_command_is_in_the_table_of_commands() -> None:
    assert set(rows("docs/WIRE.md", "Commands")) == set(commands())


def test_every_kind_is_in_the_table_of_errors_with_its_codes() -> None:
    text = read("src/base/error.rs")

    def codes(function: str) -> dict[str, str]:
        body = text.split(f"fn {function}(", 1)[1].split("\n    }\n", 1)[0]
        found = {}
        for arm in re.findall(r"((?:Self::\w+[\s|]*)+)=> (?:Some\()?\"?([\w.-]+)", body):
            found |= dict.fromkeys(re.findall(r"Self::(\w+)", arm[0]), arm[1])
        return found

    table = rows("docs/WIRE.md", "Errors")
    names, status, close, rpc = codes("code"), codes("status"), codes("close_code"), codes("json_rpc_code")
    assert set(table) == set(names.values())
    for kind, code in names.items():
        _, _, http_cell, close_cell, rpc_cell = table[code]
        assert http_cell == status[kind]
        assert close_cell == close.get(kind, "None").replace("None", "–")
        assert rpc.get(kind, "") in rpc_cell
        assert rpc_cell.startswith("-") == (kind in rpc)


def test_every_setting_is_in_the_table_of_settings() -> None:
    found = {}
    for row in re.findall(r"Setting \{(.*?)\n    \},", read("src/base/rows.rs"), re.DOTALL):
        name, flag, variable = (
            re.search(rf'\b{key}: (?:Some\()?(?:"([^"]*)"|None)', row)[1] or "" for key in ("name", "flag", "env")
        )
        found[name] = (flag, "PLUGINS_DIR" if name == "plugins_dir" else variable)
    table = rows("docs/WIRE.md", "Settings")
    assert len(found) > 10
    assert {name: (cells[1].strip("`"), cells[2].strip("`")) for name, cells in table.items()} == found


def test_every_flag_of_serve_is_a_setting() -> None:
    flags = {flag for option in commands()["plugbay serve"].params for flag in option.opts if flag != "--help"}
    documented = {cells[1].strip("`") for cells in rows("docs/WIRE.md", "Settings").values()} - {""}
    assert flags - documented <= {"--config"}
    assert documented <= flags


def test_every_limit_is_in_the_table_of_limits_with_its_default() -> None:
    names = re.findall(r'Limit \{\s*name: "(\w+)"', read("src/base/limits.rs"))
    defaults = read("src/base/settings.rs").split("impl Default for Limits", 1)[1]
    table = rows("docs/WIRE.md", "Limits")
    assert sorted(table) == sorted(names)
    for name in names:
        written = re.search(rf"\b{name.removesuffix('_s')}: (?:Duration::from_secs\()?([\d_< ]+|None)", defaults)[1]
        assert int(table[name][1]) == (eval(written) or 0), name


def test_every_stage_is_in_the_table_of_stages() -> None:
    body = source("kernel/*.rs").split("impl Stage", 1)[1].split("fn as_str", 1)[1].split("\n    }\n", 1)[0]
    assert list(rows("docs/PLUGINS.md", "When something fails")) == re.findall(r'"(\w+)"', body)


def test_every_path_of_the_host_is_in_the_table_of_paths() -> None:
    table = read("docs/WIRE.md").split("## Paths", 1)[1].split("## Errors", 1)[0]
    paths = set(re.findall(r'route\(\s*"(/[^"]*)"', source("edge/**/*.rs")))
    for path in paths:
        shown = re.sub(r"/\{.*", "", path)
        assert f"`{shown}" in table or f" {shown}" in table, f"{path} is not in the table of paths"


def test_every_public_name_is_in_the_documents() -> None:
    import plugbay

    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    missing = [name for name in plugbay.__all__ if not re.search(rf"\b{re.escape(name)}\b", text)]
    assert missing == []


@pytest.mark.parametrize("name", ["PluginHost", "PluginManifest", "AgentTool", "BackendPlugin"])
def test_every_member_that_an_author_uses_is_in_the_guide(name: str) -> None:
    import plugbay

    subject = getattr(plugbay, name)
    members = {member for member in vars(subject) if not member.startswith("_")}
    if name != "PluginHost":
        members |= {member for member in inspect.signature(subject).parameters if member not in {"args", "kwargs"}}
    text = read("docs/PLUGINS.md")
    assert sorted(member for member in members if not re.search(rf"\b{member}\b", text)) == []


def test_every_public_name_has_a_docstring() -> None:
    import plugbay

    assert [
        name for name in plugbay.__all__ if callable(getattr(plugbay, name)) and not getattr(plugbay, name).__doc__
    ] == []


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as they are made of them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name) if name else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_line_of_a_document_fits() -> None:
    long = [
        f"{path.name}:{number}"
        for path in DOCUMENTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 125 and not line.startswith(("|", "curl"))
    ]
    assert long == []
