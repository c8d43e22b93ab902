"""Reading docstrings: what a function does, and what each of its parameters means.

Three forms are known: ``:param name:`` fields, a section ``Args:``, and a section ``Parameters`` with a line below it.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

_FIELD = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?(\w+):\s*(.*)")
_ITEM = re.compile(r"\*{0,2}(\w+)(\s+:|$)?(?:\s*\([^)]*\))?\s*:?\s*(.*)")
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?|See Also|Attributes):?$")
_PARAMETERS = {"Args", "Arguments", "Parameters"}


@dataclass(frozen=True, slots=True)
class Docstring:
    """What a docstring says."""

    description: str
    parameters: dict[str, str]


def read_docstring(text: str | None) -> Docstring:
    """Take a docstring apart: the text before its first section or field, and a description of each parameter."""
    lines = inspect.cleandoc(text or "").splitlines()
    end = next((index for index in range(len(lines)) if _ends_description(lines, index)), len(lines))
    return Docstring("\n".join(lines[:end]).strip(), _fields(lines) | _sections(lines))


def _ends_description(lines: list[str], index: int) -> bool:
    return lines[index].startswith(":") or _section(lines, index) is not None


def _section(lines: list[str], index: int) -> str | None:
    """The section that begins at this line: ``Args:`` or a title with dashes below it."""
    found = _SECTION.match(lines[index])
    if found is None:
        return None
    underlined = index + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[index + 1])
    return found[1] if lines[index].endswith(":") or underlined else None


def _fields(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = None
    for line in lines:
        field = _FIELD.match(line)
        if field:
            name, found[field[1]] = field[1], field[2].strip()
        elif name and line.startswith((" ", "\t")):
            found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            name = None
    return found


def _sections(lines: list[str]) -> dict[str, str]:
    """The parameters of sections: a line as deep as the first one names a parameter, deeper ones describe it."""
    found: dict[str, str] = {}
    inside, depth, name = False, -1, ""
    for index, line in enumerate(lines):
        section = _section(lines, index)
        if section:
            inside, depth = section in _PARAMETERS, -1
        elif inside and line.strip() and not re.fullmatch(r"-{3,}", line):
            indent = len(line) - len(line.lstrip())
            depth = indent if depth < 0 else depth
            item = _ITEM.match(line.strip())
            if indent <= depth and item:
                # `name: text` and `name (type): text`; in `name : type` the text is on the lines below.
                name, found[item[1]] = item[1], "" if item[2] else item[3]
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found
