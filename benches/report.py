"""Samples as a table for people and as JSON for programs."""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case

PACKAGES = (
    "plugbay",
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "uvloop",
    "httptools",
    "granian",
    "blacksheep",
    "websockets",
)

HEADINGS = {
    "cpu_us": "CPU µs a {unit}",
    "rate": "{unit}s a second",
    "middle_us": "µs to an answer, median",
    "p99_us": "µs to an answer, 99 of 100",
    "p50_us": "µs to an answer alone, median",
    "start_ms": "ms to the first answer",
    "memory_mib": "MiB resident, idle",
}
PLURALS = {"delivery": "deliverie"}


@dataclass
class Result:
    """What one case measured: for each entry, for each measure, the value of each round."""

    case: Case
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, entry: str, measure: str, value: float) -> None:
        """Keeps the value of one round."""
        self.values.setdefault(entry, {}).setdefault(measure, []).append(value)

    def of(self, entry: str, measure: str) -> float | None:
        """The median of an entry's rounds, or ``None`` where it was not measured."""
        values = self.values.get(entry, {}).get(measure)
        return median(values) if values else None

    def targets(self) -> list[dict[str, Any]]:
        """Each target with the ratio that came out; ``None`` where a side was not measured.

        The two sides of a round ran one after the other, so that the median of the rounds' ratios is steadier than the
        ratio of two medians.
        """
        rows = []
        for target in self.case.targets:
            sides = [self.values.get(entry, {}).get(target.measure, []) for entry in (target.ours, target.peer)]
            ratios = [ours / peer for ours, peer in zip(*sides, strict=False)]
            ratio = median(ratios) if ratios else None
            rows.append(
                {
                    "ours": target.ours,
                    "peer": target.peer,
                    "measure": target.measure,
                    "limit": target.limit,
                    "moonshot": target.moonshot,
                    "ratio": ratio,
                    "reached": None if ratio is None else target.reached(ratio),
                    "excelled": None if ratio is None else target.excelled(ratio),
                }
            )
        return rows

    def missed(self) -> bool:
        """Whether a target was measured and not reached, or a server did not run."""
        return bool(self.failures) or any(row["reached"] is not True for row in self.targets())

    def as_json(self) -> dict[str, Any]:
        """Every round, and the medians' ratios."""
        return {
            "case": self.case.name,
            "title": self.case.title,
            "unit": self.case.unit,
            "values": self.values,
            "failures": self.failures,
            "targets": self.targets(),
        }

    def as_markdown(self) -> str:
        """The table of medians with the spread of the rounds, then the targets."""
        measures = [m for m in HEADINGS if any(m in measured for measured in self.values.values())]
        unit = self.case.unit
        headings = [heading(measure, unit) for measure in measures]
        lines = [f"### {self.case.title}", "", "| | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
        for entry in self.case.entries:
            if entry.name in self.failures:
                lines.append(f"| {entry.name} | " + " | ".join(["not run"] * len(measures)) + " |")
            elif entry.name in self.values:
                cells = [spread(self.values[entry.name].get(m, [])) for m in measures]
                lines.append(f"| {entry.name} | " + " | ".join(cells) + " |")
        lines += [line for row in self.targets() for line in ("", verdict(row, unit))]
        return "\n".join([*lines, ""])


COMPARED = ("bare", "get", "get-sync", "post", "nested", "hundred", "asgi", "starlette", "echo", "fanout", "start")
"""The cases of the README's table."""


def comparison(results: list[Result]) -> str:
    """The README's table: for each case the first entry, which is ours, beside the others."""
    lines = ["| | Plugbay | others |", "|---|---|---|"]
    for result in results:
        if result.case.name not in COMPARED:
            continue
        measures = {"delivery": ["rate"], "start": ["start_ms", "memory_mib"]}.get(result.case.unit, ["cpu_us"])
        for measure in measures:
            what = f", {heading(measure, result.case.unit)}" if measure != "cpu_us" else ""
            ours, *others = [(entry.name, result.of(entry.name, measure)) for entry in result.case.entries]
            theirs = " · ".join(f"{name} {number(value)}" for name, value in others if value is not None)
            lines.append(f"| {result.case.title}{what} | {'–' if ours[1] is None else number(ours[1])} | {theirs} |")
    return "\n".join(lines)


def put(path: Path, mark: str, text: str) -> None:
    """Replaces what stands between ``<!-- mark -->`` and ``<!-- /mark -->`` in a document."""
    before, opening, rest = path.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    path.write_text(f"{before}{opening}\n{text.strip()}\n{closing}{after}", encoding="utf-8")


def verdict(row: dict[str, Any], unit: str) -> str:
    """A target's line: the ratio, and whether it is good enough, and better still."""
    least = "≥" if row["measure"] == "rate" else "≤"
    came = "not measured" if row["ratio"] is None else f"{row['ratio']:.2f}"
    said = []
    if row["limit"] is not None:
        word = {True: "reached", False: "**missed**", None: "open"}[row["reached"]]
        said.append(f"target {least} {row['limit']}: {word}")
    if row["moonshot"] is not None:
        word = {True: "reached", False: "missed", None: "open"}[row["excelled"]]
        said.append(f"moonshot {least} {row['moonshot']}: {word}")
    return f"{row['ours']} ÷ {row['peer']}, {heading(row['measure'], unit)}: {came} ({'; '.join(said)})"


def heading(measure: str, unit: str) -> str:
    """What a column says: ``CPU µs a request``."""
    return HEADINGS[measure].format(unit=PLURALS.get(unit, unit) if measure == "rate" else unit)


def spread(values: list[float]) -> str:
    """The median, and least to most in brackets."""
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Three digits that matter; thousands with a comma."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def setting() -> dict[str, str]:
    """What the numbers depend on: machine, interpreter, versions."""
    found = {
        "machine": f"{os.cpu_count()} × {processor()}",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor() -> str:
    """The model of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
