"""Measures every case side by side with its peers: `make bench`.

The server runs on one core, the load on the other. Every server of a case is up for the whole case; the rounds go in
turn through all of them, so that what the machine does meanwhile hits all alike. Tables show the median of the rounds.
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import agents
import routes
from cases import OURS, Case, Entry
from load import ROOT, missing
from process import BenchError, Running
from report import Result, comparison, put, setting


def cases() -> list[Case]:
    """Every case, in the order of the report."""
    return [*routes.cases(), *agents.cases()]


def words() -> argparse.Namespace:
    """The command line."""
    names = [case.name for case in cases()]
    parser = argparse.ArgumentParser(prog="benches/run.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--case", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each round loads a server (5)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does everything run?")
    parser.add_argument("--peers-only", action="store_true", help="leave Plugbay out")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write results.json and results.md there")
    parser.add_argument(
        "--write-docs", action="store_true", help="put the tables into docs/PERFORMANCE.md and README.md"
    )
    return parser.parse_args()


def loaded(case: Case, entries: list[Entry], rounds: int, seconds: float) -> Result:
    """Runs a case that loads its servers; servers that are equal are started once."""
    result = Result(case)
    with ExitStack() as stack:
        running: dict[tuple[str, ...], Running] = {}
        for entry in entries:
            command = tuple(entry.server.command)
            if command not in running:
                try:
                    server = stack.enter_context(Running(entry.server))
                    server.wait_for_answer()
                    running[command] = server
                except BenchError as error:
                    result.failures[entry.name] = str(error)
        for turn in range(rounds):
            for entry in entries:
                server_up = running.get(tuple(entry.server.command))
                if server_up is None or entry.load is None or entry.name in result.failures:
                    continue
                try:
                    sample = entry.load(server_up, seconds)
                    if sample.count == 0:
                        raise BenchError(f"no answer in {seconds:g} s: give it longer, --seconds {2 * seconds:g}")
                except BenchError as error:
                    result.failures[entry.name] = str(error)
                    continue
                result.add(entry.name, "cpu_us", sample.cpu_us)
                result.add(entry.name, "rate", sample.rate)
                for measure, value in sample.more.items():
                    result.add(entry.name, measure, value)
                say(f"  round {turn + 1}: {entry.name}: {sample.cpu_us:.1f} µs, {sample.rate:,.0f}/s")
    return result


def started(case: Case, entries: list[Entry], rounds: int) -> Result:
    """Starts each server anew in each round."""
    result = Result(case)
    for turn in range(rounds):
        for entry in entries:
            if entry.name in result.failures:
                continue
            try:
                with Running(entry.server) as server:
                    result.add(entry.name, "start_ms", server.wait_for_answer() * 1e3)
                    time.sleep(1.0)
                    result.add(entry.name, "memory_mib", server.memory_bytes() / 2**20)
            except BenchError as error:
                result.failures[entry.name] = str(error)
        say(f"  round {turn + 1}")
    return result


def say(text: str) -> None:
    """How it goes, on standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Runs what was asked for; 0 when every target was reached, 1 when one was not, 2 when something is missing."""
    asked = words()
    if lacking := missing():
        say("\n".join(lacking))
        return 2
    rounds, seconds = (1, 1.0) if asked.quick else (asked.rounds, asked.seconds)
    results = []
    for case in cases():
        if asked.case and case.name not in asked.case:
            continue
        say(f"{case.name}: {case.title}")
        entries = [e for e in case.entries if not (asked.peers_only and e.server.name == OURS)]
        is_load = all(entry.load is not None for entry in entries)
        result = loaded(case, entries, rounds, seconds) if is_load else started(case, entries, rounds)
        for entry, failure in result.failures.items():
            say(f"  {entry} was not measured: {failure}")
        results.append(result)
    facts = setting()
    text = "\n".join([f"- {name}: {value}" for name, value in facts.items()])
    text = "\n".join([text, "", *(result.as_markdown() for result in results)])
    print(text)
    if asked.write_docs:
        put(ROOT / "docs" / "PERFORMANCE.md", "results", text)
        put(ROOT / "README.md", "comparison", comparison(results))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "results.md").write_text(text, encoding="utf-8")
        content = {"setting": facts, "rounds": rounds, "seconds": seconds, "cases": [r.as_json() for r in results]}
        (asked.out / "results.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return int(any(result.missed() for result in results))


if __name__ == "__main__":
    sys.exit(main())
