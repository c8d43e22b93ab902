"""``dash`` drives a host: in a console, in a notebook where a loop runs already, and over HTTP."""

import asyncio
import os
import pty
import rlcompleter
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugbay import (
    AgentTool,
    BackendPlugin,
    PlugbayError,
    PluginHost,
    PluginManifest,
    ToolError,
    connect,
    registry,
)
from plugbay.errors import UnavailableError
from plugbay.host import DASH_NAMES
from plugbay.repl import Dash
from plugbay.testing import RunningHost, running_host

EXAMPLES = Path(__file__).parents[1] / "examples"


class Thing:
    """A thing on dash."""

    def __init__(self) -> None:
        self.value = 1
        self.items = ["a", "b"]

    def thread(self) -> str:
        """The thread that this runs on."""
        return threading.current_thread().name

    async def loops_thread(self) -> str:
        """The thread that a coroutine runs on."""
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def fail(self) -> None:
        """Fail."""
        raise LookupError("nothing there")

    def __getitem__(self, index: int) -> str:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


class Handy(BackendPlugin):
    manifest = PluginManifest(id="handy", name="Handy", version="2.0")

    def setup(self, host: PluginHost) -> None:
        def call_registry(args: dict[str, Any]) -> Any:
            return asyncio.run(registry.invoke_agent_tool("math.add", {"a": 1, "b": 1}))

        def add(a: int, b: int = 0) -> int:
            """Add two numbers.

            Args:
                a: the first
            """
            return a + b

        async def wait(args: dict[str, Any]) -> None:
            await asyncio.Event().wait()

        host.add_agent_tool(AgentTool.from_function(add, name="math.add"))
        host.add_agent_tool(AgentTool("math", "All of it.", lambda args: "math"))
        host.add_agent_tool(AgentTool("odd-name", "", lambda args: "odd"))
        host.add_agent_tool(AgentTool("fail", "", lambda args: 1 / 0))
        host.add_agent_tool(AgentTool("nested", "", call_registry))
        host.add_agent_tool(AgentTool("wait", "", wait, timeout_s=0.05))
        host.add_dash_facade("thing", Thing)


class FailingFacade(BackendPlugin):
    manifest = PluginManifest(id="failing", name="Failing")

    def setup(self, host: PluginHost) -> None:
        def factory() -> None:
            raise OSError("no disk")

        host.add_dash_facade("broken", factory)
        host.add_dash_facade("fine", dict)


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host with the plugins above."""
    with running_host(Handy, FailingFacade) as host:
        yield host


@pytest.fixture(params=["here", "over HTTP"])
def dash(request: pytest.FixtureRequest, host: RunningHost) -> Dash:
    """The same host, from its own process and from outside."""
    return host.dash if request.param == "here" else connect(host.url, host.token)


def test_a_tool_blocks_and_returns_its_result(dash: Dash) -> None:
    assert dash.tools.math.add(a=1, b=2) == 3
    assert dash.tools.math.add({"a": 1}, b=5) == 6
    assert dash.tools["math.add"](a=4) == 4


def test_a_name_that_is_a_tool_and_a_beginning_is_called_and_has_members(dash: Dash) -> None:
    assert dash.tools.math() == "math"
    assert dash.tools.math["add"](a=1) == 1


def test_a_name_that_is_no_identifier_is_an_item(dash: Dash) -> None:
    assert dash.tools["odd-name"]() == "odd"
    assert "odd-name" in dash.tools


def test_a_failure_is_a_tool_error_with_its_code(dash: Dash) -> None:
    for arguments, name, code in [({}, "fail", "plugin"), ({"a": "x"}, "math.add", "invalid"), ({}, "wait", "timeout")]:
        with pytest.raises(ToolError) as error:
            dash.tools[name](arguments)
        assert error.value.code == code
        assert error.value.message


def test_an_argument_without_a_name_is_told_to_have_one(dash: Dash) -> None:
    with pytest.raises(TypeError, match="takes its arguments by name"):
        dash.tools.math.add("hi")


def test_arguments_that_are_not_json_are_invalid(dash: Dash) -> None:
    with pytest.raises(ToolError) as error:
        dash.tools.math.add(a={1})
    assert error.value.code == "invalid"


def test_a_tool_may_call_another_through_the_registry(dash: Dash) -> None:
    assert dash.tools.nested() == 2


def test_a_name_that_is_not_there_names_those_that_are(dash: Dash) -> None:
    with pytest.raises(AttributeError, match=r"no tool 'math.sub': there are math.add"):
        _ = dash.tools.math.sub
    with pytest.raises(KeyError, match="odd-name"):
        _ = dash.tools["other"]
    with pytest.raises(AttributeError, match=r"dash\.other: no plugin offers it"):
        _ = dash.other
    with pytest.raises(TypeError, match="several tools"):
        dash.tools()


def test_a_tool_blocks_where_a_loop_runs_already(dash: Dash) -> None:
    async def cell() -> Any:
        return dash.tools.math.add(a=1, b=2)

    assert asyncio.run(cell()) == 3


def test_a_tool_can_be_awaited(dash: Dash) -> None:
    async def cell() -> Any:
        added = await asyncio.gather(*(dash.tools.math.add.call_async(a=number) for number in range(20)))
        with pytest.raises(ToolError):
            await dash.tools.fail.call_async()
        return added

    assert asyncio.run(cell()) == list(range(20))


def test_a_call_that_is_cancelled_cancels_the_tool(host: RunningHost) -> None:
    cancelled = threading.Event()

    class Waits(BackendPlugin):
        manifest = PluginManifest(id="waits", name="Waits")

        def setup(self, host: PluginHost) -> None:
            async def for_ever(args: dict[str, Any]) -> None:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

            host.add_agent_tool(AgentTool("for.ever", "", for_ever))

    from plugbay import loader

    started = threading.Event()
    loader.load([loader.Given("test", Waits())])

    async def cell() -> None:
        call = asyncio.ensure_future(host.dash.tools["for.ever"].call_async())
        await asyncio.to_thread(started.wait, 10)
        call.cancel()

    asyncio.run(cell())
    assert cancelled.wait(10)


def test_plugins_and_errors_are_listed(dash: Dash) -> None:
    assert [manifest.id for manifest in dash.plugins][:2] == ["handy", "failing"]
    assert "handy" in repr(dash.plugins)
    assert all("; " in str(error) or ": " in str(error) for error in dash.errors)


def test_help_prints_what_there_is(dash: Dash, capsys: pytest.CaptureFixture[str]) -> None:
    dash.help()
    said = capsys.readouterr().out
    assert "math.add(a, b=0)  Add two numbers." in said
    assert "handy" in said


def test_help_lists_the_facades(host: RunningHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.dash.help()
    assert "dash.thing  A thing on dash." in capsys.readouterr().out


def test_the_help_of_a_tool_is_its_description_and_its_signature(dash: Dash) -> None:
    import inspect

    assert "Add two numbers." in (inspect.getdoc(dash.tools.math.add) or "")
    assert "a: the first" in repr(dash.tools.math.add)
    assert str(inspect.signature(dash.tools.math.add)) == "(*, a, b=0)"


def completions(dash: Dash, text: str) -> list[str]:
    """What Tab offers after `text`."""
    completer = rlcompleter.Completer({"dash": dash})
    found = []
    while (each := completer.complete(text, len(found))) is not None:
        found.append(each)
    return found


def test_tab_completes_names(dash: Dash) -> None:
    assert "dash.tools" in [each.rstrip("(") for each in completions(dash, "dash.to")]
    assert "dash.tools.math" in [each.rstrip("()") for each in completions(dash, "dash.tools.ma")]
    assert "dash.tools.math.add" in [each.rstrip("()") for each in completions(dash, "dash.tools.math.a")]
    assert "odd-name" not in dir(dash.tools)
    assert "odd-name" in dash.tools._ipython_key_completions_()


def test_tab_completes_facades(host: RunningHost) -> None:
    assert [each.rstrip("()") for each in completions(host.dash, "dash.th")] == ["dash.thing"]
    assert [each.rstrip("()") for each in completions(host.dash, "dash.thing.loo")] == ["dash.thing.loops_thread"]


def test_a_facade_is_the_object_itself_in_all_that_does_not_wait(host: RunningHost) -> None:
    thing = host.dash.thing
    assert thing.thread() == threading.current_thread().name
    assert (thing.value, thing[1], len(thing), thing.items) == (1, "b", 2, ["a", "b"])
    thing.value = 5
    assert host.dash.thing.value == 5


def test_a_coroutine_of_a_facade_runs_on_the_hosts_loop_and_dash_waits(host: RunningHost) -> None:
    assert host.dash.thing.loops_thread() == "plugbay-loop"
    with pytest.raises(LookupError, match="nothing there"):
        host.dash.thing.fail()

    async def cell() -> Any:
        return host.dash.thing.loops_thread()

    assert asyncio.run(cell()) == "plugbay-loop"


def test_a_factory_that_fails_is_an_error_of_its_plugin_and_the_others_are_there(host: RunningHost) -> None:
    assert "fine" in dir(host.dash)
    assert "broken" not in dir(host.dash)
    with pytest.raises(AttributeError, match="its factory failed"):
        _ = host.dash.broken
    [error] = [error for error in registry.errors if error.plugin == "failing"]
    assert (error.stage, error.code) == ("run", "plugin")
    assert error.message.startswith("OSError: the factory of dash.broken")
    assert error.traceback is not None and "no disk" in error.traceback


def test_over_http_a_facade_says_where_it_lives(host: RunningHost) -> None:
    with pytest.raises(AttributeError, match="object of plugin handy and lives in the host's process"):
        _ = connect(host.url, host.token).thing


def test_the_names_of_dash_are_those_that_no_facade_may_have() -> None:
    own = {name for name in vars(Dash) if not name.startswith("_")}
    assert own == DASH_NAMES


def test_connecting_to_no_host_says_what_to_do() -> None:
    with pytest.raises(UnavailableError, match="plugbay serve"):
        connect("http://127.0.0.1:9", "token")
    with pytest.raises(UnavailableError, match="plugbay serve"):
        connect()
    with pytest.raises(PlugbayError, match="no address of a host"):
        connect("nowhere")


def test_connecting_without_a_token_that_counts_is_refused(host: RunningHost) -> None:
    with pytest.raises(PlugbayError) as error:
        connect(host.url, "wrong")
    assert error.value.code == "unauthenticated"


def console(*words: str, text: str) -> subprocess.CompletedProcess[str]:
    """`plugbay repl` with lines from a pipe."""
    command = [sys.executable, "-m", "plugbay", "repl", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


LINES = """
print("result:", dash.tools.ping.echo(text="hi"))
print("facade:", dash.ping.soon())
import asyncio
print("loop:", asyncio.run(dash.tools.ping.echo.call_async(text="async")))
print("awaited:", await dash.tools.ping.echo.call_async(text="top"))
dash.plugins
"""


def test_the_console_starts_a_host_without_http_and_stops_it() -> None:
    done = console("--plugins-dir", str(EXAMPLES), text=LINES)
    assert done.returncode == 0, done.stderr
    assert "result: {'echo': 'hi'}" in done.stdout
    assert "facade: pong" in done.stdout
    assert "loop: {'echo': 'async'}" in done.stdout
    assert "awaited: {'echo': 'top'}" in done.stdout
    assert "id='notes'" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_console_serves_http_with_a_port() -> None:
    text = "import os, json, urllib.request\n"
    text += "url = json.load(open(os.environ['PLUGBAY_HOME'] + '/host.json'))['url']\n"
    text += "print('health:', urllib.request.urlopen(url + '/healthz').status)\nexit()\n"
    done = console("--port", "0", "--plugins-dir", str(EXAMPLES), text=text)
    assert done.returncode == 0, done.stderr
    assert "health: 200" in done.stdout
    assert "Plugbay at http://127.0.0.1:" in done.stdout


def test_the_console_drives_a_running_host(host: RunningHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGBAY_TOKEN", host.token)
    done = console("--url", host.url, text="print('sum:', dash.tools.math.add(a=1, b=2))\n")
    assert "sum: 3" in done.stdout, done.stderr


def test_the_console_works_in_a_terminal() -> None:
    pytest.importorskip("IPython")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "plugbay", "repl", "--plugins-dir", str(EXAMPLES)]
    environment = {**os.environ, "TERM": "dumb", "IPYTHONDIR": os.environ["PLUGBAY_HOME"] + "-ipython"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        said = b""
        os.write(leader, b"print('loop', await dash.tools.ping.echo.call_async(text='in IPython'))\nexit\n")
        while True:
            try:
                said += os.read(leader, 65536)
            except OSError:  # the other end was closed
                break
        process.wait(30)
    os.close(leader)
    assert "loop {'echo': 'in IPython'}" in said.decode(errors="replace")
    assert process.returncode == 0


def test_what_is_piped_in_runs_as_a_script_to_its_first_failure() -> None:
    text = "for number in range(2):\n    print(number)\n1 + 1\n1 / 0\nprint('never')\n"
    done = console("--plugins-dir", str(EXAMPLES), text=text)
    assert (done.returncode, done.stdout) == (1, "0\n1\n2\n"), done.stderr
    assert 'File "<stdin>", line 4' in done.stderr and "ZeroDivisionError" in done.stderr
    wrong = console("--plugins-dir", str(EXAMPLES), text="print(1")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "SyntaxError" in wrong.stderr
