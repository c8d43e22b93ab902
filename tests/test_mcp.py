"""`/mcp`, asked by clients that we did not write, in both eras."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import fastmcp
import httpx
import pytest
from fastmcp.client.transports import StreamableHttpTransport
from kit import PATIENCE_S, happened, made
from mcp.client.subscriptions import ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_clients import INITIALIZE, MODES, client, run
from recorded import latest, news

from plugbay import AgentTool, PluginHost, ToolContext, _core, loader
from plugbay.testing import RunningHost, running_host

SESSIONS_OF_A_CALLER = 8

began, cancelled = threading.Event(), threading.Event()


async def slow(args: dict[str, Any]) -> None:
    began.set()
    try:
        await anyio.sleep_forever()
    finally:
        cancelled.set()


async def nap(args: dict[str, Any]) -> None:
    await anyio.sleep(2)


def setup(host: PluginHost) -> None:
    def echo(text: str) -> dict[str, str]:
        """Say it again."""
        return {"text": text}

    async def count(to: int, ctx: ToolContext) -> list[int]:
        """Count, and say how far it is."""
        for number in range(to):
            await ctx.progress(number / to, f"at {number}")
        return list(range(to))

    def fail() -> None:
        """Fail."""
        raise RuntimeError("no good")

    host.add_agent_tool(echo)
    host.add_agent_tool(count)
    host.add_agent_tool(fail)
    host.add_agent_tool(AgentTool("write", "Change something.", lambda args: None, side_effect=True))
    host.add_agent_tool(AgentTool("slow", "Wait.", slow))
    host.add_agent_tool(AgentTool("nap", "Wait for two seconds.", nap))
    schema = {"type": "array", "items": {"type": "integer"}}
    host.add_agent_tool(AgentTool("numbers", "Some numbers.", lambda args: [1, 2], output_schema=schema))
    host.add_resource("notes://{id}", lambda id: f"note {id}", name="note", mime_type="text/markdown")
    host.add_resource("info://all", lambda: {"a": 1}, name="all")
    host.add_resource("info://bytes", lambda: b"\x00\x01", name="bytes")


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    with running_host(made(setup), limits={"caller_mcp_sessions": SESSIONS_OF_A_CALLER}) as running:
        yield running


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed_by_name_with_their_schemas_and_hints(host: RunningHost, mode: str) -> None:
    async def work() -> Any:
        async with client(host.url, host.token, mode) as connected:
            return (await connected.list_tools()).tools

    tools = {tool.name: tool for tool in run(work)}
    assert list(tools) == ["count", "echo", "fail", "nap", "numbers", "slow", "write"]
    assert tools["echo"].input_schema["properties"] == {"text": {"type": "string"}}
    assert tools["echo"].annotations.read_only_hint is True
    assert tools["write"].annotations.read_only_hint is False
    # Before 2026-07-28 an output schema is that of an object.
    assert (tools["numbers"].output_schema is None) == (mode == "legacy")


@pytest.mark.parametrize("mode", MODES)
def test_each_way_that_a_call_can_end_is_told_as_the_protocol_wants_it(host: RunningHost, mode: str) -> None:
    async def work() -> None:
        async with client(host.url, host.token, mode) as connected:
            good = await connected.call_tool("echo", {"text": "hi"})
            assert not good.is_error
            assert good.structured_content == {"text": "hi"}
            assert json.loads(good.content[0].text) == {"text": "hi"}
            bad = await connected.call_tool("echo", {"text": 1})
            assert bad.is_error
            assert bad.structured_content["code"] == "invalid"
            failed = await connected.call_tool("fail", {})
            assert failed.is_error
            assert failed.structured_content == {"code": "plugin", "error": "RuntimeError: no good"}
            with pytest.raises(MCPError) as unknown:
                await connected.call_tool("nothing", {})
            assert unknown.value.error.code == -32602
            numbers = await connected.call_tool("numbers", {})
            assert numbers.structured_content == (None if mode == "legacy" else [1, 2])
            assert json.loads(numbers.content[0].text) == [1, 2]

    run(work)


@pytest.mark.parametrize("mode", MODES)
def test_progress_comes_in_order_and_before_the_result(host: RunningHost, mode: str) -> None:
    said: list[Any] = []

    async def work() -> Any:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            said.append((progress, total, message))

        async with client(host.url, host.token, mode) as connected:
            return await connected.call_tool("count", {"to": 4}, progress_callback=heard)

    assert json.loads(run(work).content[0].text) == [0, 1, 2, 3]
    assert said == [(number / 4, 1.0, f"at {number}") for number in range(4)]


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_gives_up_cancels_the_tool(host: RunningHost, mode: str) -> None:
    began.clear()
    cancelled.clear()

    async def work() -> None:
        async with client(host.url, host.token, mode) as connected, anyio.create_task_group() as tasks:
            tasks.start_soon(connected.call_tool, "slow", {})
            await anyio.to_thread.run_sync(began.wait)
            tasks.cancel_scope.cancel()

    run(work)
    assert happened(cancelled)


@pytest.mark.parametrize("mode", MODES)
def test_resources_are_read_by_uri_and_by_template(host: RunningHost, mode: str) -> None:
    async def work() -> None:
        async with client(host.url, host.token, mode) as connected:
            assert [each.uri for each in (await connected.list_resources()).resources] == ["info://all", "info://bytes"]
            (template,) = (await connected.list_resource_templates()).resource_templates
            assert template.uri_template == "notes://{id}"
            (note,) = (await connected.read_resource("notes://a%20b")).contents
            assert (note.text, note.mime_type) == ("note a b", "text/markdown")
            (info,) = (await connected.read_resource("info://all")).contents
            assert (info.text, info.mime_type) == ('{"a":1}', "application/json")
            (some,) = (await connected.read_resource("info://bytes")).contents
            assert some.blob == "AAE="
            with pytest.raises(MCPError):
                await connected.read_resource("info://none")

    run(work)


def test_fastmcps_client_lists_and_calls(host: RunningHost) -> None:
    async def work() -> None:
        transport = StreamableHttpTransport(f"{host.url}/mcp", headers={"Authorization": f"Bearer {host.token}"})
        async with fastmcp.Client(transport) as connected:
            assert "echo" in [tool.name for tool in await connected.list_tools()]
            assert (await connected.call_tool("echo", {"text": "hi"})).structured_content == {"text": "hi"}

    run(work)


@pytest.mark.parametrize("mode", MODES)
def test_a_commit_is_told_to_clients_that_listen(host: RunningHost, mode: str) -> None:
    def extra(own: PluginHost) -> None:
        own.add_agent_tool(late)

    def late() -> None:
        """Come late."""

    async def work() -> None:
        told = anyio.Event()

        async def heard(message: Any) -> None:
            if "list_changed" in repr(getattr(message, "method", "")):
                told.set()

        async with client(host.url, host.token, mode, message_handler=heard) as connected:
            before = {tool.name for tool in (await connected.list_tools()).tools}
            if mode == "legacy":
                await anyio.to_thread.run_sync(loader.load, [loader.Given("test", made(extra, "late"))])
                await told.wait()
            else:
                async with connected.listen(tools_list_changed=True) as subscription:
                    await anyio.to_thread.run_sync(loader.load, [loader.Given("test", made(extra, "late"))])
                    async for event in subscription:
                        assert isinstance(event, ToolsListChanged)
                        break
            after = {tool.name for tool in (await connected.list_tools(cache_mode="bypass")).tools}
            assert after - before == {"late"}

    try:
        run(work)
    finally:
        _core.withdraw("late")
        loader.let_go()


def test_who_has_no_credential_is_told_where_to_learn_which(host: RunningHost) -> None:
    refused = httpx.post(f"{host.url}/mcp", json={})
    assert refused.status_code == 401
    challenge = refused.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    where = challenge.split('resource_metadata="')[1].split('"')[0]
    metadata = httpx.get(where).json()
    assert metadata["resource"] == f"{host.url}/mcp"
    assert metadata["bearer_methods_supported"] == ["header"]
    assert httpx.get(f"{host.url}/.well-known/oauth-protected-resource").json() == metadata


def test_who_lacks_the_scope_is_told_which_to_ask_for(host: RunningHost) -> None:
    made = host.http.post("/api/host/tokens", json={"name": "looker", "scopes": ["approve"]}).raise_for_status().json()
    refused = httpx.post(f"{host.url}/mcp", json=INITIALIZE, headers={"Authorization": f"Bearer {made['token']}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    challenge = refused.headers["www-authenticate"]
    assert challenge.startswith("Bearer ") and 'error="insufficient_scope"' in challenge and 'scope="call"' in challenge
    assert f'resource_metadata="{host.url}/.well-known/oauth-protected-resource/mcp"' in challenge


def test_a_page_of_another_origin_may_not_ask(host: RunningHost) -> None:
    headers = {"Authorization": f"Bearer {host.token}", "Origin": "https://elsewhere.example"}
    assert httpx.post(f"{host.url}/mcp", json={}, headers=headers).status_code == 403
    headers = {"Authorization": f"Bearer {host.token}", "Host": "elsewhere.example"}
    assert httpx.post(f"{host.url}/mcp", json={}, headers=headers).status_code == 421


def test_a_session_serves_only_the_principal_that_opened_it(host: RunningHost) -> None:
    with httpx.Client(base_url=host.url) as http:
        owner = {"Authorization": f"Bearer {host.token}", "Accept": "application/json, text/event-stream"}
        made = http.post("/api/host/tokens", json={"name": "other", "scopes": ["call"]}, headers=owner).json()
        opened = http.post("/mcp", json=INITIALIZE, headers=owner)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        assert http.post("/mcp", json=listing, headers=owner | session).status_code == 200
        other = owner | session | {"Authorization": f"Bearer {made['token']}"}
        assert http.post("/mcp", json=listing, headers=other).status_code == 404
        assert http.delete("/mcp", headers=other).status_code == 404
        # The first message is of the old era whatever its header says.
        newer = {"MCP-Protocol-Version": "2026-07-28"}
        first = json.loads(json.dumps(INITIALIZE).replace("2025-11-25", "2026-07-28"))
        assert http.post("/mcp", json=first, headers=other | newer).status_code == 404
        assert http.delete("/mcp", headers=owner | session).status_code == 204
        assert http.post("/mcp", json=listing, headers=owner | session).status_code == 404


def test_a_stream_ends_when_its_token_is_revoked(host: RunningHost) -> None:
    with httpx.Client(base_url=host.url, timeout=30) as http:
        owner = {"Authorization": f"Bearer {host.token}", "Accept": "application/json, text/event-stream"}
        made = http.post("/api/host/tokens", json={"name": "passing", "scopes": ["call"]}, headers=owner).json()
        guest = owner | {"Authorization": f"Bearer {made['token']}"}
        session = {"Mcp-Session-Id": http.post("/mcp", json=INITIALIZE, headers=guest).headers["mcp-session-id"]}
        with http.stream("GET", "/mcp", headers=guest | session) as stream:
            assert stream.status_code == 200
            assert http.delete("/api/host/tokens/passing", headers=owner).status_code == 204
            for _ in stream.iter_raw():
                pass


def client_of(host: RunningHost, name: str) -> httpx.Client:
    """A client of the old era, with a token of its own."""
    made = host.http.post("/api/host/tokens", json={"name": name, "scopes": ["call"]}).raise_for_status().json()
    headers = {"Authorization": f"Bearer {made['token']}", "Accept": "application/json, text/event-stream"}
    return httpx.Client(base_url=host.url, headers=headers, timeout=PATIENCE_S)


def opened(http: httpx.Client) -> dict[str, str]:
    """The header that names a new session."""
    return {"mcp-session-id": http.post("/mcp", json=INITIALIZE).raise_for_status().headers["mcp-session-id"]}


LISTING = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def is_open(http: httpx.Client, session: dict[str, str]) -> bool:
    return http.post("/mcp", json=LISTING, headers=session).status_code == 200


def test_one_caller_takes_only_a_part_of_the_sessions_and_is_told_that_it_is_busy(host: RunningHost) -> None:
    with client_of(host, "greedy") as greedy, client_of(host, "modest") as modest, ExitStack() as streams:
        sessions = [opened(greedy) for _session in range(SESSIONS_OF_A_CALLER)]
        for session in sessions:
            stream = streams.enter_context(greedy.stream("GET", "/mcp", headers=session))
            assert stream.status_code == 200
        refused = greedy.post("/mcp", json=INITIALIZE)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert "greedy" in refused.json()["detail"]
        assert modest.post("/mcp", json=INITIALIZE).status_code == 200
        assert greedy.delete("/mcp", headers=sessions[0]).status_code == 204
        assert greedy.post("/mcp", json=INITIALIZE).status_code == 200, "one that has ended makes room"


def test_the_session_that_is_idle_for_longest_makes_room_for_a_new_one(host: RunningHost) -> None:
    with client_of(host, "forgetful") as http:
        first, second, third, *others = [opened(http) for _session in range(SESSIONS_OF_A_CALLER)]
        assert is_open(http, first), "it was used last"
        with http.stream("GET", "/mcp", headers=second) as stream:
            assert stream.status_code == 200
            newest = opened(http)
            assert not is_open(http, third)
            assert all(is_open(http, session) for session in (first, second, newest, *others))


def test_a_call_keeps_its_session_when_its_stream_is_gone(host: RunningHost) -> None:
    began.clear()
    cancelled.clear()
    wish = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "slow", "arguments": {}}}
    with client_of(host, "calling") as http:
        calling = opened(http)
        with http.stream("POST", "/mcp", json=wish, headers=calling) as stream:
            assert stream.status_code == 200
            assert happened(began)
        for _session in range(SESSIONS_OF_A_CALLER * 2):
            opened(http)
        assert is_open(http, calling)
        assert not cancelled.is_set()
        assert http.delete("/mcp", headers=calling).status_code == 204
        # Sooner than a session's library gives up by itself.
        nap = wish | {"params": {"name": "nap", "arguments": {}}}
        assert http.post("/mcp", json=nap, headers=opened(http)).status_code == 200
    assert cancelled.is_set()


def test_a_session_ends_with_the_token_that_opened_it(host: RunningHost) -> None:
    with client_of(host, "replaced") as http:
        session = opened(http)
        assert is_open(http, session)
        host.http.delete("/api/host/tokens/replaced").raise_for_status()
    with client_of(host, "replaced") as http:
        assert http.post("/mcp", json=LISTING, headers=session).status_code == 404
        assert is_open(http, opened(http))


def test_sessions_that_one_caller_opens_at_the_same_time_are_no_more_than_it_may_have(host: RunningHost) -> None:
    with client_of(host, "eager") as http:

        async def work() -> list[dict[str, str]]:
            found: list[dict[str, str]] = []
            async with httpx.AsyncClient(base_url=host.url, headers=http.headers, timeout=None) as client:

                async def begun() -> None:
                    answer = await client.post("/mcp", json=INITIALIZE)
                    if answer.status_code == 200:
                        found.append({"mcp-session-id": answer.headers["mcp-session-id"]})

                async with anyio.create_task_group() as group:
                    for _session in range(SESSIONS_OF_A_CALLER * 3):
                        group.start_soon(begun)
            return found

        sessions = run(work)
        assert len(sessions) >= SESSIONS_OF_A_CALLER
        assert sum(is_open(http, session) for session in sessions) == SESSIONS_OF_A_CALLER


def test_a_client_is_initialized_once_however_often_it_says_so(host: RunningHost) -> None:
    def late() -> None:
        """Come late."""

    def extra(own: PluginHost) -> None:
        own.add_agent_tool(late)

    with client_of(host, "insistent") as http:
        session = opened(http)
        for _time in range(20):
            assert http.post("/mcp", json=INITIALIZED, headers=session).status_code == 202
        try:
            with http.stream("GET", "/mcp", headers=session) as stream:
                lines = stream.iter_lines()
                loader.load([loader.Given("test", made(extra, "again"))])
                assert "list_changed" in next(line for line in lines if "jsonrpc" in line)
                # What else was to be told comes before the stream ends.
                host.http.delete("/api/host/tokens/insistent").raise_for_status()
                assert not [line for line in lines if "list_changed" in line]
        finally:
            _core.withdraw("again")
            loader.let_go()


def deep(name: str) -> str:
    arguments = '{"a":' * 200 + "1" + "}" * 200
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}'


UNREADABLE: dict[str, tuple[bytes, int, int, str]] = {
    "nothing": (b"", 400, -32700, "malformed"),
    "no JSON": (b"{", 400, -32700, "malformed"),
    "no UTF-8": (b'{"a":"\xff"}', 400, -32700, "malformed"),
    "too many levels": (deep("echo").encode(), 400, -32700, "malformed"),
    "an unfinished wide integer": (b'{"a":99999999999999999999', 400, -32700, "malformed"),
    "several at once": (b"[]", 400, -32600, "invalid"),
    "a text": (b'"a"', 400, -32600, "invalid"),
    "an object that is no message": (b"{}", 400, -32600, "invalid"),
    "a call of nothing": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}', 200, -32602, "invalid"),
    "a call of a number": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}', 200, -32602, "invalid",
    ),
    "a call without parameters": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', 200, -32602, "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_answered_as_the_protocol_wants_it(host: RunningHost, name: str) -> None:
    body, status, code, word = UNREADABLE[name]
    headers = {
        "Authorization": f"Bearer {host.token}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json; charset=utf-8",
    }
    answer = httpx.post(f"{host.url}/mcp", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    told = answer.json()
    assert (told["jsonrpc"], told["error"]["code"], told["error"]["data"]["code"]) == ("2.0", code, word)
    assert told["id"] == (1 if code == -32602 else None)


def test_a_call_that_is_too_deep_to_be_read_is_recorded_under_its_name(host: RunningHost) -> None:
    headers = {"Authorization": f"Bearer {host.token}", "Content-Type": "application/json"}
    after = latest(host)
    assert httpx.post(f"{host.url}/mcp", content=deep("echo"), headers=headers).status_code == 400
    (record,) = news(host, after, 1)
    assert (record["door"], record["tool"]) == ("mcp", "echo")
    assert (record["outcome"], record["code"]) == ("refused", "malformed")
