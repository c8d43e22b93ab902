"""Tools: how a call is checked, runs, ends and is cancelled, with handlers in Python."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import threading
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field
from raw import WAIT_S, Socket

from plugbay import AgentTool, BackendPlugin, InvalidError, PluginHost, PluginManifest, ToolContext, load_plugins
from plugbay.testing import RunningHost, running_host


class Heard:
    """What handlers tell the test."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.entered = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.gate = threading.Event()
        self.contexts: list[ToolContext] = []


heard = Heard()


class Size(enum.Enum):
    """A size."""

    SMALL = "small"
    LARGE = "large"


class Point(BaseModel):
    """A point."""

    x: int
    y: int = 0


@dataclasses.dataclass
class Answer:
    """What a typed tool returns."""

    sum: int
    size: Size


def typed(points: list[Point], size: Size = Size.SMALL, *, label: Annotated[str, Field(max_length=3)] | None = None,
          way: Literal["up", "down"] = "up") -> Answer:  # fmt: skip
    """Add points.

    Args:
        points: What is added.
        label: A short word.
    """
    heard.calls.append((points, size, label, way))
    return Answer(sum=sum(point.x + point.y for point in points), size=size)


async def speaking(ctx: ToolContext, steps: int = 2) -> dict[str, Any]:
    """Tell progress."""
    for step in range(steps):
        await ctx.progress((step + 1) / steps, f"step {step + 1}")
    return {"name": ctx.principal.name, "scopes": list(ctx.principal.scopes), "cancelled": ctx.cancelled}


def plain_speaking(args: Mapping[str, Any], ctx: ToolContext) -> dict[str, Any]:
    """Tell progress from a thread."""
    ctx.progress(-1)
    ctx.progress(7, "too much")
    ctx.progress(float("nan"), "nothing")
    return {"name": ctx.principal.name, "logger": ctx.log.name}


async def endless(args: Mapping[str, Any], ctx: ToolContext) -> None:
    """Never return; tell when it is cancelled."""
    heard.contexts.append(ctx)
    heard.entered.release()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        heard.calls.append("cancelled")
        raise
    finally:
        heard.ended.release()


def plain_endless(args: Mapping[str, Any], ctx: ToolContext) -> None:
    """Look now and then whether anybody waits for the result."""
    heard.contexts.append(ctx)
    heard.entered.release()
    while not ctx.cancelled and not heard.gate.wait(0.01):
        pass
    heard.calls.append("left" if ctx.cancelled else "gate")
    heard.ended.release()


def noted(args: Mapping[str, Any]) -> str:
    """Note that Python ran."""
    heard.calls.append(dict(args))
    return "ran"


def promised(args: Mapping[str, Any]) -> Any:
    """Return what was given."""
    return args["value"]


NUMBERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SCHEMAS: dict[str, Any] = {
    "text": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
    "many": {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
    "either": {"oneOf": [{"const": 1}, {"type": "boolean"}]},
    "link": {"$ref": "#/properties/text"},
    "nested": {"type": "object", "dependentRequired": {"a": ["b"]}, "unevaluatedProperties": False,
               "properties": {"a": {}, "b": {}}},
}  # fmt: skip


class Tools(BackendPlugin):
    manifest = PluginManifest("kit", "Kit")

    def setup(self, host: PluginHost) -> None:
        host.add_agent_tool(typed)
        host.add_agent_tool(AgentTool.from_function(speaking, name="kit.speaking", group="talk"))
        host.add_agent_tool(AgentTool("kit.plain-speaking", "Tell.", plain_speaking))
        host.add_agent_tool(AgentTool("kit.endless", "Wait.", endless))
        host.add_agent_tool(AgentTool("kit.plain_endless", "Wait.", plain_endless))
        host.add_agent_tool(AgentTool("kit.brief", "Wait a little.", endless, timeout_s=0.05))
        host.add_agent_tool(AgentTool("kit.plain_brief", "Wait a little.", plain_endless, timeout_s=0.05))
        host.add_agent_tool(AgentTool("kit.checked", "Note.", noted, SCHEMAS, ["text"]))
        host.add_agent_tool(AgentTool("kit.write", "Change.", noted, side_effect=True, specifier_template="{path}",
                                      parameters={"path": {"type": "string"}}))  # fmt: skip
        host.add_agent_tool(AgentTool("kit.promised", "Promise.", promised, {"value": {}}, ["value"], NUMBERS))


@pytest.fixture
def host() -> Iterator[RunningHost]:
    heard.__init__()  # type: ignore[misc]
    with running_host(Tools, log_level="off") as host:
        assert host.registry.errors == []
        yield host
        heard.gate.set()


def call(host: RunningHost, name: str, /, **arguments: Any) -> httpx.Response:
    return host.http.post(f"/api/host/tools/{name}", json=arguments)


def test_a_typed_function_gets_its_own_types_and_its_result_is_plain_json(host: RunningHost) -> None:
    tool = host.registry.agent_tools["typed"]
    assert tool.description.startswith("Add points.")
    assert tool.parameters["required"] == ["points"]
    assert tool.parameters["additionalProperties"] is False
    assert tool.parameters["properties"]["points"]["description"] == "What is added."
    answer = call(host, "typed", points=[{"x": 1, "y": 2}, {"x": 3}], size="large", label="abc", way="down")
    assert answer.json() == {"result": {"sum": 6, "size": "large"}}
    assert heard.calls == [([Point(x=1, y=2), Point(x=3)], Size.LARGE, "abc", "down")]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({}, "points"),
        ({"points": [{"x": "one"}]}, "x"),
        ({"points": [], "size": "middle"}, "size"),
        ({"points": [], "label": "four"}, "label"),
        ({"points": [], "way": "left"}, "way"),
        ({"points": [], "more": 1}, "more"),
    ],
)
def test_arguments_that_do_not_fit_a_signature_never_reach_python(
    host: RunningHost, arguments: dict[str, Any], where: str
) -> None:
    answer = call(host, "typed", **arguments)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert where in answer.json()["detail"]
    assert heard.calls == []


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"text": "ab"}, True),
        ({"text": "a"}, False),
        ({"text": "A1"}, False),
        ({"text": 1}, False),
        ({"text": "ab", "many": [1]}, True),
        ({"text": "ab", "many": [1, 2]}, False),
        ({"text": "ab", "either": 1}, True),
        ({"text": "ab", "either": 2}, False),
        ({"text": "ab", "link": "cd"}, True),
        ({"text": "ab", "link": "c"}, False),
        ({"text": "ab", "nested": {"a": 1, "b": 2}}, True),
        ({"text": "ab", "nested": {"a": 1}}, False),
        ({"text": "ab", "nested": {"c": 1}}, False),
        ({"text": "ab", "unknown": None}, True),
    ],
)
def test_a_schema_of_2020_12_decides_before_any_python_runs(
    host: RunningHost, arguments: dict[str, Any], fits: bool
) -> None:
    answer = call(host, "kit.checked", **arguments)
    assert answer.status_code == (200 if fits else 422), answer.text
    assert heard.calls == ([arguments] if fits else [])


def test_a_result_that_breaks_its_promise_is_the_plugins_failure(host: RunningHost) -> None:
    assert call(host, "kit.promised", value={"n": 1}).json() == {"result": {"n": 1}}
    for value in ({"n": "1"}, {}, None, [1]):
        answer = call(host, "kit.promised", value=value)
        assert (answer.status_code, answer.json()["code"], answer.json()["plugin"]) == (500, "plugin", "kit"), value


def test_a_call_that_takes_too_long_is_a_timeout_and_its_handler_is_told(host: RunningHost) -> None:
    answer = call(host, "kit.brief")
    assert (answer.status_code, answer.json()["code"], answer.json()["plugin"]) == (504, "timeout", "kit")
    assert heard.ended.acquire(timeout=WAIT_S)
    answer = call(host, "kit.plain_brief")
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert heard.ended.acquire(timeout=WAIT_S)
    assert heard.calls == ["cancelled", "left"]
    assert [context.cancelled for context in heard.contexts] == [True, True]


@pytest.mark.parametrize("name", ["kit.endless", "kit.plain_endless"])
def test_a_client_that_goes_away_cancels_its_call(host: RunningHost, name: str) -> None:
    with Socket(host.url, host.token) as socket:
        socket.send_json({"channel": "tools", "event": "call", "ref": 1, "data": {"tool": name}})
        assert heard.entered.acquire(timeout=WAIT_S)
        assert not heard.contexts[0].cancelled
    assert heard.ended.acquire(timeout=WAIT_S)
    assert heard.calls in (["cancelled"], ["left"])
    with pytest.raises(httpx.ReadTimeout):
        host.http.post(f"/api/host/tools/{name}", timeout=httpx.Timeout(5, read=0.05))
    assert heard.entered.acquire(timeout=WAIT_S)
    assert heard.ended.acquire(timeout=WAIT_S)
    assert len(heard.calls) == 2


@pytest.mark.parametrize("name", ["kit.endless", "kit.plain_endless"])
def test_a_call_over_the_socket_is_cancelled_by_its_ref(host: RunningHost, name: str) -> None:
    with Socket(host.url, host.token) as socket:
        socket.receive()
        socket.send_json({"channel": "tools", "event": "call", "ref": "a", "data": {"tool": name, "arguments": {}}})
        assert heard.entered.acquire(timeout=WAIT_S)
        socket.send_json({"channel": "tools", "event": "cancel", "ref": "a"})
        answer = socket.receive_json()
        assert (answer["event"], answer["ref"], answer["data"]["code"]) == ("error", "a", "cancelled")
        assert heard.ended.acquire(timeout=WAIT_S)


def test_a_misspelt_field_over_the_socket_runs_nothing(host: RunningHost) -> None:
    with Socket(host.url, host.token) as socket:
        socket.receive()
        data = {"tool": "kit.endless", "args": {"text": "a"}}
        socket.send_json({"channel": "tools", "event": "call", "ref": "a", "data": data})
        answer = socket.receive_json()
        assert (answer["event"], answer["ref"], answer["data"]["code"]) == ("error", "a", "invalid")
        assert "args" in answer["data"]["message"]
    assert heard.calls == []


async def cancel_when_it_runs(host: RunningHost, name: str) -> None:
    """Call a tool in Python, and give the call up once it runs."""
    task = asyncio.create_task(host.registry.invoke_agent_tool(name, {}))
    assert await asyncio.to_thread(heard.entered.acquire, timeout=WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(heard.ended.acquire, timeout=WAIT_S)


@pytest.mark.parametrize("name", ["kit.endless", "kit.plain_endless"])
def test_a_python_caller_that_is_cancelled_cancels_its_call(host: RunningHost, name: str) -> None:
    asyncio.run(cancel_when_it_runs(host, name))
    assert heard.calls in (["cancelled"], ["left"])


def test_progress_comes_before_the_result_and_tells_who_asks(host: RunningHost) -> None:
    made = host.http.post("/api/host/tokens", json={"name": "agent", "scopes": ["call"]}).json()
    with Socket(host.url, made["token"]) as socket:
        socket.receive()
        wish = {"tool": "kit.speaking", "arguments": {"steps": 3}}
        socket.send_json({"channel": "tools", "event": "call", "ref": 5, "data": wish})
        frames = [socket.receive_json() for _ in range(4)]
        assert [frame["event"] for frame in frames] == ["progress"] * 3 + ["result"]
        assert [frame["data"]["message"] for frame in frames[:3]] == ["step 1", "step 2", "step 3"]
        assert frames[2]["data"]["fraction"] == 1.0
        assert {frame["ref"] for frame in frames} == {5}
        assert frames[3]["data"]["result"] == {"name": "agent", "scopes": ["call"], "cancelled": False}
        socket.send_json({"channel": "tools", "event": "call", "ref": 6, "data": {"tool": "kit.plain-speaking"}})
        frames = [socket.receive_json() for _ in range(3)]
        assert [frame["data"].get("fraction") for frame in frames] == [0.0, 1.0, None]
        assert frames[2]["data"]["result"] == {"name": "agent", "logger": "plugin.kit"}


@pytest.mark.parametrize(("mode", "status"), [("default", 202), ("plan", 403), ("autonomous", 200)])
def test_a_side_effect_is_asked_for_denied_or_allowed_by_the_mode(mode: str, status: int) -> None:
    heard.__init__()  # type: ignore[misc]
    with running_host(Tools, mode=mode, log_level="off") as host:
        answer = host.http.post("/api/host/tools/kit.write", json={"path": "x"}, headers={"Prefer": "respond-async"})
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "denied"
            assert mode in answer.json()["detail"]
        if status == 202:
            assert answer.json()["approval"]["specifier"] == "x"
        assert len(heard.calls) == (status == 200)
        assert call(host, "kit.write", path=1).status_code == 422
        assert call(host, "kit.checked", text="ab").status_code == 200
        listed = {tool["name"]: tool for tool in host.http.get("/api/host/tools").json()["tools"]}
        assert listed["kit.write"]["side_effect"] is True
        assert listed["kit.write"]["specifier_template"] == "{path}"


def test_the_tools_speak_the_formats_of_the_providers(host: RunningHost) -> None:
    tools = host.registry.agent_tools
    names = {name.replace(".", "__"): name for name in tools}
    for format in ("openai", "anthropic", "mcp"):
        offered = host.registry.provider_tools(format)
        found = {}
        for tool in offered:
            inner = tool["function"] if format == "openai" else tool
            schema = {"openai": "parameters", "anthropic": "input_schema", "mcp": "inputSchema"}[format]
            found[inner["name"]] = inner[schema]
            assert inner["description"] == tools[host.registry.tool_name(inner["name"])].description
        assert found == {given: tools[name].parameters for given, name in names.items()}
        assert list(found) == sorted(found)
        answer = host.http.get("/api/host/tools", params={"format": format}).json()
        assert answer["tools"] == offered
        assert answer["names"] == names
    with pytest.raises(InvalidError, match="openai"):
        host.registry.provider_tools("other")  # type: ignore[arg-type]


def test_invoke_agent_tool_never_raises_and_needs_no_host(tmp_path: Any) -> None:
    (tmp_path / "alone.py").write_text(
        "from plugbay import AgentTool, BackendPlugin, PluginManifest\n"
        "async def double(args):\n    return args['n'] * 2\n"
        "def plain(args):\n    return args['n'] * 3\n"
        "def bad(args):\n    raise SystemExit(3)\n"
        "class P(BackendPlugin):\n"
        "    manifest = PluginManifest('alone', 'Alone')\n"
        "    def setup(self, host):\n"
        "        for fn in (double, plain, bad):\n"
        "            host.add_agent_tool(AgentTool(fn.__name__, '', fn, {'n': {'type': 'integer'}}))\n"
        "        host.add_agent_tool(AgentTool('write', '', plain, side_effect=True))\n"
        "PLUGIN = P()\n"
    )
    registry = load_plugins(extra_dirs=[tmp_path])
    odd: list[tuple[Any, Any]] = [
        ("nobody", {}), ("", {}), ("no name!", {}), ("double", {"n": "x"}), ("double", {"m": 1}),
        ("double", {"n": {1}}), ("double", {"n": float("nan")}), ("bad", {"n": 1}), ("double", {}), ("write", {}),
        ("double", [1]), ("double", "n"), (None, {}), (1, {}), ("double", {1: 2}), ("d\ud800", {}),
    ]  # fmt: skip

    async def ask() -> list[Any]:
        assert await registry.invoke_agent_tool("double", {"n": 21}) == 42
        assert await registry.invoke_agent_tool("plain", {"n": 2}) == 6
        return [await registry.invoke_agent_tool(name, args) for name, args in odd]

    try:
        codes = [answer["code"] for answer in asyncio.run(ask())]
    finally:
        registry.reset()
    assert codes == [
        "not_found", "not_found", "not_found", "invalid", "plugin",
        "invalid", "invalid", "plugin", "plugin", "denied",
        "invalid", "invalid", "invalid", "invalid", "plugin", "not_found",
    ]  # fmt: skip
