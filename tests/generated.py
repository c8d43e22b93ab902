"""Requests that schemathesis makes from an OpenAPI document, with a seed: those that fit it and those that do not."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

from asking import Draft, encoded, several, written
from operations import Operation
from twins import Ask

NOT_OURS = {"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer", "origin"}
"""Headers that the server itself reads; a generated request leaves them out."""


def generated(document: dict[str, Any], operation: Operation, counts: tuple[int, int], seed: int) -> Iterator[Ask]:
    """Requests that schemathesis makes from the document: so many that fit it, and so many that do not."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = operation.path if operation.path in document["paths"] else operation.path.removeprefix(operation.place)
        schema = schemathesis.openapi.from_dict({**document, "paths": {path: document["paths"][path]}})
        for count, mode in zip(counts, schemathesis.GenerationMode, strict=True):
            if not count or (mode.is_negative and not _can_be_wrong(operation)):
                continue
            cases: list[Any] = []
            strategy = schema[path][operation.method].as_strategy(mode)
            options = settings(
                max_examples=count,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            _run(strategy, options, seed, cases)
            for case in cases:
                yield _of_case(operation, case)


def _can_be_wrong(operation: Operation) -> bool:
    """Whether a request can fail to fit; where it cannot, the search for one would be long."""
    return bool(operation.bodies) or any(not _is_free(parameter.schema) for parameter in operation.parameters)


def _is_free(schema: dict[str, Any]) -> bool:
    """Whether every text fits."""
    rules = schema.keys() - {"title", "description", "deprecated", "default", "examples"}
    if "anyOf" in rules:
        return any(_is_free(each) for each in schema["anyOf"])
    return not rules or (rules == {"type"} and schema["type"] == "string")


def _run(strategy: Any, options: Any, seed: int, cases: list[Any]) -> None:
    from hypothesis import given
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable

    @seeded(seed)
    @options
    @given(strategy)
    def keep(case: Any) -> None:
        cases.append(case)

    # Nothing can be wrong with a request that has no parameters.
    with contextlib.suppress(Unsatisfiable):
        keep()


def _of_case(operation: Operation, case: Any) -> Ask:
    from schemathesis.core import NotSet

    draft = Draft(operation, {}, [], [], [])
    for name, value in (case.path_parameters or {}).items():
        draft.path[name] = encoded("path", written(value))
    for name, value in (case.query or {}).items():
        draft.query += [(encoded("query", str(name)), encoded("query", written(item))) for item in several(value)]
    for name, value in (case.headers or {}).items():
        if name.lower() not in NOT_OURS and name.isascii():
            draft.headers.append((name.lower().encode(), written(value).encode("latin-1", "replace")))
    for name, value in (case.cookies or {}).items():
        if name.isascii() and name.isprintable():
            draft.cookies.append((encoded("header", name), encoded("header", written(value))))
    draft.headers = [(name, encoded("header", value.decode("latin-1"))) for name, value in draft.headers]
    if case.media_type is not None and not isinstance(case.body, NotSet):
        _body_of(draft, case)
    return draft.ask()


def _body_of(draft: Draft, case: Any) -> None:
    if isinstance(case.body, bytes):
        draft.body = case.body
    elif isinstance(case.body, dict) and case.media_type == "application/x-www-form-urlencoded":
        pairs = [(name, item) for name, values in case.body.items() for item in several(values)]
        draft.body = b"&".join(encoded("query", name) + b"=" + encoded("query", written(item)) for name, item in pairs)
    else:
        draft.body = json.dumps(case.body, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
    draft.headers.append((b"content-type", case.media_type.encode()))
