"""Each broken plugin breaks in one way, is listed with its stage and code, and leaves the rest serving."""

import gc
import json
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from plugbay import BackendPlugin, PluginError, PluginHost, PluginManifest, loader, registry
from plugbay.discovery import at
from plugbay.testing import running_host

PLUGINS = Path(__file__).parent / "plugins"
GOOD = PLUGINS / "good"
BROKEN = PLUGINS / "broken"

ENDS = {
    "missing_import": ("import", "plugin", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "raises_on_import": ("import", "plugin", "RuntimeError: I do not want to be imported"),
    "exits_on_import": ("import", "plugin", "SystemExit: 7"),
    "interrupts_on_import": ("import", "plugin", "KeyboardInterrupt"),
    "waits_on_import": ("import", "timeout", "TimeoutError: the import did not end within"),
    "no_plugin": ("import", "invalid", "InvalidError: there is no PLUGIN"),
    "plugin_of_wrong_type": ("import", "invalid", "InvalidError: PLUGIN is an object of type dict"),
    "constructor_raises": ("import", "plugin", "OSError: no disk"),
    "no_manifest": ("read", "invalid", "InvalidError: the manifest of PLUGIN"),
    "bad_id": ("read", "invalid", "InvalidError: plugin id"),
    "number_as_version": ("read", "invalid", "InvalidError: each field of a manifest is a text"),
    "empty_name": ("read", "invalid", "InvalidError: plugin empty-name has an empty name"),
    "host_api_too_new": ("read", "invalid", "InvalidError: plugin too-new asks for host_api"),
    "host_api_is_no_range": ("read", "invalid", "InvalidError: host_api"),
    "no_setup": ("setup", "plugin", "NotImplementedError: PLUGIN has no setup"),
    "async_setup": ("setup", "invalid", "InvalidError: setup is an `async def`"),
    "setup_raises_half_way": ("setup", "plugin", "ValueError: half way"),
    "exits_in_setup": ("setup", "plugin", "SystemExit: enough"),
    "waits_in_setup": ("setup", "timeout", "TimeoutError: setup(host) did not end within"),
    "router_is_none_of_fastapi": ("setup", "invalid", "InvalidError: add_router takes"),
    "bad_prefix": ("setup", "invalid", "InvalidError: prefix 'plugins/other'"),
    "bad_schema": ("setup", "invalid", "InvalidError: parameters of tool bad.schema"),
    "schema_is_not_json": ("setup", "invalid", "InvalidError: the schema of tool 'not.json'"),
    "bad_tool_name": ("setup", "invalid", "InvalidError: tool name"),
    "untyped_tool": ("setup", "invalid", "InvalidError: PLUGIN.setup.<locals>.<lambda> has no name"),
    "bad_channel_name": ("setup", "invalid", "InvalidError: channel name"),
    "channel_of_the_host": ("setup", "conflict", 'ConflictError: channel "system" belongs to the host'),
    "bad_facade_name": ("setup", "invalid", "InvalidError: facade name"),
    "facade_hides_a_core_name": ("setup", "conflict", "ConflictError: dash.tools belongs to the REPL"),
    "one_name_twice": ("setup", "conflict", "ConflictError: plugin twice already offers"),
    "assets_that_are_not_there": ("setup", "invalid", "InvalidError: the folder of assets"),
    "takes_an_id": ("commit", "conflict", "ConflictError: plugin id greeter"),
    "takes_a_tool": (
        "commit",
        "conflict",
        'ConflictError: tool "greet" of plugin takes-a-tool is taken by plugin greeter',
    ),
    "takes_a_route": ("commit", "conflict", "ConflictError: a route below"),
    "startup_hook_raises": ("startup", "plugin", "ConnectionError: nobody is there"),
    "startup_hook_waits": ("startup", "timeout", "hook wait did not end within"),
    "startup_hook_never_finishes": ("startup", "timeout", "hook for_ever did not end within"),
}

CURE = re.compile(r"\b(use|give|write|make|change|rename|end|call|choose|quote|install|mend|each name once)\b")
"""How a message that says what to do says it."""

WRITTEN = {
    "syntax_error": (b"def broken(:\n", "SyntaxError: "),
    "not_utf8": (b'"""Not UTF-8: \xff."""\n', "SyntaxError: "),
    "null_byte": (b"PLUGIN = 1\0\n", "SyntaxError: source code string cannot contain null bytes"),
}
"""Files that no tool could read, so that a test writes them. They all end at ``read``, ``malformed``."""


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """Nothing is left of a test."""
    yield
    registry.reset()


def load(*paths: Path, hook_time_s: float = 10.0) -> None:
    """Load plugins into this process, without a host."""
    loader.load((found for path in paths for found in at(path)), hook_time_s)


def only_error() -> PluginError:
    """The one error there is."""
    [error] = registry.errors
    return error


def test_every_broken_plugin_is_in_the_table() -> None:
    assert {path.stem for path in BROKEN.iterdir() if path.suffix == ".py"} == set(ENDS)


@pytest.mark.parametrize("name", [name for name, (stage, *_) in ENDS.items() if stage != "startup"])
def test_a_broken_plugin_ends_at_its_stage_and_the_rest_is_loaded(name: str) -> None:
    stage, code, message = ENDS[name]
    path = BROKEN / f"{name}.py"
    load(GOOD / "greeter.py", GOOD / "sharing.py", path, GOOD / "package", hook_time_s=2.0)
    error = only_error()
    assert (error.source, error.stage, error.code) == (str(path), stage, code)
    assert error.message.startswith(message)
    assert [manifest.id for manifest in registry.loaded] == ["greeter", "sharing", "package"]
    assert set(registry.agent_tools) == {"greet", "shout", "double"}
    assert registry.ws_channels == {}
    assert registry.dash_facades == {}


@pytest.mark.parametrize("name", [name for name, (stage, *_) in ENDS.items() if stage == "startup"])
def test_a_plugin_whose_startup_hook_fails_is_withdrawn_and_the_rest_serves(name: str) -> None:
    stage, code, message = ENDS[name]
    path = BROKEN / f"{name}.py"
    with running_host(GOOD / "greeter.py", path, GOOD / "web.py", limits={"hook_time_s": 2}) as host:
        error = only_error()
        assert (error.source, error.stage, error.code) == (str(path), stage, code)
        assert error.message.startswith(message)
        assert [manifest.id for manifest in registry.loaded] == ["greeter", "web"]
        assert host.http.get("/api/plugins/web").json() == "root"
        assert not any(path.stem in module for module in sys.modules)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_is_no_python_is_a_failure_of_reading(name: str, tmp_path: Path) -> None:
    content, message = WRITTEN[name]
    path = tmp_path / f"{name}.py"
    path.write_bytes(content)
    load(path, GOOD / "greeter.py")
    error = only_error()
    assert (error.stage, error.code) == ("read", "malformed")
    assert error.message.startswith(message)
    assert [manifest.id for manifest in registry.loaded] == ["greeter"]


def test_an_error_unpacks_as_source_and_message_and_shows_its_cure_in_one_line() -> None:
    load(BROKEN / "missing_import.py")
    [(source, message)] = registry.errors
    assert source == str(BROKEN / "missing_import.py")
    assert message == "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    assert "\n" not in str(only_error())
    assert "install what it needs" in str(only_error())


@pytest.mark.parametrize("name", [name for name, (stage, *_) in ENDS.items() if stage != "startup"])
def test_every_error_says_what_to_do(name: str) -> None:
    load(GOOD / "greeter.py", GOOD / "sharing.py", BROKEN / f"{name}.py", hook_time_s=2.0)
    error = only_error()
    assert error.cure or CURE.search(error.message)


def test_a_traceback_begins_with_the_plugins_own_line() -> None:
    load(BROKEN / "setup_raises_half_way.py")
    trace = only_error().traceback
    assert trace is not None
    lines = trace.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'File "{BROKEN / "setup_raises_half_way.py"}"' in lines[1]
    assert lines[-1] == "ValueError: half way"


def test_a_failed_module_leaves_nothing_in_the_list_of_modules() -> None:
    before = set(sys.modules)
    load(BROKEN / "raises_on_import.py", BROKEN / "setup_raises_half_way.py", BROKEN / "bad_id.py")
    assert {name for name in set(sys.modules) - before if name.startswith("plugbay_plugin_")} == set()


def test_what_failed_is_tried_again_and_what_is_loaded_is_not(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text("raise RuntimeError('not yet')")
    load(GOOD / "greeter.py", path)
    path.write_text((GOOD / "sharing.py").read_text())
    load(GOOD / "greeter.py", path)
    assert [manifest.id for manifest in registry.loaded] == ["greeter", "sharing"]
    assert only_error().message == "RuntimeError: not yet"


def test_a_setup_that_was_given_up_can_add_nothing_more(tmp_path: Path) -> None:
    module = ModuleType("late")
    source = """
import threading
from plugbay import BackendPlugin, ClosedError, PluginManifest

go_on, ended, raised = threading.Event(), threading.Event(), []

class PLUGIN(BackendPlugin):
    manifest = PluginManifest(id="late", name="Late")

    def setup(self, host):
        go_on.wait()
        try:
            host.add_ws_channel("late", lambda conn, message: None)
        except ClosedError as error:
            raised.append(error)
        ended.set()
"""
    exec(source, module.__dict__)
    loader.load([loader.Given("late", module)], 0.2)
    assert only_error().code == "timeout"
    module.go_on.set()
    assert module.ended.wait(10)
    assert len(module.raised) == 1
    assert registry.ws_channels == {}


def test_a_plugin_of_one_file_offers_routes_tools_channels_facades_and_hooks() -> None:
    with running_host(GOOD / "one_file.py") as host:
        assert registry.errors == []
        assert host.http.get("/api/plugins/ping").json() == {"pong": True}
        answer = host.http.post("/api/host/tools/ping.echo", json={"text": "hi"})
        assert answer.json() == {"result": {"echo": "hi"}}
        assert host.dash.ping.ping() == "pong"
        with host.websocket() as socket:
            socket.recv()
            socket.send('{"channel": "ping", "event": "any", "data": 1, "ref": 7}')
            frame = json.loads(socket.recv(timeout=10))
        assert (frame["event"], frame["ref"], frame["data"]) == ("reply", 7, {"pong": 1})


LEAKY = '''
"""One function of each kind of contribution, a router and a class, each of which must die with the plugin."""

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette

from plugbay import AgentTool, BackendPlugin, PluginManifest


class Model(BaseModel):
    name: str
    inner: "list[Model] | None" = None


class Facade:
    pass


def dependency() -> int:
    return 1


def route(model: Model, number: int = Depends(dependency)) -> Model:
    return model


async def async_route(q: str = "") -> list[Model]:
    return []


def typed(model: Model) -> str:
    return model.name


def tool(args):
    return args


async def channel(conn, message):
    return message


def startup():
    pass


async def shutdown():
    pass


def resource():
    return "text"


def prompt(name):
    return name


router = APIRouter()
router.post("/model", response_model=Model)(route)
router.get("/models")(async_route)
app = Starlette()
whole = FastAPI()
whole.post("/model")(route)


class Leaky(BackendPlugin):
    manifest = PluginManifest(id="leaky", name="Leaky")

    def setup(self, host):
        self.host = host
        host.add_router(router)
        host.add_router(app, prefix="leaky-app")
        host.add_router(whole, prefix="leaky-whole")
        host.add_agent_tool(typed)
        host.add_agent_tool(AgentTool("leaky.tool", "", tool, {"name": {}}))
        host.add_ws_channel("leaky", channel)
        host.add_dash_facade("leaky", Facade)
        host.on_startup(startup)
        host.on_shutdown(shutdown)
        host.add_resource("leaky://text", resource, name="Text")
        host.add_prompt(prompt)
        self.itself = self


PLUGIN = Leaky()
'''

MORTALS = (
    "PLUGIN", "Leaky", "Model", "Facade", "dependency", "route", "async_route", "typed", "tool", "channel", "startup",
    "shutdown", "resource", "prompt", "router", "app", "whole",
)  # fmt: skip


def watched() -> dict[str, weakref.ref[object]]:
    """Weak references to what the leaky plugin is made of."""
    [module] = [module for name, module in sys.modules.items() if name.startswith("plugbay_plugin_leaky")]
    return {name: weakref.ref(getattr(module, name)) for name in MORTALS}


def survivors(watched: dict[str, weakref.ref[object]]) -> list[str]:
    """What is still there after a collection."""
    gc.collect()
    return [name for name, reference in watched.items() if reference() is not None]


def test_a_plugin_that_is_taken_out_leaves_no_object_behind(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    load(tmp_path / "leaky.py")
    references = watched()
    assert sorted(survivors(references)) == sorted(MORTALS)
    registry.reset()
    assert survivors(references) == []


def test_a_plugin_that_has_served_leaves_no_object_behind(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    with running_host(tmp_path / "leaky.py") as host:
        references = watched()
        assert host.http.post("/api/plugins/leaky/model", json={"name": "a"}).json() == {"name": "a", "inner": None}
        assert host.http.get("/api/plugins/leaky/models").json() == []
        assert host.http.post("/api/leaky-whole/model", json={"name": "a"}).status_code == 200
        assert host.http.get("/api/leaky-app").status_code == 404
        assert host.http.get("/openapi.json").status_code == 200
        assert host.dash.tools.typed(model={"name": "a"}) == "a"
        assert host.dash.tools.leaky.tool(name=1) == {"name": 1}
        with host.websocket() as socket:
            socket.recv()
            socket.send('{"channel": "leaky", "ref": 1}')
            socket.recv()
        assert host.dash.leaky is not None
        registry.reset()
        assert "leaky" not in dir(host.dash)
    assert survivors(references) == []


def test_a_plugin_that_failed_in_setup_leaves_no_object_behind(tmp_path: Path) -> None:
    failing = LEAKY.replace("self.itself = self", "import sys; sys.watched = None; raise ValueError('late')")
    failing = failing.replace(
        "PLUGIN = Leaky()", "PLUGIN = Leaky()\nimport weakref, builtins\nbuiltins.leaky = weakref.ref(PLUGIN)"
    )
    (tmp_path / "leaky.py").write_text(failing)
    load(tmp_path / "leaky.py")
    assert only_error().message == "ValueError: late"
    import builtins

    gc.collect()
    assert builtins.leaky() is None
    del builtins.leaky


def test_a_loader_thread_that_was_given_up_is_counted_until_it_comes_back() -> None:
    leave = threading.Event()
    inside: list[threading.Thread] = []

    class Waits(BackendPlugin):
        manifest = PluginManifest(id="waits", name="Waits")

        def setup(self, host: PluginHost) -> None:
            inside.append(threading.current_thread())
            leave.wait()

    with running_host(Waits, limits={"hook_time_s": 0.2}) as host:
        stuck = [host.http.get("/api/host/status").json()["engines"]["python"]["loader"]["stuck"]]
        leave.set()
        inside[0].join()
        stuck.append(host.http.get("/api/host/status").json()["engines"]["python"]["loader"]["stuck"])
    assert stuck[0] - stuck[1] == 1
