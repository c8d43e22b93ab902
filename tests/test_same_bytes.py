"""The same bytes: every topic of the tutorial under FastAPI's own application and as a plugin, asked alike."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asking import Asking
from generated import generated
from operations import Operation, operations
from twins import Ask, Twins, place_of, topic, topics, twins

from plugbay import listing

SOAK_ASKS = 20_000
"""For each operation, when there is an hour."""


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


def generated_of(name: str, counts: tuple[int, int], seed: int = 1) -> Iterator[Ask]:
    """What schemathesis makes of a topic's document: for each operation so many that fit, and so many that do not."""
    document = document_of(name)
    for operation in operations_of(name):
        yield from generated(document, operation, counts, seed)


@pytest.mark.parametrize("name", topics())
def test_a_topic_answers_the_same_bytes(both: Twins, name: str, pytestconfig: pytest.Config) -> None:
    compared = both.differences(asks_of(name, pytestconfig.getoption("asks")))
    assert not compared.different, compared.report()


@pytest.mark.parametrize("name", topics())
def test_what_is_generated_from_the_document_is_answered_alike(
    both: Twins, name: str, pytestconfig: pytest.Config
) -> None:
    most = pytestconfig.getoption("asks")
    compared = both.differences(generated_of(name, (most // 20, most // 60)))
    assert not compared.different, compared.report()


@pytest.mark.soak
@pytest.mark.parametrize("name", topics())
def test_all_that_can_be_asked_is_answered_alike(both: Twins, name: str) -> None:
    asks = itertools.chain(asks_of(name, SOAK_ASKS), *(generated_of(name, (100, 60), seed) for seed in range(2, 5)))
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


def test_the_operations_of_the_document_are_the_routes_that_are_served(both: Twins) -> None:
    served = [
        (row["plugin"], f"{method} {re.sub(r':[a-z]+}', '}', row['path'])}")
        for row in listing.routes_here()
        for method in row["methods"]
    ]
    for name in topics():
        place = place_of(name)
        plugin = place.rpartition("/")[2]
        here = [route.replace(place, "", 1) for owner, route in served if owner == plugin]
        said = [str(operation).replace(place, "", 1) for operation in operations_of(name)]
        assert sorted(here) == sorted([*said, *getattr(topic(name), "UNSAID", [])])
