"""What can go wrong, as Python sees it: one exception a code, and the record of a plugin's failure.

The core decides the codes; it makes its exceptions here, by ``of_code``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar


class PlugbayError(Exception):
    """A failure of the host or of a call.

    ``code`` is the word for programs (``"invalid"``, ``"timeout"``, …), ``message`` says what was expected, what came
    and what to do.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = self.kind if code is None else code
        self.message = message


class MalformedError(PlugbayError):
    """The bytes cannot be read as what they should be."""

    kind = "malformed"


class InvalidError(PlugbayError, ValueError):
    """Readable, but it does not fit: arguments against a schema, a name against its rule."""

    kind = "invalid"


class UnauthenticatedError(PlugbayError):
    """No credential, or one that is not known."""

    kind = "unauthenticated"


class DeniedError(PlugbayError):
    """Known, but not allowed."""

    kind = "denied"


class NotFoundError(PlugbayError, LookupError):
    """There is no such thing."""

    kind = "not_found"


class ConflictError(PlugbayError):
    """It clashes with something that is already there."""

    kind = "conflict"


class ClosedError(ConflictError):
    """The plugin was set up already: what it offers can no longer change."""


class TooLargeError(PlugbayError):
    """More bytes than the limit."""

    kind = "too_large"


class BusyError(PlugbayError):
    """A queue is full; the same question may pass later."""

    kind = "busy"


class UnavailableError(PlugbayError):
    """What should answer is not running."""

    kind = "unavailable"


class CallTimeoutError(PlugbayError, TimeoutError):
    """No answer within the time limit."""

    kind = "timeout"


class HandlerError(PlugbayError):
    """A plugin's handler failed."""

    kind = "plugin"


class InternalError(PlugbayError):
    """A defect of the host itself."""


class ToolError(PlugbayError):
    """A tool call that failed, with the code of its failure: what ``dash.tools`` raises."""

    kind = "plugin"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code)

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


_KINDS: list[type[PlugbayError]] = [
    MalformedError,
    InvalidError,
    UnauthenticatedError,
    DeniedError,
    NotFoundError,
    ConflictError,
    TooLargeError,
    BusyError,
    UnavailableError,
    CallTimeoutError,
    HandlerError,
    InternalError,
]
_BY_CODE = {each.kind: each for each in _KINDS} | {"closed": ClosedError}


def of_code(code: str, message: str) -> PlugbayError:
    """Return the exception that stands for ``code``; ``"closed"`` stands for a draft that takes nothing more."""
    kind = _BY_CODE.get(code)
    return PlugbayError(message, code) if kind is None else kind(message)


@dataclass(frozen=True, slots=True)
class PluginError:
    """What went wrong with one plugin; unpacks as ``source, message``, and ``str()`` is one line with the cure.

    ``source`` is the file, the bundled module or ``entry_point:<name>``. ``message`` is ``"Type: text"``. ``stage`` is
    discover, read, import, setup, commit, startup, run or shutdown. ``at`` is the time in UTC, as RFC 3339 writes it.
    """

    source: str
    message: str
    plugin: str | None
    stage: str
    code: str
    traceback: str | None = field(repr=False)
    at: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.source, self.message))

    def __str__(self) -> str:
        who = f"plugin {self.plugin} ({self.source})" if self.plugin else self.source
        text = " ".join(f"{who}: {self.stage} failed ({self.code}): {self.message}".split())
        cure = self.cure
        return f"{text}; {cure}" if cure else text

    @property
    def cure(self) -> str:
        """What to do, where the message does not say it itself; else an empty text."""
        kind = self.message.partition(":")[0]
        return _CURES.get(kind) or _CURES.get(f"{self.stage}/{self.code}") or _CURES.get(self.code, "")


_CURES = {
    "ModuleNotFoundError": "install what it needs into this Python, or remove the import",
    "ImportError": "install the version that it needs into this Python, or mend the import",
    "SyntaxError": "mend that line; `python -m py_compile FILE` shows it",
    "IndentationError": "mend that line; `python -m py_compile FILE` shows it",
    "TabError": "mend that line; `python -m py_compile FILE` shows it",
    "SystemExit": "a plugin must not end the process: raise an exception that says what is wrong",
    "KeyboardInterrupt": "a plugin must not raise KeyboardInterrupt: raise an exception that says what is wrong",
    "import/timeout": "nothing slow at import: move it into an on_startup hook",
    "setup/timeout": "setup only registers: move what is slow into an on_startup hook",
    "startup/timeout": "let the hook start a background task and return, or raise limits.hook_time_s",
    "shutdown/timeout": "let the hook give up earlier, or raise limits.hook_time_s",
    "plugin": "the traceback in registry.errors shows where; `plugbay check` shows it too",
}
