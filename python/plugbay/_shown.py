"""Text of others on somebody's terminal: nothing in it moves the cursor, is unseen, or turns the line around."""

from __future__ import annotations

import re

_RARE = re.compile(r"[^ -~]")
_RARE_IN_JSON = re.compile(r"[^\n -~]")


def shown(text: str) -> str:
    """The text with each character that does not print written out: ``\\x1b``, ``\\u202e``."""
    return _RARE.sub(_written_out, text)


def shown_in_json(text: str) -> str:
    """The same of JSON, whose own way to write such a character leaves the value as it is; ends of lines stay."""
    return _RARE_IN_JSON.sub(_escaped, text)


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
