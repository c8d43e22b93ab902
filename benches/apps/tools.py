"""The tools beside the echo that every MCP server of a case has."""

import os
from collections.abc import Callable, Iterator
from typing import Any


def further() -> Iterator[Callable[..., Any]]:
    """As many as ``BENCH_TOOLS`` says, none unless it is set."""
    for number in range(int(os.environ.get("BENCH_TOOLS", "0"))):

        def tool(path: str, limit: int = 10, exact: bool = False) -> list[str]:
            """Look for something in a place, at most so often."""
            return [path]

        tool.__name__ = f"further_{number}"
        yield tool
