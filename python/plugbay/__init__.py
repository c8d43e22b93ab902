"""Plugbay: a backend that other people extend.

A plugin is written with ``BackendPlugin``, ``PluginManifest`` and ``AgentTool``; ``registry`` and ``load_plugins`` show
what there is; ``connect`` drives a running host.
"""

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
from plugbay.repl import connect
from plugbay.sdk import AgentTool, PluginManifest

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
