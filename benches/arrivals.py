"""Requests that come at their own times, whether or not the earlier ones were answered."""

import json
import subprocess

from load import BENCH_ARRIVALS, Ask, Sample, http, pinned
from process import BenchError, Running

CONNECTIONS = 64


class Arrivals:
    """The load of an open loop: half of the requests a second that the first server measured answers at most."""

    def __init__(self, path: str, answer: object) -> None:
        self._path = path
        self._answer = answer
        self._rate = 0.0

    def __call__(self, server: Running, seconds: float) -> Sample:
        """One round: the times from when a request was due to its whole answer."""
        if not self._rate:
            self._rate = http(server, Ask(self._path, self._answer), seconds).rate / 2
        command = [str(BENCH_ARRIVALS), "--port", str(server.port), "--path", self._path, "--token", server.token]
        command += ["--rate", f"{self._rate:.0f}", "--seconds", str(seconds), "--connections", str(CONNECTIONS)]
        before = server.cpu_s()
        done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=pinned(server))
        cpu_s = server.cpu_s() - before
        if done.returncode:
            raise BenchError(f"{server.server.name}{self._path}: {done.stderr.strip()}\n{server.log()}")
        found = json.loads(done.stdout)
        times = {"middle_us": found["p50_us"], "p99_us": found["p99_us"]}
        return Sample(found["requests"], found["seconds"], cpu_s, times)
