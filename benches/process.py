"""A server as a process on a core of its own: started, asked until it answers, measured, stopped."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

BENCHES = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = frozenset({CORES[0]})
LOAD_CORE = frozenset({CORES[-1]})
ASK_EVERY_S = 0.005
"""A server that listens before it is ready answers each question: a start is to be measured, not a load."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """Something that makes a measurement impossible; the text says what to do."""


@dataclass(frozen=True)
class Server:
    """How one server is started. ``{port}`` stands for the port in ``command``, ``{home}`` for an empty folder."""

    name: str
    command: Sequence[str]
    probe: str
    """The path that is asked until the server answers."""
    env: Mapping[str, str] = field(default_factory=dict)
    cores: frozenset[int] = SERVER_CORE
    """Where it may run."""
    token_file: str | None = None
    """Where the server puts the token that its clients must show; ``{home}`` as above."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A started server; leaving the ``with`` block stops it and all its processes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = free_port()
        self._home = tempfile.TemporaryDirectory(prefix="plugbay-bench-")
        self._log = (self.scratch / "server.log").open("w+b")
        words = {"port": str(self.port), "home": self._home.name}
        environment = {**os.environ, "PYTHONPATH": str(BENCHES), "PYTHONDONTWRITEBYTECODE": ""}
        environment |= {name: value.format(**words) for name, value in server.env.items()}
        self.started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                [word.format(**words) for word in server.command],
                env=environment,
                cwd=BENCHES,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, server.cores),
            )
        except OSError as error:
            raise BenchError(f"{server.name} cannot be started: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def scratch(self) -> Path:
        """A folder that goes with it."""
        return Path(self._home.name)

    @property
    def token(self) -> str:
        """What clients show as a bearer token; servers that ask for none get one of the same length."""
        if self.server.token_file is None:
            return "x" * 43
        return Path(self.server.token_file.format(home=self._home.name)).read_text(encoding="ascii").strip()

    def wait_for_answer(self, limit_s: float = 30.0) -> float:
        """Asks until the probe is answered with anything but 503; the seconds since the start."""
        end = self.started + limit_s
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise BenchError(f"{self.server.name} ended with {self._process.returncode}:\n{self.log()}")
            status = self._ask()
            if status is not None and status not in {404, 503}:
                answered = time.perf_counter() - self.started
                # At /mcp a server may refuse what a probe asks for; it is there all the same.
                if status >= 400 and status not in {405, 406}:
                    raise BenchError(f"{self.server.name} answers {self.server.probe} with {status}:\n{self.log()}")
                return answered
            time.sleep(ASK_EVERY_S)
        raise BenchError(f"{self.server.name} does not answer {self.server.probe}:\n{self.log()}")

    def _ask(self) -> int | None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                head = f"GET {self.server.probe} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
                head += f"authorization: Bearer {self.token}\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode())
                first = connection.recv(64).split()
        except (OSError, FileNotFoundError):
            return None
        return int(first[1]) if len(first) > 1 else None

    def _processes(self) -> list[int]:
        """The server's process and all that it started, by their session."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == self._process.pid:
                        found.append(int(entry.name))
                except ProcessLookupError:
                    continue
        return found

    def cpu_s(self) -> float:
        """The seconds of CPU, user and system, that its living processes have used."""
        ticks = 0
        for process in self._processes():
            try:
                values = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ticks += int(values[11]) + int(values[12])
        return ticks / TICKS_PER_SECOND

    def memory_bytes(self) -> int:
        """The resident bytes of its processes, together."""
        pages = (int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) for process in self._processes())
        return PAGE_BYTES * sum(pages)

    def log(self) -> str:
        """The end of what it wrote."""
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")

    def stop(self) -> None:
        """Ends it, politely at first. Stopping it again changes nothing."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        self._home.cleanup()
