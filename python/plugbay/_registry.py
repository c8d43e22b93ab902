"""What plugins there are, what they offer and what went wrong: the core's registry, as Python sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plugbay import _core, discovery, loader
from plugbay.errors import NotFoundError, PlugbayError, PluginError
from plugbay.sdk import PluginManifest

ProviderFormat = Literal["openai", "anthropic", "mcp"]


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A tool that serves. ``parameters`` is the JSON schema of its whole arguments object."""

    name: str
    plugin: str
    description: str
    parameters: dict[str, Any]
    output_schema: dict[str, Any] | None
    side_effect: bool
    specifier_template: str | None
    group: str | None
    timeout_s: float
    max_concurrency: int | None


class Registry:
    """What plugins there are. There is one, ``plugbay.registry``; each look at it shows what serves at that moment."""

    @property
    def loaded(self) -> list[PluginManifest]:
        """The manifests of the plugins that serve, in the order in which they were loaded."""
        return [
            PluginManifest(id, name, version, description, host_api)
            for id, name, version, description, host_api, _source, _engine in _core.plugins()
        ]

    @property
    def errors(self) -> list[PluginError]:
        """What went wrong, oldest first; each unpacks as ``source, message``."""
        return [
            PluginError(source, message, plugin, stage, code, traceback, at)
            for source, plugin, stage, code, message, traceback, at in _core.errors()
        ]

    @property
    def agent_tools(self) -> dict[str, RegisteredTool]:
        """The tools, by name."""
        return {
            tool["name"]: RegisteredTool(
                name=tool["name"],
                plugin=tool["plugin"],
                description=tool["description"],
                parameters=json.loads(tool["parameters"]),
                output_schema=None if tool["output"] is None else json.loads(tool["output"]),
                side_effect=tool["side_effect"],
                specifier_template=tool["specifier_template"],
                group=tool["group"],
                timeout_s=tool["timeout_s"],
                max_concurrency=tool["max_concurrency"],
            )
            for tool in _core.tools()
        }

    @property
    def ws_channels(self) -> dict[str, str]:
        """The channels on ``/ws``: the id of the plugin that offers it, by name."""
        return dict(_core.channels())

    @property
    def dash_facades(self) -> dict[str, Callable[[], Any]]:
        """The factories of the names on ``dash``, by name."""
        return {name: factory for name, _plugin, factory in _core.facades()}

    def provider_tools(self, format: ProviderFormat = "openai") -> list[dict[str, Any]]:
        """The tools as a model's API takes them, sorted by name.

        OpenAI and Anthropic forbid dots: there ``ping.echo`` is ``ping__echo``, and a name that is taken gets a
        number. ``tool_name`` turns such a name back.

        Raises ``InvalidError`` for another format.
        """
        described, _names = _core.provider_tools(format)
        return [json.loads(tool) for tool in described]

    def tool_name(self, provider_name: str) -> str:
        """The name of the tool that a model calls by the name that ``provider_tools`` gave it.

        Raises ``NotFoundError`` when no tool has it.
        """
        _described, names = _core.provider_tools("openai")
        for given, name in names:
            if given == provider_name:
                return name
        raise NotFoundError(f"no tool has the provider name {provider_name!r}: registry.provider_tools() lists them")

    async def invoke_agent_tool(self, name: str, args: Mapping[str, Any] | None = None) -> Any:
        """Run a tool, through the same checks and the same gate as every other call.

        Returns its result, or ``{"error": message, "code": code}``; never raises.
        """
        if not isinstance(name, str):
            return {"error": f"the name of a tool is a text like 'ping.echo', not {name!r}", "code": "invalid"}
        try:
            try:
                arguments = json.dumps({} if args is None else args, allow_nan=False).encode()
            except (TypeError, ValueError, RecursionError) as error:
                _core.refuse(name, "python")
                message = f"the arguments of {name!r} are a dict that JSON can hold ({error}): {{'text': 'hi'}}"
                return {"error": message, "code": "invalid"}
            return json.loads(await _core.invoke(name, arguments, "python"))
        except PlugbayError as error:
            return {"error": error.message, "code": error.code}
        except UnicodeEncodeError:
            return {"error": f"no tool is named {name!r}", "code": "not_found"}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "code": "internal"}

    def reset(self) -> None:
        """Withdraw every plugin and forget every error; for tests."""
        _core.reset()
        loader.let_go()


registry = Registry()
"""The one registry of this process."""


def load_plugins(*, extra_dirs: Sequence[str | Path] | None = None) -> Registry:
    """Find and load all plugins, as the server does, and return the registry; ``extra_dirs`` are looked at, too.

    What goes wrong is in ``registry.errors``; nothing is raised. Plugins that are loaded already are passed over.
    """
    folders = [*discovery.folders_of_environment(), *(Path(folder).absolute() for folder in extra_dirs or ())]
    loader.load(discovery.discover(discovery.home_of_environment(), folders))
    return registry
