"""The requests for an operation: the well-formed, the malformed, and those that nobody would think of.

All follow from the operation and a seed, so that a run asks what the run before it asked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, quote_plus

from awkward import BODIES, CONTENT_TYPES, COOKIES, HEADER_VALUES, METHODS, QUERIES, RAW, TEXTS
from operations import Operation, Parameter
from spoiling import dumped, spoiled, thrice_spoiled, wholes
from twins import Ask

JSON = b"application/json"


@dataclass
class Draft:
    """A request that is being made: parameters as bytes that are encoded already."""

    operation: Operation
    path: dict[str, bytes]
    query: list[tuple[bytes, bytes | None]]
    headers: list[tuple[bytes, bytes]]
    cookies: list[tuple[bytes, bytes]]
    body: bytes = b""

    def ask(self, method: str | None = None) -> Ask:
        """The request."""
        target = self.operation.path.encode()
        for name, value in self.path.items():
            target = target.replace(b"{" + name.encode() + b"}", value)
        target = quote(target, safe=b"/%:@!$&'()*+,;=~-._").encode()
        if self.query:
            target += b"?" + b"&".join(name if value is None else name + b"=" + value for name, value in self.query)
        # Without space around the values: servers take it away, or not.
        headers = [(name, value.strip(b" \t")) for name, value in self.headers]
        if self.cookies:
            headers.append((b"cookie", b"; ".join(name + b"=" + value for name, value in self.cookies)))
        return Ask(method or self.operation.method, target, tuple(headers), self.body)


def written(value: Any) -> str:
    """A parameter's value as clients write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def encoded(place: str, text: str) -> bytes:
    """A text as it stands in a place."""
    data = text.encode("utf-8", "surrogatepass")
    if place == "path":
        return quote(data, safe="").encode()
    if place == "query":
        return quote_plus(data).encode()
    return bytes(byte for byte in data if (byte >= 0x20 and byte != 0x7F) or byte == 9)


class Asking:
    """The requests for one operation, from its own seed."""

    def __init__(self, operation: Operation, seed: str) -> None:
        self.operation = operation
        self._random = random.Random(f"{seed} {operation}")

    def draft(self, optional: bool = True) -> Draft:
        """A well-formed request, with or without what is optional."""
        draft = Draft(self.operation, {}, [], [], [])
        for parameter in self.operation.parameters:
            if optional or parameter.required or parameter.place == "path":
                self.put(draft, parameter, [encoded(parameter.place, written(v)) for v in several(parameter.example)])
        if self.operation.bodies:
            kind, value = next(iter(self.operation.bodies.items()))
            self._fill(draft, kind, value)
        return draft

    def put(self, draft: Draft, parameter: Parameter, values: list[bytes | None]) -> None:
        """Give a parameter these values."""
        name = encoded(parameter.place, parameter.name)
        match parameter.place:
            case "path":
                draft.path[parameter.name] = b",".join(value or b"" for value in values)
            case "query":
                draft.query = [pair for pair in draft.query if pair[0] != name] + [(name, value) for value in values]
            case "header":
                kept = [pair for pair in draft.headers if pair[0] != name]
                draft.headers = kept + [(name, value or b"") for value in values]
            case _:
                kept = [pair for pair in draft.cookies if pair[0] != name]
                draft.cookies = kept + [(name, value or b"") for value in values]

    def _fill(self, draft: Draft, kind: str, value: Any) -> None:
        if kind == "multipart/form-data":
            head = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            parts = [
                head % (name.encode(), b'; filename="f.txt"' if item == "x" else b"", written(item).encode())
                for name, values in value.items()
                for item in several(values)
            ]
            draft.body = b"".join(parts) + b"--b--\r\n"
            draft.headers.append((b"content-type", b"multipart/form-data; boundary=b"))
        elif kind == "application/x-www-form-urlencoded":
            pairs = [(name, item) for name, values in value.items() for item in several(values)]
            draft.body = b"&".join(
                encoded("query", name) + b"=" + encoded("query", written(item)) for name, item in pairs
            )
            draft.headers.append((b"content-type", kind.encode()))
        else:
            draft.body = dumped(value)
            draft.headers.append((b"content-type", kind.encode()))

    def with_body(self, body: bytes, kind: bytes | None = JSON) -> Ask:
        """The well-formed request with another body."""
        draft = self.draft()
        draft.headers = [pair for pair in draft.headers if pair[0] != b"content-type"]
        if kind is not None:
            draft.headers.append((b"content-type", kind))
        draft.body = body
        return draft.ask()

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def usual(self) -> Iterator[Ask]:
        """The well-formed requests, and what every path is asked: methods, slashes, queries."""
        yield self.draft().ask()
        yield self.draft(optional=False).ask()
        yield replace(self.draft().ask(), chunked=True)
        for sample in self.operation.samples:
            yield self.with_body(dumped(sample))
        for method in METHODS:
            yield self.draft(optional=False).ask(method)
        whole = self.draft(optional=False).ask()
        path, mark, query = whole.target.partition(b"?")
        # Below the topic's own place: what stands elsewhere is not the router's.
        stem, below = path[: len(self.operation.place)], path[len(self.operation.place) :]
        ends = [b"/", b"//", b"/x", b"/.", b"/..", b"/%2F", b"/%zz"]
        if below:
            ends += [b"%2F", b"%00", b";x", b".", b"%20", b"%zz", b"%FF"]
        places = [*(path + end for end in ends), path.rstrip(b"/")]
        places += [stem + below.replace(b"/", b"//"), stem + below.upper()]
        if below:
            places += [path[:-1] + b"%%%02X" % path[-1], path[:-1]]
        for place in places:
            for method in dict.fromkeys([whole.method, "GET", "HEAD"]):
                yield Ask(method, place + mark + query, whole.headers, whole.body)
            yield Ask(whole.method, place + b"?a=%41&b=%zz&c=\xc3\xa9"[:15], whole.headers, whole.body)
        for query in QUERIES:
            yield Ask(whole.method, path + b"?" + query, whole.headers, whole.body)
            if mark:
                yield Ask(whole.method, whole.target + b"&" + query, whole.headers, whole.body)
        yield Ask(
            whole.method, whole.target, (*whole.headers, (b"x-extra", b"1"), (b"accept", b"text/html")), whole.body
        )
        if not whole.body:
            yield Ask(whole.method, whole.target, (*whole.headers, (b"content-type", JSON)), b'{"a": 1}')
            yield Ask(whole.method, whole.target, whole.headers, b"\xff" * 20)

    def parameters(self) -> Iterator[Ask]:
        """Each parameter with each awkward value; missing, repeated, empty, under other names."""
        for parameter in self.operation.parameters:
            place, name = parameter.place, encoded(parameter.place, parameter.name)
            for value in self._values(place):
                yield self._given(parameter, [value])
            good = encoded(place, written(several(parameter.example)[0]) if several(parameter.example) else "1")
            if place == "path":
                continue
            yield self._given(parameter, [])
            pairs = ((good, good), (b"", good), (good, b""), (b"", b""), (good, b"z"), (b"z", good))
            for values in (*pairs, (b"1", b"2", b"3", b"4"), (b"0",) * 30):
                yield self._given(parameter, list(values))
            others = [name.upper(), name.title(), name.replace(b"-", b"_"), name.replace(b"_", b"-")]
            if place == "query":
                yield self._given(parameter, [None])
                yield self._given(parameter, [None, good])
                others += [name + b"[]", name + b"[0]", b"%20" + name, name + b"%00", b"%%%02X" % name[0] + name[1:]]
            for other in others:
                draft = self.draft()
                draft.query = [(other if pair[0] == name else pair[0], pair[1]) for pair in draft.query]
                draft.headers = [(other if pair[0] == name else pair[0], pair[1]) for pair in draft.headers]
                yield draft.ask()
            if place == "cookie":
                yield from self._cookies(name)

    def _cookies(self, name: bytes) -> Iterator[Ask]:
        for cookie in COOKIES:
            draft = self.draft()
            draft.cookies = []
            draft.headers.append((b"cookie", cookie.replace(b"{n}", name).replace(b"{N}", name.upper())))
            yield draft.ask()
            draft.headers.append((b"cookie", name + b"=second"))
            yield draft.ask()

    def mixed(self) -> Iterator[Ask]:
        """For ever: several parameters and pieces of the body awkward at once."""
        while True:
            draft = self.draft(optional=self._random.random() < 0.7)
            for parameter in self.operation.parameters:
                if self._random.random() < 0.5:
                    count = self._random.choice((1, 1, 1, 2, 3)) if parameter.place != "path" else 1
                    values = self._values(parameter.place)
                    self.put(draft, parameter, [self._random.choice(values) for _ in range(count)])
            self._random.shuffle(draft.query)
            if self.operation.bodies and JSON.decode() in self.operation.bodies:
                draft.body = thrice_spoiled(self._bases(), self._random)
            yield draft.ask()

    def bodies(self) -> Iterator[Ask]:
        """Each awkward body, content type, and piece of the body."""
        if not self.operation.bodies:
            return
        good = self.draft().body
        for body in BODIES:
            yield self.with_body(body)
            if len(body) < 200:
                yield self.with_body(body, None)
        for kind in CONTENT_TYPES:
            for body in (good, b"", b"{", b"\xff"):
                yield self.with_body(body, kind)
        twice = self.draft()
        twice.headers.append((b"content-type", b"text/plain"))
        yield twice.ask()
        if JSON.decode() not in self.operation.bodies:
            return
        for body in wholes(good):
            yield self.with_body(body)
        for base in self._bases():
            for body in spoiled(base):
                yield self.with_body(body)

    def _bases(self) -> list[Any]:
        return [*self.operation.bodies.values(), *self.operation.samples]

    def _given(self, parameter: Parameter, values: list[bytes | None]) -> Ask:
        draft = self.draft()
        self.put(draft, parameter, values)
        return draft.ask()

    def _values(self, place: str) -> list[bytes]:
        texts = [encoded(place, text) for text in TEXTS]
        if place in ("path", "query"):
            return [*texts, *RAW]
        return [*texts, *HEADER_VALUES]


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
