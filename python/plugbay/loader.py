"""From what was found to what serves: import, setup, commit; or a record of what went wrong, and on to the next.

Import and ``setup`` run on a thread of their own, each within the time limit of hooks. Nothing that a plugin raises,
``SystemExit`` among it, gets further than here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from plugbay import _core
from plugbay import fastapi as fastapi_caches
from plugbay._thread import GivenUpError, JobError, LoaderThread
from plugbay.discovery import BUNDLED, Child, Failure, Found, Installed, Module, Off
from plugbay.errors import InvalidError, PlugbayError
from plugbay.host import BackendPlugin, PluginHost
from plugbay.lifespan import Lifespan
from plugbay.sdk import PluginManifest
from plugbay.signature import shown

HOOK_TIME_S = 10.0
"""The limit of each import and each ``setup`` where no host says otherwise."""


_OWN = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Given:
    """A plugin that was handed over as an object: an instance, a subclass, or a module with ``PLUGIN``."""

    source: str
    thing: object = field(repr=False)


@dataclass(slots=True)
class _Loaded:
    """What must be let go when a plugin is withdrawn."""

    source: str
    modules: list[str]
    lifespans: list[Lifespan] = field(repr=False)


@dataclass(slots=True)
class _Attempt:
    """What is known so far of a plugin that is being loaded."""

    source: str
    stage: str = "import"
    plugin: str | None = None
    modules: list[str] = field(default_factory=list)
    package: str | None = None
    before: frozenset[str] = frozenset()
    host: PluginHost | None = None

    def all_modules(self) -> list[str]:
        """The modules that came with the plugin; of an entry point, those of its package that are new."""
        if self.package is None:
            return self.modules
        return [name for name in set(sys.modules) - self.before if name.partition(".")[0] == self.package]


_loaded: dict[str, _Loaded] = {}
_lock = threading.RLock()
"""Held while plugins are loaded or let go, so that two threads do not load one plugin twice."""


def load(found: Iterable[Found | Given], hook_time_s: float = HOOK_TIME_S, *, fast_routes: bool = True) -> None:
    """Load each plugin in turn. What is loaded already is passed over; what failed before is tried again.

    ``fast_routes`` says whether routes of FastAPI are compiled.
    """
    with _lock:
        let_go()
        thread = LoaderThread()
        try:
            for each in found:
                if isinstance(each, Failure):
                    _core.record(each.source, None, each.stage, each.code, each.message, None)
                elif isinstance(each, Off):
                    _core.pass_over(each.id, each.source)
                elif all(loaded.source != each.source for loaded in _loaded.values()):
                    if not isinstance(each, Child):
                        _load(each, thread, hook_time_s, fast_routes)
                    elif each.half is None:
                        _load_child(each)
                    else:
                        _load(each.half, thread, hook_time_s, fast_routes, each.folder)
        finally:
            thread.close()


def let_go() -> None:
    """Forget the modules of plugins that no longer serve, so that their objects can die."""
    with _lock:
        serving = {plugin for plugin, *_ in _core.plugins()}
        gone = [_loaded.pop(plugin) for plugin in list(_loaded) if plugin not in serving]
        for loaded in gone:
            for lifespan in loaded.lifespans:
                lifespan.abandon()
            _forget_modules(loaded.modules)
        if gone:
            fastapi_caches.forget()


def _load_child(found: Child) -> None:
    """Commit a plugin that is a process alone; its server is started by the host, where there is one."""
    attempt = _Attempt(found.source, "read")
    try:
        draft = _core.Draft.of_child(found.source, found.folder)
        if found.is_off and not draft.has_server:
            _core.pass_over(draft.id, found.source)
            draft.close()
            return
        attempt.plugin, attempt.stage = draft.id, "commit"
        draft.commit()
        _loaded[draft.id] = _Loaded(attempt.source, [], [])
    except Exception as error:
        _give_up_for(attempt, error)


def _load(
    found: Module | Installed | Given,
    thread: LoaderThread,
    hook_time_s: float,
    fast_routes: bool,
    child: Path | None = None,
) -> None:
    """Load a Python plugin; ``child`` is the folder whose ``manifest.json`` describes its other half."""
    attempt = _Attempt(found.source)
    try:
        plugin = thread.run(lambda: _import(found, attempt), hook_time_s)
        host = _open(plugin, found, attempt, fast_routes)
        if child is not None:
            host._add_child(child)
        attempt.host, attempt.stage = host, "setup"
        thread.run(lambda: _set_up(plugin, host), hook_time_s)
        attempt.stage = "commit"
        lifespans = host._finish()
        _loaded[host.manifest.id] = _Loaded(attempt.source, attempt.all_modules(), lifespans)
    except GivenUpError:
        what = "the import" if attempt.stage == "import" else "setup(host)"
        _give_up(attempt, "timeout", f"TimeoutError: {what} did not end within {hook_time_s:g} s", None)
    except JobError as failure:
        _give_up_for(attempt, failure.error)
    except Exception as error:
        _give_up_for(attempt, error)


def _give_up_for(attempt: _Attempt, error: BaseException) -> None:
    code = error.code if isinstance(error, PlugbayError) else "plugin"
    if isinstance(error, SyntaxError) and (_plugins_part(error) is None or _is_below(error.filename, attempt.source)):
        # Its own file cannot be read as Python; a text that it tries to run as code is its own affair.
        attempt.stage, code = "read", "malformed"
    _give_up(attempt, code, _text(error), _trace(error))


def _give_up(attempt: _Attempt, code: str, message: str, trace: str | None) -> None:
    if attempt.host is not None:
        attempt.host._abandon()
    _forget_modules(attempt.all_modules())
    fastapi_caches.forget()
    _core.record(attempt.source, attempt.plugin, attempt.stage, code, message, trace)


def _import(found: Module | Installed | Given, attempt: _Attempt) -> BackendPlugin:
    """Import what was found and return its plugin. Runs on the loader's thread."""
    if isinstance(found, Given):
        thing: object = found.thing
    elif isinstance(found, Module):
        thing = _import_file(found, attempt)
    else:
        thing = _import_entry_point(found, attempt)
    if isinstance(thing, ModuleType):
        if not hasattr(thing, "PLUGIN"):
            raise InvalidError("there is no PLUGIN in the module: end it with PLUGIN = YourPlugin()")
        thing = thing.PLUGIN
    if inspect.isclass(thing) and issubclass(thing, BackendPlugin):
        thing = thing()
    if not isinstance(thing, BackendPlugin):
        raise InvalidError(f"PLUGIN is {shown(thing)}: make it an instance or a subclass of plugbay.BackendPlugin")
    return thing


def _import_file(found: Module, attempt: _Attempt) -> ModuleType:
    if found.name.startswith("plugbay.plugins."):
        attempt.modules.append(found.name)
        return importlib.import_module(found.name)
    search = [str(found.path.parent)] if found.is_package else None
    spec = importlib.util.spec_from_file_location(found.name, found.path, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise InvalidError(f"{found.path} is no Python file: name it with the ending .py")
    module = importlib.util.module_from_spec(spec)
    attempt.modules.append(found.name)
    sys.modules[found.name] = module
    spec.loader.exec_module(module)
    return module


def _import_entry_point(found: Installed, attempt: _Attempt) -> object:
    attempt.package = found.entry_point.module.partition(".")[0]
    attempt.before = frozenset(sys.modules)
    return found.entry_point.load()


def _open(plugin: BackendPlugin, found: Module | Installed | Given, attempt: _Attempt, fast_routes: bool) -> PluginHost:
    """Read the manifest and open a draft. Raises ``InvalidError`` for a bad id, name or ``host_api``."""
    attempt.stage = "read"
    manifest = getattr(plugin, "manifest", None)
    if not isinstance(manifest, PluginManifest):
        raise InvalidError(
            f"the manifest of {type(plugin).__qualname__} is {shown(manifest)}: write "
            'manifest = PluginManifest(id="…", name="…") in the class'
        )
    fields = (manifest.id, manifest.name, manifest.version, manifest.description, manifest.host_api)
    if not all(isinstance(value, str) for value in fields):
        raise InvalidError(f"each field of a manifest is a text, found {fields!r}: quote them")
    attempt.plugin = manifest.id
    draft = _core.Draft(attempt.source, *fields)
    return PluginHost(manifest, draft, _folder_of(plugin, found), fast_routes=fast_routes)


def _set_up(plugin: BackendPlugin, host: PluginHost) -> None:
    result: Any = plugin.setup(host)  # type: ignore[func-returns-value]
    if inspect.iscoroutine(result):
        result.close()
        raise InvalidError(
            "setup is an `async def`: make it a plain `def`, and move what waits into an on_startup hook"
        )


def _folder_of(plugin: BackendPlugin, found: Module | Installed | Given) -> Path | None:
    """The folder that the plugin's relative paths are relative to."""
    if isinstance(found, Module):
        return found.path.parent
    module = sys.modules.get(type(plugin).__module__)
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).absolute().parent


def _forget_modules(names: Iterable[str]) -> None:
    """Take modules and what lies below them out of ``sys.modules``."""
    gone = tuple(names)
    below = tuple(f"{name}." for name in gone)
    for name in list(sys.modules):
        if name in gone or name.startswith(below):
            module = sys.modules.pop(name)
            parent, _, child = name.rpartition(".")
            if getattr(sys.modules.get(parent), child, None) is module:
                delattr(sys.modules[parent], child)


def _text(error: BaseException) -> str:
    """``Type: text``, on one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its text cannot be made)"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def _trace(error: BaseException) -> str | None:
    """The traceback as Python prints it, from the plugin's first line on; ``None`` when no line is the plugin's."""
    trace = _plugins_part(error)
    if trace is None and not isinstance(error, SyntaxError):
        return None
    return "".join(traceback.format_exception(type(error), error, trace))


def _plugins_part(error: BaseException) -> TracebackType | None:
    """The traceback without the loader's own frames."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ours(file: str) -> bool:
    return file.startswith("<frozen importlib") or (_is_below(file, _OWN) and not _is_below(file, str(BUNDLED)))


def _is_below(file: str | None, folder: str) -> bool:
    return file is not None and file.startswith(folder)
