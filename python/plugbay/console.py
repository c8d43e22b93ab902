"""The interactive console with ``dash``: IPython where it is installed, Python's own otherwise."""

from __future__ import annotations

import code
import contextlib
import sys
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
    with contextlib.suppress(SystemExit):  # exit() leaves the console, and the host stops in good order
        code.interact(banner=_BANNER, local=names, exitmsg="")


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
