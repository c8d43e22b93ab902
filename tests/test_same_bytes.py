"""The same bytes: every topic of the tutorial under FastAPI's own application and as a plugin, asked alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from asking import Asking
from generated import generated
from operations import Operation, operations
from twins import Ask, Twins, place_of, topic, topics, twins

OPERATION_ASKS = 240
"""How many requests at most each operation gets, apart from the generated ones."""

FITTING, UNFITTING = 10, 5
"""How many requests schemathesis makes for each operation."""


@pytest.fixture(scope="module")
def both() -> Iterator[Twins]:
    with twins(*topics()) as both:
        yield both


def document_of(name: str) -> dict[str, Any]:
    """FastAPI's own OpenAPI document of a topic."""
    from fastapi import FastAPI

    module = topic(name)
    if hasattr(module, "app"):
        return module.app.openapi()
    app = FastAPI()
    app.include_router(module.router, prefix=place_of(name))
    return app.openapi()


def operations_of(name: str) -> list[Operation]:
    return operations(document_of(name), place_of(name), getattr(topic(name), "SAMPLES", {}))


def asks_of(name: str, most: int) -> Iterator[Ask]:
    """What a topic is asked: what it picks by hand, then for each operation an even choice of what can be asked."""
    yield from getattr(topic(name), "ASKS", [])
    for operation in operations_of(name):
        asking = Asking(operation, seed=name)
        yield from spread(list(asking.usual()), most // 3)
        several = [*asking.parameters(), *asking.bodies()]
        yield from spread(several, most - most // 3 - most // 6)
        if several:
            yield from itertools.islice(asking.mixed(), most // 6)


def spread(asks: list[Ask], most: int) -> list[Ask]:
    """At most so many, evenly chosen; the first among them."""
    if len(asks) <= most:
        return asks
    return [asks[number * len(asks) // most] for number in range(most)]


@pytest.mark.parametrize("name", topics())
def test_a_topic_answers_the_same_bytes(both: Twins, name: str) -> None:
    compared = both.differences(asks_of(name, OPERATION_ASKS))
    assert not compared.different, compared.report()


@pytest.mark.parametrize("name", topics())
def test_what_is_generated_from_the_document_is_answered_alike(both: Twins, name: str) -> None:
    document = document_of(name)
    asks = (
        ask for operation in operations_of(name) for ask in generated(document, operation, (FITTING, UNFITTING), seed=1)
    )
    compared = both.differences(asks)
    assert not compared.different, compared.report()


@pytest.mark.parametrize("name", topics())
def test_every_operation_has_an_answer_that_is_no_error(both: Twins, name: str) -> None:
    fails = getattr(topic(name), "FAILS", set())
    for operation in operations_of(name):
        asks = itertools.islice(Asking(operation, seed=name).usual(), 2 + len(operation.samples))
        found = {reference.status for _, reference, _ in both.answers(asks)}
        short = f"{operation.method} {operation.path.removeprefix(place_of(name))}"
        assert short in fails or any(status < 400 for status in found), f"{short}: {found}"
