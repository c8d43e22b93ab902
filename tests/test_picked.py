"""The cases that a promise of the same bytes names, picked by hand: what FastAPI answers is known, and so is ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twins import Ask, Twins, place_of, twins

TOPICS = ("body", "cookies_headers", "corner_answers", "corners", "extra_types", "path_params", "query_params")
JSON = ((b"content-type", b"application/json"),)
ITEM = b'{"name": "n", "price": 1.5}'
WORD = "x" * 1_000_000


def ask(method: str, place: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> Ask:
    """A request for ``topic/path``."""
    topic, _, path = place.partition("/")
    return Ask(method, f"{place_of(topic)}/{path}".encode("latin-1"), headers, body)


def post(body: bytes, kind: bytes | None = b"application/json", place: str = "body/items") -> Ask:
    """A body of a content type, or of none."""
    return ask("POST", place, *(() if kind is None else ((b"content-type", kind),)), body=body)


PICKED: dict[str, list[tuple[Ask, int]]] = {
    "HEAD": [
        (ask("HEAD", "query_params/items"), 405),
        (ask("HEAD", "path_params/many/x"), 200),
        (ask("HEAD", "corners/heads"), 200),
        (ask("HEAD", "query_params/nowhere"), 404),
    ],
    "405 with Allow": [
        (ask("DELETE", "query_params/items"), 405),
        (ask("PUT", "path_params/many/x"), 405),
        (ask("POST", "corners/odd"), 405),
        (ask("OPTIONS", "body/items"), 405),
        (ask("PROPPATCH", "corners/order/1"), 405),
    ],
    "307 to the other slash": [
        (ask("GET", "query_params/items/?skip=1&limit=%20&%C3%A9"), 307),
        (ask("GET", "path_params/trailing/a%20b"), 307),
        (ask("GET", "path_params/trailing/%C3%A9"), 307),
        (ask("POST", "body/items/", *JSON, body=ITEM), 307),
        (ask("HEAD", "corners/heads/"), 307),
        (ask("DELETE", "query_params/items/"), 307),
    ],
    "duplicate and repeated parameters": [
        (ask("GET", "query_params/items?skip=1&skip=2"), 200),
        (ask("GET", "query_params/items?skip=1&skip=x"), 422),
        (ask("GET", "query_params/list?q=a&q=b&q=a&x=1"), 200),
        (ask("GET", "corners/sequences?many=1&many=2&many=3"), 422),
        (ask("GET", "corners/sequences?fixed=1"), 422),
        (ask("GET", "cookies_headers/repeated", (b"x-token", b"a"), (b"X-Token", b"b, c"), (b"x-token", b"")), 200),
        (ask("GET", "corners/headers", (b"x-count", b"1"), (b"X-Count", b"2")), 200),
        (ask("GET", "corners/headers", (b"cookie", b"mood=1; mood=2"), (b"cookie", b"Pi=3.10")), 200),
        (ask("GET", "corners/headers", (b"cookie", b"mood=3; Pi=x")), 422),
    ],
    "empty values": [
        (ask("GET", "query_params/plain?q="), 200),
        (ask("GET", "query_params/plain?q"), 200),
        (ask("GET", "query_params/items?skip="), 422),
        (ask("GET", "query_params/list?q=&q="), 200),
        (ask("GET", "query_params/needed?needy="), 200),
        (ask("GET", "query_params/needed?=&&needy"), 200),
        (ask("GET", "corners/headers", (b"x-count", b"")), 422),
        (ask("GET", "corners/headers", (b"cookie", b"")), 200),
        (ask("GET", "path_params/users/"), 404),
        (ask("GET", "corners/nothing/%20"), 200),
    ],
    "percent-encoding": [
        (ask("GET", "path_params/text/a%2Fb"), 404),
        (ask("GET", "path_params/text/%41%20%2B+%C3%A9"), 422),
        (ask("GET", "path_params/users/%41%20%2B+%C3%A9%25%32%30"), 200),
        (ask("GET", "path_params/files/a%2Fb/../c//d%3F"), 200),
        (ask("GET", "path_params/users/%zz%4"), 200),
        (ask("GET", "path_params/users/a%0Ab"), 200),
        (ask("GET", "query_params/plain?q=%41+%2B%20%C3%A9%26%3D%zz"), 200),
        (ask("GET", "query_params/plain?%71=1"), 200),
        (ask("GET", "corners/literal/a.b+c(d)"), 200),
        (ask("GET", "corners/literal/a%2Eb%2Bc%28d%29"), 200),
    ],
    "invalid UTF-8": [
        (ask("GET", "path_params/users/%FF"), 200),
        (ask("GET", "path_params/users/%C3%28"), 200),
        (ask("GET", "query_params/plain?q=%FF%C3%28%ED%A0%80"), 200),
        (ask("GET", "query_params/plain?%FF=1"), 200),
        (ask("GET", "corners/headers", (b"x-tags", b"\xff\xc3\xa9"), (b"cookie", b"Pi=\xff")), 422),
        (post(b'{"name": "\xff", "price": 1}'), 400),
        (post(b'{"name": "\xed\xa0\x80", "price": 1}'), 500),
        (post(b'{"name": "\\ud800", "price": 1}'), 500),
        (post(b'\xef\xbb\xbf{"name": "n", "price": 1}'), 200),
    ],
    "missing and wrong content types": [
        (post(ITEM, None), 422),
        (post(ITEM, b""), 422),
        (post(ITEM, b"text/plain"), 422),
        (post(ITEM, b"application/x-www-form-urlencoded"), 422),
        (post(ITEM, b"application/problem+json; charset=latin-1"), 200),
        (post(ITEM, b"APPLICATION/JSON"), 200),
        (post(ITEM, b"application/jsonp"), 422),
        (ask("POST", "body/items", *JSON, (b"content-type", b"text/plain"), body=ITEM), 200),
        (ask("POST", "body/items", (b"content-type", b"text/plain"), *JSON, body=ITEM), 422),
        (post(b"", None), 422),
        (post(b"null"), 422),
    ],
    "huge and deeply nested JSON": [
        (post(b'{"name": "' + WORD.encode() + b'", "price": 1}'), 200),
        (post(b'{"price": 1, "name": ["' + WORD.encode() + b'"]}'), 422),
        (post(b"[" * 100_000), 400),
        (post(b"[" * 190 + b"]" * 190), 422),
        (post(b'{"name": "n", "price": 1, "x": ' + b"[" * 300 + b"]" * 300 + b"}"), 200),
        (post(b'{"name": "n", "price": ' + b"9" * 400 + b"}"), 422),
        (post(b'{"name": "n", "price": 1' + b"0" * 5000 + b"}"), 400),
        (post(b"[" + b"1," * 50_000 + b"1]"), 422),
        (post(b"{" + b",".join(b'"k%d": %d' % (n, n) for n in range(20_000)) + b"}"), 422),
    ],
    "malformed JSON": [
        (post(b'{"name": "n", "price": 1'), 422),
        (post(b'{"name": "n" "price": 1}'), 422),
        (post(b'{"name": "n", "price": 1,}'), 422),
        (post(b'{"name": "n", "price": 01}'), 422),
        (post(b'{"name": "a\nb", "price": 1}'), 422),
        (post(b'{"name": "n", "price": 1} x'), 422),
        (post(b'{"name": "n", "name": "m", "price": 1, "price": 2}'), 200),
    ],
    "errors with loc, msg, type, input and ctx": [
        (ask("GET", "query_params/constraints?a=x&b=2&c=abc&d=7"), 422),
        (ask("GET", "corners/annotated/0?s=long&user=x"), 422),
        (ask("GET", "corners/model/forbidding?most=11&side=up&nested=%7B&other=1"), 422),
        (ask("GET", "corners/model/loose?limit=13"), 422),
        (ask("PUT", "body/several/x", *JSON, body=b'{"item": {"name": 1}, "user": null}'), 422),
        (ask("GET", "corners/decimals?cost=123.456&number=nan&any_number=x"), 422),
    ],
    "floats, NaN, decimals, times and bytes": [
        (ask("GET", "corners/decimals?any_number=1e22&cost=1.5&number=-0"), 200),
        (ask("GET", "corners/decimals?any_number=nan"), 200),
        (ask("GET", "corners/decimals?any_number=-Infinity"), 200),
        (ask("GET", "corners/times?lasts=P1DT0.5S&moment=2024-02-29T12:30:00.5Z&cost=1E%2B3&raw=%C3%A9&at=23:59"), 200),
        (ask("GET", "corner_answers/one?kind=nan"), 202),
        (ask("GET", "corner_answers/one?kind=bytes"), 202),
        (ask("GET", "extra_types/out/numbers"), 200),
        (ask("GET", "extra_types/out/not-finite"), 200),
        (ask("GET", "extra_types/out/decimals"), 200),
        (ask("GET", "extra_types/out/bad-bytes"), 500),
        (post(b'{"name": "n", "price": NaN}'), 500),
        (post(b'{"name": "n", "price": -Infinity, "tax": 1e400}'), 500),
    ],
    "unicode and the order of keys": [
        (post('{"tax": null, "price": 0.1, "name": "é\u2028\U0001f600\\u0000\\/<"}'.encode()), 200),
        (ask("GET", "corner_answers/sets?status=299&after=203"), 203),
        (ask("GET", "corner_answers/sets/raised"), 419),
        (ask("GET", "extra_types/out/texts"), 200),
    ],
}
"""Requests by what they stand for, each with the status that FastAPI gives."""


@pytest.fixture(scope="module")
def both() -> Iterator[Twins]:
    with twins(*TOPICS) as both:
        yield both


@pytest.mark.parametrize("case", PICKED)
def test_a_case_that_is_promised_is_answered_alike(both: Twins, case: str) -> None:
    compared = both.differences(one for one, _ in PICKED[case])
    assert not compared.different, compared.report()
    given = {str(one): reference.status for one, reference, _ in both.answers(one for one, _ in PICKED[case])}
    assert given == {str(one): status for one, status in PICKED[case]}
