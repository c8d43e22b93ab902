"""What a plugin says of itself and of a tool: plain classes that know nothing of the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PluginManifest:
    """What a plugin says of itself.

    ``id`` is unique: lower-case letters, digits, ``_`` and ``-``, at most 64. ``host_api`` is the range of host
    interface versions that the plugin works with; it is checked before ``setup`` is called.
    """

    id: str
    name: str
    version: str = "0.0.0"
    description: str = ""
    host_api: str = ">=1,<2"


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A function that agents, people and programs can call.

    ``parameters`` maps each argument's name to its JSON schema (2020-12); ``required`` names those that must be given.
    The handler, sync or async, is called ``handler(args)``, or ``handler(args, ctx)``
    when it has a second positional parameter, and returns a JSON-able value. ``output_schema`` is what each result is
    checked against. ``side_effect`` says that a call changes something and so needs leave; ``specifier_template``
    (``"{path}"``) makes the text that the gate's rules are matched with. ``definitions`` are schemas that the others
    refer to as ``#/$defs/<name>``. ``additional`` says whether arguments that no parameter names are let through, as
    JSON Schema does unless it is told otherwise; a typed function, which could not take them, refuses them.
    ``max_concurrency`` is how many calls may run at a time; further ones are ``busy``.
    """

    name: str
    description: str
    handler: Callable[..., Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = field(default_factory=list)
    output_schema: Mapping[str, Any] | None = None
    side_effect: bool = False
    specifier_template: str | None = None
    group: str | None = None
    timeout_s: float = 60.0
    definitions: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    additional: bool = field(default=True, kw_only=True)
    max_concurrency: int | None = field(default=None, kw_only=True)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the whole arguments object."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.parameters)}
        if self.required:
            schema["required"] = list(self.required)
        if not self.additional:
            schema["additionalProperties"] = False
        if self.definitions:
            schema["$defs"] = dict(self.definitions)
        return schema

    @classmethod
    def from_function(
        cls,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        output_schema: Mapping[str, Any] | None = None,
        side_effect: bool = False,
        specifier_template: str | None = None,
        group: str | None = None,
        timeout_s: float = 60.0,
        max_concurrency: int | None = None,
    ) -> AgentTool:
        """Make a tool of a typed function.

        Its name, its docstring and its annotations give the tool's name, description and argument schema, unless they
        are given here. A parameter annotated ``ToolContext`` receives the call's context and is not in the schema.

        Raises ``InvalidError`` when the signature cannot be put into a schema, naming the parameter and the cure.
        """
        from plugbay.schema import read_function  # a plugin without typed functions starts without it

        typed = read_function(fn, name)
        return cls(
            name=typed.name,
            description=typed.description if description is None else description,
            handler=typed.handler,
            parameters=typed.parameters,
            required=typed.required,
            output_schema=output_schema,
            side_effect=side_effect,
            specifier_template=specifier_template,
            group=group,
            timeout_s=timeout_s,
            definitions=typed.definitions,
            additional=False,
            max_concurrency=max_concurrency,
        )
