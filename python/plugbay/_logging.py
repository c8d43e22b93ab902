"""Python's ``logging`` into the host's log: one way, and never waiting."""

from __future__ import annotations

import logging

from plugbay import _core


class HostLog(logging.Handler):
    """Hands each record, with its traceback, to the core."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _core.log(record.levelno, record.name, self.format(record))
        except Exception:
            self.handleError(record)

    def open(self, log_level: str) -> None:
        """Take what all loggers say; what is not worth a line at ``log_level`` is dropped by Python already."""
        root = logging.getLogger()
        self._before = root.level
        root.addHandler(self)
        if any(word in log_level for word in ("debug", "trace")):
            root.setLevel(logging.DEBUG)
        elif "info" in log_level:
            root.setLevel(logging.INFO)

    def close(self) -> None:
        """Let the loggers be as they were."""
        root = logging.getLogger()
        if self in root.handlers:
            root.removeHandler(self)
            root.setLevel(self._before)
        super().close()
