"""Where plugins are looked for, and in which order; nothing is imported here but what finds them.

Bundled packages, installed ones, folders, entry points. What cannot be looked at is a record, never an exception.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from plugbay.errors import UnavailableError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUNDLED = Path(__file__).parent / "plugins"
GROUP = "plugbay.plugins"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Module:
    """A module or package to import. ``name`` is what it is called in ``sys.modules``, ``path`` its first file."""

    source: str
    name: str
    path: Path
    is_package: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point of a package that is installed."""

    source: str
    entry_point: EntryPoint = field(repr=False)


@dataclass(frozen=True, slots=True)
class Child:
    """A folder with ``manifest.json``: a plugin that is a process; ``half`` is the Python package that it is, too.

    One that is switched off is known, and nothing of it runs.
    """

    source: str
    folder: Path
    half: Module | None
    is_off: bool = False


@dataclass(frozen=True, slots=True)
class Off:
    """An installed plugin that the operator has switched off."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be looked at. ``code`` and ``message`` are those of the record."""

    source: str
    stage: str
    code: str
    message: str


Found = Module | Installed | Child | Off | Failure


def discover(home: Path, folders: Sequence[Path]) -> Iterator[Found]:
    """All plugins, in the order in which they are loaded; each as it is reached, so that a failure holds up nothing."""
    yield from _in_folder(BUNDLED, bundled=True)
    if (home / "plugins").is_dir():
        is_off = _switches(home)
        yield from (_if_on(each, is_off) for each in in_folder(home / "plugins"))
    seen: set[str] = set()
    for folder in folders:
        where = os.path.realpath(folder)
        if where not in seen:
            seen.add(where)
            yield from in_folder(folder)
    yield from entry_points()


def _switches(home: Path) -> Callable[[str], bool]:
    """Whether the operator has switched an installed plugin off; each is where the switches cannot be read."""
    from plugbay import _core

    try:
        off = set(_core.switched_off(home))
    except UnavailableError:  # the host records it
        return lambda id: True
    return off.__contains__


def _if_on(found: Found, is_off: Callable[[str], bool]) -> Found:
    """What was found, or that it is switched off. What is installed lies in a folder that has its id for a name."""
    match found:
        case Module(is_package=True) if is_off(found.path.parent.name):
            return Off(found.source, found.path.parent.name)
        case Child() if is_off(found.folder.name):
            return Child(found.source, found.folder, None, is_off=True)
    return found


def folders_of_environment() -> list[Path]:
    """The folders of ``PLUGINS_DIR``."""
    return [Path(part).absolute() for part in os.environ.get("PLUGINS_DIR", "").split(os.pathsep) if part]


def home_of_environment() -> Path:
    """``PLUGBAY_HOME``, or the folder that stands for it."""
    if given := os.environ.get("PLUGBAY_HOME"):
        return Path(given).absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local/share") / "plugbay"


def in_folder(folder: Path) -> Iterator[Found]:
    """The plugins of one folder, by byte order of their names."""
    return _in_folder(folder, bundled=False)


def at(path: Path) -> Iterator[Found]:
    """The plugin that ``path`` is, a file or a package, or the plugins of the folder that it is."""
    path = path.absolute()
    if path.suffix == ".py" or (path / "__init__.py").is_file() or (path / MANIFEST).is_file():
        found = _plugin(path)
        if found is not None:
            yield found
    else:
        yield from in_folder(path)


def entry_points() -> Iterator[Found]:
    """The entry points ``plugbay.plugins`` of installed packages, by name."""
    try:
        found = sorted(_installed(), key=lambda each: each.name.encode())
    except Exception as error:
        yield Failure(f"entry_points:{GROUP}", "discover", "plugin", f"{type(error).__name__}: {error}")
        return
    for entry_point in found:
        yield Installed(f"entry_point:{entry_point.name}", entry_point)


def _installed() -> Iterator[EntryPoint]:
    """What ``importlib.metadata.entry_points(group=GROUP)`` finds, without taking apart the lists of other packages."""
    from importlib import metadata  # slow to import, and needed once

    seen = set()
    for each in metadata.distributions():
        if GROUP not in (each.read_text("entry_points.txt") or ""):
            continue
        try:
            name = each.name
            # Of two packages of one name the first on the path counts.
            counts = metadata.distribution(name)
        except Exception:  # its METADATA is damaged: it is nobody's namesake
            name, counts = None, each
        if name is None or name not in seen:
            seen.add(name)
            yield from counts.entry_points.select(group=GROUP)


def _in_folder(folder: Path, *, bundled: bool) -> Iterator[Found]:
    try:
        names = sorted((entry.name for entry in folder.iterdir()), key=os.fsencode)
    except OSError as error:
        yield _failure(folder, "discover", "folder of plugins", error)
        return
    for name in names:
        if name.startswith((".", "_")):
            continue
        found = _plugin(folder / name)
        if isinstance(found, Module) and bundled:
            module = f"plugbay.plugins.{folder.joinpath(name).stem}"
            found = Module(module, module, found.path, found.is_package)
        if found is not None:
            yield found


def _plugin(path: Path) -> Found | None:
    """What stands at ``path``; ``None`` for what is no plugin."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            names = {entry.name for entry in path.iterdir()}
            if MANIFEST in names:
                half = Module(str(path), _module_name(path), path / "__init__.py", True)
                return Child(str(path), path, half if "__init__.py" in names else None)
            if "__init__.py" not in names:
                return None
            first, is_package = path / "__init__.py", True
        elif path.suffix == ".py":
            first, is_package = path, False
        else:
            return None
        with first.open("rb") as file:
            if not is_package and _is_program(file):
                return None
    except OSError as error:
        return _failure(path, "read", "plugin", error)
    return Module(str(path), _module_name(path), first, is_package)


def _is_program(file: BinaryIO) -> bool:
    """Whether a file is a program that stands beside the plugins: it begins with ``#!`` and binds no ``PLUGIN``."""
    return file.read(2) == b"#!" and b"\nPLUGIN" not in file.read()


def _module_name(path: Path) -> str:
    """A name of our own in ``sys.modules``, so that two folders may hold one file name."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return f"plugbay_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}"


def _failure(path: Path, stage: str, what: str, error: OSError) -> Failure:
    code, cure = "unavailable", "mend what the system says"
    if isinstance(error, FileNotFoundError):
        code, cure = "not_found", "make it, or no longer name it"
    elif isinstance(error, PermissionError):
        code, cure = "denied", "let the host's user read it"
    elif isinstance(error, NotADirectoryError):
        code, cure = "invalid", "name the folder that it lies in"
    reason = error.strerror or str(error)
    return Failure(str(path), stage, code, f"{type(error).__name__}: cannot read the {what} {path}: {reason}: {cure}")
