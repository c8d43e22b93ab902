"""JSON bodies with a piece that was exchanged, left out, doubled or renamed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from awkward import JSONS

HOLE = "\ue000hole"
"""Stands in a value where another JSON text is put."""

CODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-7")


def dumped(value: Any) -> bytes:
    """A value as clients write it: UTF-8, even of what is none."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def wholes(good: bytes) -> Iterator[bytes]:
    """A good body that is coded, cut, doubled or wrapped."""
    for coding in CODINGS:
        yield good.decode().encode(coding, "replace")
    yield from (good + b" \n", b" \t\r\n" + good, good[:-1], good + good, b"[" + good + b"]", b"\x00" + good)
    yield from (good.replace(b'"', b"'"), good.replace(b": ", b":"), good.replace(b", ", b",\n"), good + b",")


def spoiled(base: Any) -> Iterator[bytes]:
    """Each piece of a value exchanged for each awkward JSON text, and in other shapes."""
    for where in list(_places(base)):
        holed = _holed(base, {where: HOLE})
        for text in (*JSONS, *_shapes(base, where)):
            yield _filled(holed, HOLE, text)
        if where and isinstance(where[-1], str):
            member = f'{json.dumps(where[-1], ensure_ascii=False)}: "{HOLE}"'
            for text in _members(where[-1], json.dumps(_at(base, where), ensure_ascii=False)):
                yield holed.replace(member, text).encode("utf-8", "surrogatepass")


def thrice_spoiled(bases: Sequence[Any], random: Random) -> bytes:
    """A value with up to three pieces exchanged."""
    base = random.choice(bases)
    places = list(_places(base))
    chosen = {random.choice(places): f"{HOLE}{number}" for number in range(random.choice((1, 1, 2, 3)))}
    text = _holed(base, chosen)
    for hole in chosen.values():
        text = text.replace(f'"{hole}"', random.choice(JSONS))
    return text.encode("utf-8", "surrogatepass")


Place = tuple[Any, ...]
"""The keys and indices that lead to a piece."""


def _places(value: Any, where: Place = ()) -> Iterator[Place]:
    yield where
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*where, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:2]):
            yield from _places(item, (*where, number))


def _at(value: Any, where: Place) -> Any:
    for step in where:
        value = value[step]
    return value


def _holed(base: Any, holes: dict[Place, str]) -> str:
    """The text of a value with strings in the place of some of its pieces; the outermost first."""
    value = base
    for where in sorted(holes, key=len, reverse=True):
        value = _put(value, where, holes[where])
    return json.dumps(value, ensure_ascii=False)


def _put(value: Any, where: Place, new: Any) -> Any:
    if not where:
        return new
    changed = copy.copy(value)
    changed[where[0]] = _put(changed[where[0]], where[1:], new)
    return changed


def _filled(text: str, hole: str, replacement: str) -> bytes:
    return text.replace(f'"{hole}"', replacement).encode("utf-8", "surrogatepass")


def _shapes(base: Any, where: Place) -> Iterator[str]:
    """A list within a list, with one more, with a stranger."""
    here = _at(base, where)
    if isinstance(here, list):
        own = json.dumps(here, ensure_ascii=False)
        more = own[:-1] + (", " if here else "")
        yield from (f"[{own}]", f"{more}null]", more + (own[1:] if here else "1]"))


def _members(key: str, own: str) -> Iterator[str]:
    """A member under other names, twice, or with a stranger beside it."""
    name = json.dumps(key, ensure_ascii=False)
    for other in ("", "other", key.upper(), f"_{key}"):
        yield f"{json.dumps(other, ensure_ascii=False)}: {own}"
    yield from (f"{name}: {own}, {name}: {own}", f"{name}: null, {name}: {own}", f'"zz": [1], {name}: {own}')
