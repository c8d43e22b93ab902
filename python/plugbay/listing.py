"""What the commands print: plugins, routes and tools, as tables for people or as JSON for programs.

The same rows come from a running host over HTTP and from the plugins of this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from plugbay import _core
from plugbay._registry import registry
from plugbay._shown import shown, shown_in_json
from plugbay.client import HostClient
from plugbay.fastapi import routes_of

Row = dict[str, Any]


def plugins_here() -> list[Row]:
    """The plugins of this process, those that failed among them."""
    rows: list[Row] = [
        {"id": id, "name": name, "version": version, "kind": engine, "state": "loaded", "source": source, "error": None}
        for id, name, version, _description, _host_api, source, engine in _core.plugins()
    ]
    rows += [
        {"id": id, "name": id, "version": None, "kind": "python", "state": "disabled", "source": source, "error": None}
        for id, source in _core.passed_over()
    ]
    return rows + [failed_row(error) for error in errors_here()]


def plugins_there(client: HostClient) -> list[Row]:
    """The plugins of a running host, those that failed among them."""
    rows = [plugin for plugin in client.get("/api/host/plugins")["plugins"] if plugin["kind"] is not None]
    # What is wrong with a server is in its plugin's row, and over when it runs again.
    servers = {row["id"] for row in rows if row["server"]}
    errors = client.get("/api/host/errors")["errors"]
    return rows + [failed_row(error) for error in errors if error["plugin"] not in servers]


def errors_here() -> list[Row]:
    """What went wrong in this process, each with its ``line``: source, stage and cure in one."""
    names = ("source", "plugin", "stage", "code", "message", "traceback", "at")
    return [{**{name: getattr(error, name) for name in names}, "line": str(error)} for error in registry.errors]


def failed_row(error: Mapping[str, Any]) -> Row:
    """The row of a plugin that failed."""
    return {
        "id": error["plugin"],
        "name": error["plugin"],
        "version": None,
        "kind": None,
        "state": "failed",
        "source": error["source"],
        "error": {name: error[name] for name in ("stage", "code", "message")},
    }


def routes_here() -> list[Row]:
    """The routes of the plugins of this process, WebSockets among them, in the order in which they are tried."""
    names = ("methods", "path", "plugin", "name", "compiled", "reason")
    return [
        dict(zip(names, (methods, path, plugin, name, compiled, reason), strict=True))
        for _prefix, plugin, methods, path, name, compiled, reason in _core.routes()
    ]


def routes_there(client: HostClient) -> list[Row]:
    """The routes of a running host."""
    rows: list[Row] = client.get("/api/host/routes")["routes"]
    return rows


def tools_here(search: str = "", group: str | None = None) -> list[Row]:
    """The tools of this process, by name, or the best first where words are searched for."""
    tools = registry.agent_tools
    return [
        {
            "name": tool.name,
            "plugin": tool.plugin,
            "description": tool.description,
            "parameters": tool.parameters,
            "output_schema": tool.output_schema,
            "side_effect": tool.side_effect,
            "specifier_template": tool.specifier_template,
            "group": tool.group,
            "timeout_s": tool.timeout_s,
            "max_concurrency": tool.max_concurrency,
        }
        for tool in map(tools.__getitem__, _core.search_tools(search))
        if group is None or tool.group == group
    ]


def tools_there(client: HostClient, search: str = "", group: str | None = None) -> list[Row]:
    """The tools of a running host, by name, or the best first where words are searched for."""
    wish = {"search": search} | ({} if group is None else {"group": group})
    rows: list[Row] = client.get(f"/api/host/tools?{urlencode(wish)}")["tools"]
    return rows


def offers_here(plugin: str) -> list[str]:
    """What one plugin of this process offers, a line each."""
    source = next((source for id, *_, source, _engine in _core.plugins() if id == plugin), "")
    folder = _manifest_folder(source)
    lines = [] if folder is None else _core.manifest_offers(folder)
    lines += [f"route    {' '.join(row['methods'])} {row['path']}" for row in routes_here() if row["plugin"] == plugin]
    for row in tools_here():
        if row["plugin"] == plugin:
            lines.append(f"tool     {row['name']}" + (" (side effect)" if row["side_effect"] else ""))
    lines += [f"channel  {name}" for name, owner in _core.channels() if owner == plugin]
    lines += [f"facade   dash.{name}" for name, owner, _factory in _core.facades() if owner == plugin]
    return lines


def notes_here() -> list[str]:
    """Odd fields of manifests, and routes that are never reached, since another of their router stands before them."""
    notes = [note for *_, source, _engine in _core.plugins() for note in _manifest_notes(source)]
    for prefix, plugin, app in _core.mounts():
        routes = routes_of(app, f"/api/{prefix}")
        for index, late in enumerate(routes):
            early = next((each for each in routes[:index] if each.hides(late)), None)
            if early is not None:
                notes.append(
                    f"plugin {plugin}: {late} is never reached, since {early} stands before it: change their order"
                )
    return notes


def _manifest_notes(source: str) -> list[str]:
    """The notes about the manifest of a plugin that came from ``source``, where it has one."""
    folder = _manifest_folder(source)
    return [] if folder is None else _core.manifest_notes(folder)


def _manifest_folder(source: str) -> Path | None:
    """The folder of the manifest of a plugin that came from ``source``, where it has one."""
    folder = Path(source)
    folder = folder if folder.is_dir() else folder.parent
    is_its_own = source.endswith(("__init__.py", "manifest.json")) or folder == Path(source)
    return folder if is_its_own and (folder / "manifest.json").is_file() else None


def table(rows: Iterable[Sequence[object]], heads: Sequence[str]) -> str:
    """Rows in columns, each as wide as its longest cell."""
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def as_json(value: Any, indent: int | None = 2) -> str:
    """A value as JSON for a program or a curious person."""
    return shown_in_json(json.dumps(value, indent=indent, ensure_ascii=False))


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else shown(" ".join(str(value).split()))
