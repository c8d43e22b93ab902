"""What the system says of a process."""

from __future__ import annotations

import os
from pathlib import Path


class Process:
    """What the system says of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._folder = Path(f"/proc/{pid}")

    @property
    def rss_bytes(self) -> int:
        """Its memory."""
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def files(self) -> int:
        """Its open file descriptors."""
        return len(list((self._folder / "fd").iterdir()))

    @property
    def processor_s(self) -> float:
        """The seconds that it kept processors busy."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
