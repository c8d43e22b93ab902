"""The interactive console with ``dash``: IPython where it is installed, Python's own otherwise."""

from __future__ import annotations

import ast
import asyncio
import code
import contextlib
import inspect
import sys
import traceback
from types import CodeType
from typing import Any

from plugbay._registry import registry
from plugbay.repl import Dash

_BANNER = "Plugbay. dash.help() shows what there is."


def run_console(dash: Dash) -> bool:
    """Talk with the person at the terminal until they leave; without one, run what is piped in.

    Returns whether that went well.
    """
    names: dict[str, Any] = {"dash": dash, "registry": registry}
    if not sys.stdin.isatty():
        return _run_script(sys.stdin.read(), names)
    if _run_ipython(names):
        return True
    with contextlib.suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    # exit() leaves the console, and the host stops in good order.
    with contextlib.suppress(SystemExit), asyncio.Runner() as runner:
        _Console(names, runner).interact(banner=_BANNER, exitmsg="")
    return True


class _Console(code.InteractiveConsole):
    """Python's own, with ``await`` where a line begins, as in IPython."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self._names = names
        self._runner = runner
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        try:
            _run(code, self._names, self._runner)
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()


def _run_script(text: str, names: dict[str, Any]) -> bool:
    """Run what was piped in, statement by statement, to the first that fails; as in a console, values are shown."""
    with asyncio.Runner() as runner:
        try:
            for statement in ast.parse(text, "<stdin>").body:
                code = compile(ast.Interactive([statement]), "<stdin>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                _run(code, names, runner)
        except SystemExit as ending:
            return not ending.code
        except BaseException as error:
            lines = traceback.TracebackException.from_exception(error)
            # The frames of this file are nobody's business.
            lines.stack[:] = [frame for frame in lines.stack if frame.filename != __file__]
            print("".join(lines.format()), end="", file=sys.stderr)
            return False
    return True


def _run(code: CodeType, names: dict[str, Any], runner: asyncio.Runner) -> None:
    made = eval(code, names)  # what a person has typed
    if inspect.iscoroutine(made):
        runner.run(made)


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
