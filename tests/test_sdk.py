"""What a plugin's author writes against: the manifest, the host given to ``setup``, the registry."""

import asyncio
import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from plugbay import (
    AgentTool,
    BackendPlugin,
    ClosedError,
    ConflictError,
    InvalidError,
    PlugbayError,
    PluginHost,
    PluginManifest,
    ToolContext,
    load_plugins,
    loader,
    registry,
)
from plugbay.errors import DeniedError, of_code
from plugbay.testing import running_host

Setup = Callable[[PluginHost], object]


def nothing(args: dict[str, Any]) -> None:
    """A handler that does nothing."""


def plugin(setup: Setup, id: str = "test") -> BackendPlugin:
    """A plugin with this ``setup``."""

    class Plugin(BackendPlugin):
        manifest = PluginManifest(id=id, name="Test")

        def setup(self, host: PluginHost) -> None:
            setup(host)

    return Plugin()


def load(setup: Setup, id: str = "test") -> None:
    """Load a plugin with this ``setup`` into this process."""
    loader.load([loader.Given(f"test of {id}", plugin(setup, id))])


def raised_by(setup: Setup) -> PlugbayError:
    """What one call raises in ``setup``."""
    caught: list[PlugbayError] = []

    def catching(host: PluginHost) -> None:
        with pytest.raises(PlugbayError) as error:
            setup(host)
        caught.append(error.value)

    load(catching)
    assert registry.errors == []
    return caught[0]


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """Nothing is left of a test."""
    yield
    registry.reset()


def invoke(name: str, args: Any = None) -> Any:
    """Run a tool on a loop of its own, with no host running."""
    return asyncio.run(registry.invoke_agent_tool(name, args))


def test_a_manifest_is_frozen_and_has_defaults() -> None:
    manifest = PluginManifest("an-id", "A name")
    assert (manifest.version, manifest.description, manifest.host_api) == ("0.0.0", "", ">=1,<2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.id = "other"


def test_the_registry_lists_what_is_loaded() -> None:
    manifest = PluginManifest(id="test", name="Test")
    load(lambda host: host.add_dash_facade("test", dict))
    assert registry.loaded == [manifest]
    assert registry.dash_facades == {"test": dict}
    load_plugins()
    assert registry.loaded == [manifest]


def test_setup_is_given_its_manifest_and_a_logger_of_its_own() -> None:
    hosts: list[PluginHost] = []
    load(hosts.append)
    assert hosts[0].manifest == PluginManifest(id="test", name="Test")
    assert hosts[0].log is logging.getLogger("plugin.test")


CLOSED: dict[str, Setup] = {
    "add_router": lambda host: host.add_router(APIRouter()),
    "add_agent_tool": lambda host: host.add_agent_tool(AgentTool("a", "", nothing)),
    "add_ws_channel": lambda host: host.add_ws_channel("a", lambda conn, message: None),
    "add_dash_facade": lambda host: host.add_dash_facade("a", dict),
    "add_assets": lambda host: host.add_assets("."),
    "add_resource": lambda host: host.add_resource("a://b", str, name="A"),
    "add_prompt": lambda host: host.add_prompt(str, name="a"),
    "on_startup": lambda host: host.on_startup(dict),
    "on_shutdown": lambda host: host.on_shutdown(dict),
}


def test_every_way_to_add_is_in_the_table_of_what_closes() -> None:
    assert set(CLOSED) == {name for name in vars(PluginHost) if name.startswith(("add_", "on_"))}


@pytest.mark.parametrize("name", CLOSED)
def test_after_setup_nothing_can_be_added(name: str) -> None:
    hosts: list[PluginHost] = []
    load(hosts.append)
    with pytest.raises(ClosedError, match=f"{name} of plugin test was called after setup had returned"):
        CLOSED[name](hosts[0])


def test_publish_and_log_stay_usable_after_setup() -> None:
    hosts: list[PluginHost] = []

    def setup(host: PluginHost) -> None:
        hosts.append(host)
        host.add_ws_channel("news", lambda conn, message: None)

    load(setup)
    hosts[0].publish("news/today", {"text": "hi"})
    hosts[0].log.info("still here")
    with pytest.raises(InvalidError, match="topic"):
        hosts[0].publish("other", None)
    with pytest.raises(PlugbayError, match="JSON"):
        hosts[0].publish("news", object())


def tool(**fields: Any) -> Setup:
    """A ``setup`` that offers a tool of these fields, good ones for the rest."""
    return lambda host: host.add_agent_tool(AgentTool(**{"name": "a", "description": "", "handler": nothing, **fields}))


def router(prefix: Any) -> Setup:
    """A ``setup`` that offers routes at a prefix."""
    return lambda host: host.add_router(APIRouter(), prefix=prefix)


REFUSED: dict[str, tuple[Setup, str]] = {
    "a router that is a class": (lambda host: host.add_router(APIRouter), "not APIRouter"),
    "an app of too few arguments": (lambda host: host.add_router(lambda scope: None), "any ASGI 3 app"),
    "an empty prefix": (router(""), "prefix ''"),
    "the host's prefix": (router("host/a"), '"host"'),
    "a prefix with dots": (router("a/../b"), "not valid"),
    "a prefix that is no text": (router(3), "not a text"),
    "a tool without a handler": (tool(handler=None), "the handler of tool 'a'"),
    "a handler of no argument": (tool(handler=lambda: 1), "(args) or (args, ctx)"),
    "a handler of three": (tool(handler=lambda a, b, c: 1), "(args) or (args, ctx)"),
    "no tool at all": (lambda host: host.add_agent_tool("tool"), "expected a function"),
    "a list of parameters": (tool(parameters=["x"]), "map names to schemas"),
    "required of no parameter": (tool(required=["x"]), "required of tool 'a'"),
    "no time at all": (tool(timeout_s=0), "timeout_s of tool 'a'"),
    "a bad output schema": (tool(output_schema={"type": 3}), "output_schema of tool a"),
    "a description that is none": (tool(description=None), "are texts"),
    "a channel of one argument": (lambda host: host.add_ws_channel("a", lambda conn: None), "(conn, message)"),
    "a factory with an argument": (lambda host: host.add_dash_facade("a", lambda dash: dash), "no arguments"),
    "a hook with an argument": (lambda host: host.on_startup(lambda host: None), "no arguments"),
    "a hook that is none": (lambda host: host.on_shutdown(3), "a shutdown hook is an object of type int"),
    "assets that are a file": (lambda host: host.add_assets(__file__), "no folder"),
    "a resource without a function": (lambda host: host.add_resource("a://b", 3, name="A"), "resource 'a://b'"),
    "a prompt without a name": (lambda host: host.add_prompt(lambda: ""), "no name for a prompt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_valid_is_refused_at_once_with_the_cure(name: str) -> None:
    setup, message = REFUSED[name]
    error = raised_by(setup)
    assert isinstance(error, InvalidError)
    assert message in error.message


def test_a_second_app_at_one_prefix_is_a_conflict() -> None:
    def setup(host: PluginHost) -> None:
        host.add_router(Starlette())
        host.add_router(APIRouter())

    assert isinstance(raised_by(setup), ConflictError)


def test_several_routers_at_one_prefix_answer_together() -> None:
    one, two = APIRouter(), APIRouter()
    one.get("/one")(lambda: 1)
    two.get("/two")(lambda: 2)

    def setup(host: PluginHost) -> None:
        for router in (one, two):
            host.add_router(router, prefix="/numbers/")

    with running_host(plugin(setup)) as host:
        assert [host.http.get(f"/api/numbers/{name}").json() for name in ("one", "two", "three")] == [
            1,
            2,
            {"detail": "Not Found"},
        ]


def test_routes_that_are_added_to_a_router_later_in_setup_are_served() -> None:
    def setup(host: PluginHost) -> None:
        router = APIRouter()
        host.add_router(router)
        router.get("/late")(lambda: "late")

    with running_host(plugin(setup)) as host:
        assert host.http.get("/api/plugins/test/late").json() == "late"


def test_an_application_finds_its_mount_in_root_path_and_its_documents_below_it() -> None:
    app = FastAPI(title="Whole")

    @app.get("/items/{id}")
    def item(id: int) -> int:
        return id

    with running_host(plugin(lambda host: host.add_router(app, prefix="shop"))) as host:
        assert host.http.get("/api/shop/items/3").json() == 3
        assert list(host.http.get("/openapi.json").json()["paths"]) == ["/api/shop/items/{id}"]
        assert "/api/shop/openapi.json" in host.http.get("/api/shop/docs").text


def test_any_asgi_app_can_be_mounted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await PlainTextResponse(scope["root_path"])(scope, receive, send)

    with running_host(plugin(lambda host: host.add_router(app))) as host:
        assert host.http.get("/api/plugins/test/anything").text == "/api/plugins/test"


def test_the_lifespan_of_a_router_and_of_an_app_run_and_share_their_state() -> None:
    said: list[str] = []

    def lifespan(name: str) -> Any:
        import contextlib

        @contextlib.asynccontextmanager
        async def run(app: Any) -> Any:
            said.append(f"{name} starts")
            yield {"name": name}
            said.append(f"{name} stops")

        return run

    router = APIRouter(lifespan=lifespan("router"))

    @router.get("")
    async def read(request: Request) -> str:
        return str(request.state.name)

    app = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse(request.state.name))], lifespan=lifespan("app")
    )

    def setup(host: PluginHost) -> None:
        host.on_startup(lambda: said.append("hook starts"))
        host.add_router(router)
        host.add_router(app, prefix="app")

    with running_host(plugin(setup)) as host:
        assert said == ["hook starts", "router starts", "app starts"]
        assert host.http.get("/api/plugins/test").json() == "router"
        assert host.http.get("/api/app/").text == "app"
    assert said[3:] == ["app stops", "router stops"]


def test_a_lifespan_that_fails_withdraws_its_plugin_in_the_apps_own_words() -> None:
    import contextlib

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> Any:
        raise LookupError("no database")
        yield

    with running_host(plugin(lambda host: host.add_router(Starlette(lifespan=lifespan)))):
        [error] = registry.errors
        assert (error.stage, error.code) == ("startup", "plugin")
        assert error.message == "HandlerError: the app failed to start: LookupError: no database"
        assert registry.loaded == []


def test_handlers_are_called_with_a_context_when_they_have_a_second_parameter() -> None:
    def with_context(args: dict[str, Any], ctx: ToolContext) -> str:
        ctx.progress(0.5, "half")
        ctx.log.debug("running")
        return f"{ctx.principal.name} {ctx.cancelled}"

    async def async_with_context(args: dict[str, Any], ctx: ToolContext) -> str:
        await ctx.progress(1)
        return ctx.principal.name

    class Callable_:
        def __call__(self, args: dict[str, Any], ctx: ToolContext) -> int:
            return len(args)

        async def method(self, args: dict[str, Any]) -> int:
            return -len(args)

    handlers: dict[str, Callable[..., Any]] = {
        "plain": lambda args: args,
        "with_context": with_context,
        "async_with_context": async_with_context,
        "object": Callable_(),
        "method": Callable_().method,
        "partial": functools.partial(lambda greeting, args: greeting, "hi"),
    }

    def setup(host: PluginHost) -> None:
        for name, handler in handlers.items():
            host.add_agent_tool(AgentTool(name, "", handler, {"a": {}}))

    load(setup)
    assert {name: invoke(name, {"a": 1}) for name in handlers} == {
        "plain": {"a": 1},
        "with_context": "owner False",
        "async_with_context": "owner",
        "object": 1,
        "method": -1,
        "partial": "hi",
    }


def test_a_tool_call_never_raises() -> None:
    def fail(args: dict[str, Any]) -> None:
        raise RuntimeError("no luck")

    def refuse(args: dict[str, Any]) -> None:
        raise DeniedError("not today")

    def setup(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("fail", "", fail))
        host.add_agent_tool(AgentTool("refuse", "", refuse))
        host.add_agent_tool(AgentTool("number", "", lambda args: args["n"], {"n": {"type": "integer"}}, ["n"]))
        host.add_agent_tool(AgentTool("effect", "", nothing, side_effect=True))
        host.add_agent_tool(AgentTool("error", "", lambda args: {"error": "a result"}))
        host.add_agent_tool(AgentTool("opaque", "", lambda args: object()))
        host.add_agent_tool(AgentTool("lies", "", lambda args: "text", output_schema={"type": "number"}))

    load(setup)
    codes = {
        ("fail", None): "plugin",
        ("refuse", None): "denied",
        ("number", '{"n": "one"}'): "invalid",
        ("effect", None): "denied",
        ("opaque", None): "plugin",
        ("lies", None): "plugin",
        ("nowhere", None): "not_found",
        ("not a name", None): "not_found",
    }
    for (name, args), code in codes.items():
        answer = invoke(name, args and json.loads(args))
        assert answer["code"] == code, (name, answer)
        assert answer["error"]
    assert invoke("number", {"n": 1}) == 1
    assert invoke("number", {"n": 1, "unnamed": 2}) == 1
    assert invoke("number", {"n": {1}})["code"] == "invalid"
    assert invoke("number", [1])["code"] == "invalid"
    assert invoke(3)["code"]
    assert invoke("error") == {"error": "a result"}


def test_arguments_that_only_pydantic_refuses_are_invalid() -> None:
    from pydantic import BaseModel, field_validator

    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def is_even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("not even")
            return number

    def halve(even: Even) -> int:
        return even.number // 2

    halve.__annotations__["even"] = Even
    load(lambda host: host.add_agent_tool(halve))
    assert invoke("halve", {"even": {"number": 4}}) == 2
    answer = invoke("halve", {"even": {"number": 3}})
    assert answer["code"] == "invalid"
    assert "even.number: Value error, not even" in answer["error"]


def test_a_typed_function_refuses_arguments_that_no_parameter_names() -> None:
    load(lambda host: host.add_agent_tool(AgentTool.from_function(lambda a: a, name="typed")))
    assert invoke("typed", {"a": 1}) == 1
    assert invoke("typed", {"a": 1, "b": 2})["code"] == "invalid"


def test_a_script_that_calls_tools_without_a_host_ends_well() -> None:
    import subprocess
    import sys

    script = """
import asyncio
from plugbay import AgentTool, BackendPlugin, PluginManifest, loader, registry

class Plugin(BackendPlugin):
    manifest = PluginManifest(id="test", name="Test")

    def setup(self, host):
        host.add_agent_tool(AgentTool("plain", "", lambda args: 1))
        host.add_agent_tool(AgentTool("async", "", self.handler))

    async def handler(self, args):
        return 2

loader.load([loader.Given("test", Plugin())])
print([asyncio.run(registry.invoke_agent_tool(name)) for name in ("plain", "async")])
"""
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


def test_models_and_dates_are_results() -> None:
    import datetime

    from pydantic import BaseModel

    class Point(BaseModel):
        x: int

    load(lambda host: host.add_agent_tool(AgentTool("point", "", lambda args: [Point(x=1), datetime.date(2020, 1, 2)])))
    assert invoke("point") == [{"x": 1}, "2020-01-02"]


def test_the_registry_gives_the_tools_in_the_words_of_providers() -> None:
    def setup(host: PluginHost) -> None:
        schema = {"q": {"type": "string"}}
        for name in ("a.b", "a__b", "z"):
            host.add_agent_tool(AgentTool(name, f"Tool {name}.", nothing, schema, ["q"], side_effect=name == "z"))

    load(setup)
    openai = registry.provider_tools()
    assert [tool["function"]["name"] for tool in openai] == ["a__b_2", "a__b", "z"]
    assert openai[0]["type"] == "function"
    assert openai[0]["function"]["parameters"] == registry.agent_tools["a.b"].parameters
    assert registry.tool_name("a__b_2") == "a.b"
    with pytest.raises(PlugbayError, match="no tool has the provider name"):
        registry.tool_name("nowhere")
    anthropic = registry.provider_tools(format="anthropic")
    assert set(anthropic[0]) == {"name", "description", "input_schema"}
    mcp = registry.provider_tools(format="mcp")
    assert [tool["annotations"]["readOnlyHint"] for tool in mcp] == [True, True, False]
    with pytest.raises(InvalidError):
        registry.provider_tools(format="other")


def test_every_code_has_an_exception_and_every_exception_its_code() -> None:
    for code in ("malformed", "invalid", "denied", "not_found", "conflict", "busy", "timeout", "plugin", "internal"):
        error = of_code(code, "words")
        assert (error.code, error.message, str(error)) == (code, "words", "words")
        assert type(error) is not PlugbayError
    assert isinstance(of_code("closed", "words"), ClosedError)
    assert of_code("closed", "words").code == "conflict"
    assert of_code("upstream", "words").code == "upstream"


def test_importing_the_package_starts_nothing_and_imports_no_framework() -> None:
    import subprocess
    import sys

    script = """
import sys, threading
import plugbay
heavy = {"fastapi", "starlette", "pydantic", "httpx", "uvloop", "click"} & set(sys.modules)
print(len(threading.enumerate()), sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n"
