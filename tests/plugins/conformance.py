"""What the official conformance suite of MCP calls, by the names that it asks for."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Literal

from plugbay import AgentTool, BackendPlugin, PluginHost, PluginManifest, ToolContext

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()


def block(kind: str, **rest: Any) -> dict[str, Any]:
    """One content block."""
    return {"type": kind, **rest}


def resource(uri: str, mime_type: str, text: str) -> dict[str, Any]:
    """A block with a resource in it."""
    return block("resource", resource={"uri": uri, "mimeType": mime_type, "text": text})


IMAGE = block("image", data=PIXEL, mimeType="image/png")


def test_simple_text() -> str:
    """Return a text."""
    return "This is a simple text response for testing."


def test_image_content() -> dict[str, Any]:
    """Return an image."""
    return {"content": [IMAGE]}


def test_audio_content() -> dict[str, Any]:
    """Return a sound."""
    return {"content": [block("audio", data=SILENCE, mimeType="audio/wav")]}


def test_embedded_resource() -> dict[str, Any]:
    """Return a resource."""
    return {"content": [resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]}


def test_multiple_content_types() -> dict[str, Any]:
    """Return a text, an image and a resource."""
    text = block("text", text="Multiple content types test:")
    data = resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return {"content": [text, IMAGE, data]}


def test_error_handling() -> None:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


async def test_tool_with_progress(ctx: ToolContext) -> str:
    """Report progress three times."""
    for fraction in (0.0, 0.5, 1.0):
        await ctx.progress(fraction, f"{fraction:.0%}")
        await asyncio.sleep(0)
    return "done"


async def test_reconnection() -> str:
    """Return a text after the client had time to look at the stream."""
    await asyncio.sleep(0)
    return "Reconnection test completed"


class WithDialect(AgentTool):
    """A tool whose schema names its dialect."""

    @property
    def schema(self) -> dict[str, Any]:
        """The schema with ``$schema``."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **AgentTool.schema.fget(self)}  # type: ignore[attr-defined]


DIALECT = WithDialect(
    name="json_schema_2020_12_tool",
    description="Tool with JSON Schema 2020-12 features",
    handler=lambda args: args,
    parameters={"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    definitions={
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
    },
    additional=False,
)


def test_simple_prompt() -> str:
    """Say one thing."""
    return "This is a simple prompt for testing."


def test_prompt_with_arguments(arg1: Literal["paris", "park", "party"] | str, arg2: str) -> str:
    """Say what was given.

    Args:
        arg1: First test argument.
        arg2: Second test argument.
    """
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:
    """Show a resource."""
    shown = resource(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [{"role": "user", "content": shown}, "Please process the embedded resource above."]


def test_prompt_with_image() -> list[Any]:
    """Show an image."""
    return [{"role": "user", "content": IMAGE}, "Please analyze the image above."]


class Plugin(BackendPlugin):
    """The suite's server."""

    manifest = PluginManifest(id="conformance", name="Conformance")

    def setup(self, host: PluginHost) -> None:
        """Offer everything that the suite asks for and that plugins can offer."""
        for tool in (
            test_simple_text, test_image_content, test_audio_content, test_embedded_resource,
            test_multiple_content_types, test_error_handling, test_tool_with_progress, test_reconnection, DIALECT,
        ):  # fmt: skip
            host.add_agent_tool(tool)
        for prompt in (
            test_simple_prompt, test_prompt_with_arguments, test_prompt_with_embedded_resource, test_prompt_with_image,
        ):  # fmt: skip
            host.add_prompt(prompt)
        text = "This is the content of the static text resource."
        host.add_resource("test://static-text", lambda: text, name="Static text", mime_type="text/plain")
        pixel = base64.b64decode(PIXEL)
        host.add_resource("test://static-binary", lambda: pixel, name="Static image", mime_type="image/png")
        host.add_resource(
            "test://template/{id}/data",
            lambda id: {"id": id, "templateTest": True, "data": f"Data for ID: {id}"},
            name="Template",
            mime_type="application/json",
        )


PLUGIN = Plugin()
