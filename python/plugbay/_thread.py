"""A thread that runs one job after another, each within a time limit, and is given up when one does not come back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from plugbay import _core

Result = TypeVar("Result")

NAME = "plugbay-loader"
"""What the threads are called."""


class GivenUpError(Exception):
    """The job did not end within its time; its thread is left to itself."""


class JobError(Exception):
    """The job raised ``error``, any ``BaseException``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Attempt(Generic[Result]):
    """One job: its result, or what it raised, once it has ended."""

    def __init__(self, job: Callable[[], Result]) -> None:
        self._job: Callable[[], Result] | None = job
        self._ended = threading.Event()
        self._result: list[Result] = []
        self._raised: BaseException | None = None
        self._lock = threading.Lock()
        self._given_up = False

    def run(self) -> None:
        """Run the job on this thread. Raises nothing, whatever the job raises."""
        job, self._job = self._job, None
        assert job is not None, "an attempt is run once"
        try:
            self._result.append(job())
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: a plugin never ends the host
            self._raised = error
        finally:
            del job
            with self._lock:
                self._ended.set()
                if self._given_up:
                    _core.loader_given_up(-1)

    def result(self, limit_s: float) -> Result:
        """Wait for the end. Raises ``JobError`` when the job raised, ``GivenUpError`` when the time is over."""
        if not self._ended.wait(limit_s):
            with self._lock:
                self._given_up = not self._ended.is_set()
                if self._given_up:
                    _core.loader_given_up(1)
                    raise GivenUpError
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise JobError(raised)
        return self._result.pop()


class LoaderThread:
    """Runs jobs on a thread of its own; a fresh thread takes over when one is given up."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Attempt[object] | None] | None = None

    def run(self, job: Callable[[], Result], limit_s: float) -> Result:
        """Run ``job`` and return its result. Raises ``JobError`` when it raised, ``GivenUpError`` after ``limit_s``."""
        attempt = Attempt(job)
        del job
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            # A daemon: a plugin that never comes back must not keep the process from ending.
            threading.Thread(target=_work, args=(self._jobs,), name=NAME, daemon=True).start()
        self._jobs.put(attempt)  # type: ignore[arg-type]
        try:
            return attempt.result(limit_s)
        except GivenUpError:
            self.close()
            raise

    def close(self) -> None:
        """Let the thread end after the job that it runs."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _work(jobs: queue.SimpleQueue[Attempt[object] | None]) -> None:
    while True:
        attempt = jobs.get()
        if attempt is None:
            return
        attempt.run()
        del attempt
