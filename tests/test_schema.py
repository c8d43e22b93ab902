"""A function's signature becomes the schema of its arguments, and such arguments become a call."""

import datetime
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from plugbay import AgentTool, InvalidError, ToolContext
from plugbay.docstring import read_docstring


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    tags: list[str] = []


def read(fn: Callable[..., Any]) -> dict[str, Any]:
    """The schema of the tool that a function becomes."""
    return AgentTool.from_function(fn).schema


def test_name_description_and_schema_come_from_the_function() -> None:
    def search(query: str, limit: int = 10) -> list[str]:
        """Search the archive.

        The newest come first.

        Args:
            query: what to look for,
                in plain words
            limit (int): how many at most

        Returns:
            The titles.
        """
        return [query] * limit

    tool = AgentTool.from_function(search)
    assert tool.name == "search"
    assert tool.description == "Search the archive.\n\nThe newest come first."
    assert tool.schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for, in plain words"},
            "limit": {"type": "integer", "default": 10, "description": "how many at most"},
        },
        "required": ["query"],
        "additionalProperties": False,
    }
    assert tool.handler({"query": "a", "limit": 2}) == ["a", "a"]


def test_what_is_given_replaces_what_the_function_says() -> None:
    def fn(a: int) -> int:
        """Its own words."""
        return a

    tool = AgentTool.from_function(fn, name="other.name", description="Other words.", group="numbers", timeout_s=1.5)
    assert (tool.name, tool.description, tool.group, tool.timeout_s) == ("other.name", "Other words.", "numbers", 1.5)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (list[float], {"type": "array", "items": {"type": "number"}}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (datetime.date, {"type": "string", "format": "date"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Any, {}),
        (Annotated[int, Field(ge=1, description="one")], {"type": "integer", "minimum": 1, "description": "one"}),
    ],
    ids=str,
)  # fmt: skip
def test_an_annotation_becomes_a_schema(annotation: Any, schema: dict[str, Any]) -> None:
    def fn(value) -> None:
        pass

    fn.__annotations__["value"] = annotation
    assert read(fn)["properties"] == {"value": schema}


def test_models_are_definitions_and_arrive_as_models() -> None:
    def fn(item: Item, colour: Colour = Colour.RED) -> Any:
        return item, colour

    tool = AgentTool.from_function(fn)
    assert tool.schema["properties"]["item"] == {"$ref": "#/$defs/Item"}
    assert set(tool.schema["$defs"]) == {"Item", "Colour"}
    assert tool.handler({"item": {"name": "a"}, "colour": "blue"}) == (Item(name="a"), Colour.BLUE)


def test_a_default_that_json_cannot_hold_stays_the_functions_own() -> None:
    nothing = object()
    kept: list[int] = []

    def fn(a: Any = nothing, b: list[int] = kept) -> Any:
        return a is nothing, b is kept

    assert AgentTool.from_function(fn).handler({}) == (True, True)


def test_a_default_may_be_a_field_of_pydantic() -> None:
    def fn(a: int = Field(5, le=9)) -> int:
        return a

    tool = AgentTool.from_function(fn)
    assert tool.schema["properties"]["a"] == {"type": "integer", "default": 5, "maximum": 9}
    assert tool.handler({}) == 5
    with pytest.raises(InvalidError, match="a: Input should be less than or equal to 9"):
        tool.handler({"a": 10})


def test_parameters_may_be_called_like_the_methods_of_a_model() -> None:
    def fn(schema: str, copy: int, model_config: bool, _private: str = "x") -> Any:
        return schema, copy, model_config, _private

    given = {"schema": "s", "copy": 1, "model_config": True, "_private": "p"}
    assert set(read(fn)["properties"]) == set(given)
    assert AgentTool.from_function(fn).handler(given) == ("s", 1, True, "p")


def test_positional_only_and_keyword_only_parameters_are_called_as_they_must_be() -> None:
    def fn(a: int, b: int = 2, /, c: int = 3, *, d: int) -> Any:
        return a, b, c, d

    assert AgentTool.from_function(fn).handler({"a": 1, "d": 4}) == (1, 2, 3, 4)


@pytest.mark.parametrize("annotation", [ToolContext, ToolContext | None, "ToolContext"], ids=str)
def test_a_context_is_given_and_not_in_the_schema(annotation: Any) -> None:
    def fn(a: int, context, b: int = 2) -> Any:
        return a, context, b

    fn.__annotations__["context"] = annotation
    tool = AgentTool.from_function(fn)
    assert set(tool.schema["properties"]) == {"a", "b"}
    assert tool.handler({"a": 1}, "the context") == (1, "the context", 2)


async def coroutine(a: int) -> int:
    """A function of this module."""
    return a


class Calls:
    """Callables of other kinds."""

    def method(self, a: int) -> int:
        """A method."""
        return a

    async def __call__(self, a: int) -> int:
        """An object."""
        return a


@pytest.mark.parametrize("fn", [Calls().method, functools.partial(Calls().method), coroutine])
def test_methods_partials_and_coroutine_functions_become_tools(fn: Callable[..., Any]) -> None:
    assert read(fn)["properties"] == {"a": {"type": "integer"}}


def test_an_object_without_a_name_becomes_a_tool_when_it_is_given_one() -> None:
    tool = AgentTool.from_function(Calls(), name="calls")
    assert tool.description == "An object."
    assert tool.schema["required"] == ["a"]


def unknown_annotation() -> Callable[..., Any]:
    """A function whose annotation names nothing."""
    scope: dict[str, Any] = {}
    exec("def fn(a: 'Nowhere'): ...", scope)
    fn: Callable[..., Any] = scope["fn"]
    return fn


class Opaque:
    """Nothing that pydantic knows."""


def opaque(a: Opaque) -> None:
    """A function with an annotation that pydantic does not know."""


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda a: a, "has no name for a tool"),
        (Calls(), "has no name for a tool"),
        (3, "expected a function"),
        (print, "no name of its own in a schema|no signature"),
        (unknown_annotation(), "an annotation of fn cannot be read .*Nowhere"),
        (opaque, "the annotations of opaque make no JSON schema"),
    ],
    ids=["lambda", "object", "number", "builtin", "unknown annotation", "unknown type"],
)
def test_what_makes_no_schema_is_refused_with_the_cure(fn: Any, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        AgentTool.from_function(fn)


FORMS = {
    "google": """Do it.

    Args:
        a: the a
            in full
        b (int, optional): the b: yes

    Raises:
        c: no
    """,
    "numpy": """Do it.

    Parameters
    ----------
    a : str
        the a
        in full
    b
        the b: yes

    Returns
    -------
    c
        no
    """,
    "sphinx": """Do it.

    :param a: the a
      in full
    :param int b: the b: yes
    :returns: no
    """,
    "none": "Do it.",
}


@pytest.mark.parametrize("form", FORMS)
def test_docstrings_are_read_in_three_forms(form: str) -> None:
    read = read_docstring(FORMS[form])
    assert read.description == "Do it."
    assert read.parameters == ({} if form == "none" else {"a": "the a in full", "b": "the b: yes"})
