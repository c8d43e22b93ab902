"""Plugbay: a backend that other people extend.

A plugin is written with ``BackendPlugin``, ``PluginManifest`` and ``AgentTool``; ``registry`` and ``load_plugins`` show
what there is; ``connect`` drives a running host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugbay._registry import load_plugins, registry
from plugbay.context import Connection, Principal, ToolContext
from plugbay.errors import (
    ClosedError,
    ConflictError,
    InvalidError,
    PlugbayError,
    PluginError,
    ToolError,
)
from plugbay.host import BackendPlugin, PluginHost
from plugbay.sdk import AgentTool, PluginManifest

if TYPE_CHECKING:
    from plugbay.repl import connect

__all__ = [
    "AgentTool",
    "BackendPlugin",
    "ClosedError",
    "ConflictError",
    "Connection",
    "InvalidError",
    "PlugbayError",
    "PluginError",
    "PluginHost",
    "PluginManifest",
    "Principal",
    "ToolContext",
    "ToolError",
    "connect",
    "load_plugins",
    "registry",
]


def __getattr__(name: str) -> Any:
    """``connect``, imported when it is asked for: a host does without the console."""
    if name == "connect":
        from plugbay.repl import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
