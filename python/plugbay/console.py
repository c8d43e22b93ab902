"""The interactive console with ``dash``: IPython where it is installed, Python's own otherwise."""

from __future__ import annotations

import ast
import asyncio
import code
import contextlib
import inspect
import sys
from types import CodeType
from typing import Any

from plugbay._registry import registry
from plugbay.repl import Dash

_BANNER = "Plugbay. dash.help() shows what there is."


def run_console(dash: Dash) -> None:
    """Talk with the person at the terminal until they leave."""
    names: dict[str, Any] = {"dash": dash, "registry": registry}
    if sys.stdin.isatty() and _run_ipython(names):
        return
    with contextlib.suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    # exit() leaves the console, and the host stops in good order.
    with contextlib.suppress(SystemExit), asyncio.Runner() as runner:
        _Console(names, runner).interact(banner=_BANNER, exitmsg="")


class _Console(code.InteractiveConsole):
    """Python's own, with ``await`` where a line begins, as in IPython."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self._names = names
        self._runner = runner
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        try:
            made = eval(code, self._names)  # what a person has typed
            if inspect.iscoroutine(made):
                self._runner.run(made)
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()


def _run_ipython(names: dict[str, Any]) -> bool:
    """Run IPython; false when it is not installed."""
    try:
        import IPython
        from traitlets.config import Config
    except ImportError:
        return False
    config = Config()
    config.TerminalInteractiveShell.banner1 = f"{_BANNER}\n"
    config.TerminalIPythonApp.display_banner = True
    IPython.start_ipython(argv=[], user_ns=names, config=config)
    return True
