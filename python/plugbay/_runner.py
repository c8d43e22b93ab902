"""A host's life as Python drives it: the core, the loop that ``async def`` handlers run on, and the loading of plugins.

``serve`` keeps the main thread for the loop; ``BackgroundHost`` gives it a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from plugbay import _core, _thread, discovery, loader
from plugbay._logging import HostLog
from plugbay.errors import UnavailableError

Result = TypeVar("Result")
Sources = Callable[["HostSettings"], Iterable[discovery.Found | loader.Given]]

_GRACE_S = 1.0
"""How long tasks and threads that plugins left behind may take to end."""

_OBJECTS_WHILE_LOADING = 50_000
"""So many new objects bring on a collection while plugins are loaded; in a plain interpreter 700 do."""

_LOADING = "plugbay-loading"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings that Python needs."""

    home: Path
    folders: list[Path]
    hook_time_s: float
    log_level: str
    ready_json: bool
    fast_routes: bool

    @classmethod
    def of(cls, host: _core.Host) -> HostSettings:
        """Those in force."""
        read = json.loads(host.settings)
        return cls(
            home=Path(read["home"]),
            folders=[Path(folder) for folder in read["plugins_dirs"]],
            hook_time_s=read["hook_time_s"],
            log_level=read["log_level"],
            ready_json=read["ready_json"],
            fast_routes=read["fast_routes"],
        )


def all_plugins(settings: HostSettings) -> Iterable[discovery.Found]:
    """Where a host looks for plugins unless it is given others."""
    return discovery.discover(settings.home, settings.folders)


def serve(flags: Mapping[str, Any], announce: Callable[[_core.Host, HostSettings], None]) -> int:
    """Run a host until it is told to stop, and return the exit code.

    ``announce`` is called once it serves, on a thread of its own. Raises ``InvalidError`` for a bad setting and
    ``ConflictError`` when another host holds the home folder or the port.
    """
    host = _core.Host(json.dumps(flags))
    settings = HostSettings.of(host)
    ready_line = _take_standard_output() if settings.ready_json else None
    # Signals belong to the core: a plugin that blocks the loop must not make the host unstoppable.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = HostLog()
    loop = _new_loop()
    crashed: list[BaseException] = []

    def bring_up() -> None:
        _bring_up(host, settings, all_plugins, loop)
        if ready_line is not None:
            os.write(ready_line, json.dumps({"ready": True, "port": host.port}).encode() + b"\n")
        with contextlib.suppress(OSError):  # nobody reads what we print
            announce(host, settings)

    try:
        log.open(settings.log_level)
        host.attach(loop)
        host.start()
        _start_thread(_LOADING, _guarded(bring_up, host, crashed))
        waiting = _start_thread("plugbay-waiting", _guarded(host.wait, host, crashed))
        _run_loop(loop, host)
        waiting.join()
    finally:
        code = int(host.finish() or bool(crashed))
        # The core has ended, and with it what obeyed signals: from now on one ends the process at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log.close()
        loop.close()
    if _is_stuck(host):
        # Such an interpreter is never finalized: its threads would wait for one another.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


class BackgroundHost:
    """A host whose loop runs on a thread of its own, for a console, a test, or a program that embeds it."""

    def __init__(self, flags: Mapping[str, Any], sources: Sources = all_plugins, *, http: bool = True) -> None:
        """Make the host; nothing runs yet.

        Raises ``InvalidError`` for a bad setting, ``ConflictError`` when another host runs in this process or holds the
        home folder or the port.
        """
        self._core = _core.Host(json.dumps({**flags, "handle_signals": False}), http)
        self._sources = sources
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._log = HostLog()
        self.settings = HostSettings.of(self._core)

    @property
    def core(self) -> _core.Host:
        """The host itself."""
        return self._core

    def start(self) -> None:
        """Start the loop and the core, load the plugins, run their startup hooks. Returns when the host serves.

        Raises what the loop or the core raises when it cannot start; ``stop`` is then still to be called.
        """
        attached = threading.Event()
        failed: list[BaseException] = []
        loop = self._loop = _new_loop()

        def run() -> None:
            try:
                self._core.attach(loop)
            except BaseException as error:
                failed.append(error)
                return
            finally:
                attached.set()
            _run_loop(loop, self._core)

        self._log.open(self.settings.log_level)
        self._thread = _start_thread("plugbay-loop", run)
        attached.wait()
        if failed:
            raise failed[0]
        self._core.start()
        _bring_up(self._core, self.settings, self._sources, loop)

    def run(self, work: Coroutine[Any, Any, Result], limit_s: float | None = None) -> Result:
        """Run a coroutine on the host's loop and wait for it, from any other thread; Ctrl-C cancels it.

        Raises ``UnavailableError`` when the host does not run or this is the loop's own thread.
        """
        if self._loop is None or self._thread is threading.current_thread():
            work.close()
            raise UnavailableError("the host's loop cannot wait for itself: use the awaitable form there")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit_s)
        except BaseException:
            future.cancel()
            raise

    async def run_async(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the host's loop and wait for it in the loop that runs here, be it another or the same.

        Raises ``UnavailableError`` when the host does not run.
        """
        if self._loop is None:
            work.close()
            raise UnavailableError("the host does not run: start it first")
        if self._thread is threading.current_thread():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> int:
        """Drain, run the shutdown hooks, end the loop and the core. Returns the exit code; harmless when repeated.

        A loop that a plugin blocks is left behind with its thread after a little while, and the exit code is 1.
        """
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            self._core.stop()
            with contextlib.suppress(UnavailableError):  # it failed before it ran
                self._core.wait()
            # What is left on the loop and its generators have a time of grace each.
            self._thread.join(3 * _GRACE_S)
        code = self._core.finish()
        loader.let_go()
        self._log.close()
        if loop is None:
            return code
        if self.is_stuck:
            # The core listens no more: the loop is to end by itself should it ever go on.
            loop.call_soon_threadsafe(loop.stop)
            return 1
        loop.close()
        return code

    @property
    def is_stuck(self) -> bool:
        """After ``stop``: whether the loop's thread is left behind, so that Python must not be finalized."""
        return self._thread is not None and self._thread.is_alive()


def _bring_up(host: _core.Host, settings: HostSettings, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
    with _few_collections():
        loader.load(sources(settings), settings.hook_time_s, fast_routes=settings.fast_routes)
    host.open()
    # A plugin whose startup hook failed was withdrawn by the core.
    loader.let_go()


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Let the garbage collector run seldom: what imports make stays, and looking it through is a tenth of a start."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_WHILE_LOADING, *before[1:])
    try:
        yield
    finally:
        if gc.get_threshold()[0] == _OBJECTS_WHILE_LOADING:  # else a plugin has set its own
            gc.set_threshold(*before)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # optional, and faster
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run_loop(loop: asyncio.AbstractEventLoop, host: _core.Host) -> None:
    """Run a loop until the core stops it, then cancel what is left on it and wait for that a little.

    A plugin can stop a loop, and can raise what ends it, such as ``SystemExit``: neither ends the host.
    """
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(thread_name_prefix="plugbay-executor")
    loop.set_default_executor(executor)
    # AnyIO, and so FastAPI, keeps its threads for `def` routes for as long as the task that the loop was started with.
    root = loop.create_task(_forever(), name="plugbay-root")
    while not host.is_ending():
        if root.done():  # cancelled by a plugin
            root = loop.create_task(_forever(), name="plugbay-root")
        _run_until(loop, root)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    _finish_on(loop, tasks)
    _finish_on(loop, {loop.create_task(loop.shutdown_asyncgens())})
    executor.shutdown(wait=False, cancel_futures=True)


def _run_until(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run a loop until the task has ended or the loop was stopped; whatever a plugin raises is logged."""
    try:
        loop.run_until_complete(task)
    except RuntimeError:  # stopped before the task has ended
        if loop.is_closed():
            raise
    except BaseException as error:
        _core.log(40, "plugbay", "".join(traceback.format_exception(error)))


def _finish_on(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
    """Wait for tasks a little, however often the loop is stopped meanwhile."""
    if tasks:
        waiting = loop.create_task(_wait_for(tasks))
        while not waiting.done():
            _run_until(loop, waiting)


async def _wait_for(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=_GRACE_S)


async def _forever() -> None:
    await asyncio.Event().wait()


def _take_standard_output() -> int:
    """Keep descriptor 1 for the host and point it at standard error: what plugins print must not mix with the line."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _start_thread(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _guarded(work: Callable[[], None], host: _core.Host, crashed: list[BaseException]) -> Callable[[], None]:
    """``work`` on a thread; when it fails, the host is told to stop, so that the failure is seen."""

    def run() -> None:
        try:
            work()
        except BaseException as error:
            crashed.append(error)
            _core.log(40, "plugbay", "".join(traceback.format_exception(error)))
            host.stop()

    return run


def _is_stuck(host: _core.Host) -> bool:
    """Whether a thread is left, after a little while, that Python would wait for at its end or that is in a plugin."""
    until = time.monotonic() + _GRACE_S
    for thread in threading.enumerate():
        is_loading = thread.name in (_LOADING, _thread.NAME)
        if thread is not threading.current_thread() and (is_loading or not thread.daemon):
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return True
    return host.busy_threads() > 0
