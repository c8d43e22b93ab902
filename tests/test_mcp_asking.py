"""A call over MCP that needs a person's leave: how each client learns of it, and whose answer counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest
from kit import made
from mcp.types import ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult
from mcp_clients import MODES, client, modern, run

from plugbay import AgentTool, PluginHost
from plugbay.testing import RunningHost, running_host


@contextmanager
def asking(ran: list[Any], **permissions: Any) -> Iterator[tuple[RunningHost, str]]:
    """A host with a tool that changes something, and an agent's token."""

    def setup(host: PluginHost) -> None:
        host.add_agent_tool(AgentTool("write", "Write.", ran.append, {"text": {"type": "string"}}, side_effect=True))

    with running_host(made(setup), permissions=permissions, limits={"pending_time_s": 0.2}) as host:
        token = host.http.post("/api/host/tokens", json={"name": "agent", "scopes": ["call"]}).json()["token"]
        yield host, token


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("allow", [True, False])
def test_the_answer_in_a_trusted_clients_form_counts(mode: str, allow: bool) -> None:
    ran: list[Any] = []
    asked: list[Any] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept", content={"allow": allow})

    with asking(ran, trusted_clients=["agent"]) as (host, token):

        async def work() -> Any:
            async with client(host.url, token, mode, elicitation_callback=answer) as connected:
                return await connected.call_tool("write", {"text": "hi"})

        result = run(work)
    (question,) = asked
    assert isinstance(question, ElicitRequestFormParams)
    assert "write" in question.message
    assert '"text":"hi"' in question.message
    assert result.is_error is not allow
    assert ran == ([{"text": "hi"}] if allow else [])


def test_a_client_that_is_not_trusted_is_shown_an_address_and_its_word_counts_for_nothing() -> None:
    ran: list[Any] = []
    asked: list[Any] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept", content={"allow": True})

    with asking(ran) as (host, token):

        async def work() -> None:
            async with client(host.url, token, "legacy", elicitation_callback=answer) as connected:
                with anyio.move_on_after(60) as waiting:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(connected.call_tool, "write", {"text": "hi"})
                        while not asked:
                            await anyio.lowlevel.checkpoint()
                        # The call waits on: what came back was no answer.
                        tasks.cancel_scope.cancel()
                assert not waiting.cancelled_caught

        run(work)
    (question,) = asked
    assert isinstance(question, ElicitRequestURLParams)
    assert question.url.startswith(f"{host.url}/")
    assert ran == []


def test_in_the_new_era_the_question_is_the_answer() -> None:
    ran: list[Any] = []
    with asking(ran) as (host, token):
        wish = modern("tools/call", token, "write", arguments={"text": "hi"})
        meta = wish["json"]["params"]["_meta"]
        meta["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {"url": {}}}
        result = httpx.post(f"{host.url}/mcp", **wish).json()["result"]
        assert result["resultType"] == "input_required"
        question = result["inputRequests"]["approval"]
        assert question["method"] == "elicitation/create"
        assert question["params"]["mode"] == "url"
        assert result["requestState"] in question["params"]["url"]
        # The same call joins its approval: there is one.
        again = httpx.post(f"{host.url}/mcp", **wish).json()["result"]
        assert again["requestState"] == result["requestState"]
    assert ran == []


@pytest.mark.parametrize("mode", MODES)
def test_progress_tells_where_to_answer(mode: str) -> None:
    ran: list[Any] = []
    said: list[str] = []

    async def work(host: RunningHost, token: str) -> None:
        told = anyio.Event()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            said.append(message or "")
            told.set()

        async with client(host.url, token, mode) as connected, anyio.create_task_group() as tasks:

            async def call() -> None:
                await connected.call_tool("write", {"text": "hi"}, progress_callback=heard)

            tasks.start_soon(call)
            await told.wait()
            tasks.cancel_scope.cancel()

    with asking(ran) as (host, token):
        run(lambda: work(host, token))
    (message,) = said
    assert f"{host.url}/" in message
    assert ran == []


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_cannot_be_told_gets_approval_pending_and_joins_the_approval_once(mode: str) -> None:
    ran: list[Any] = []
    with asking(ran) as (host, token):

        def call() -> Any:
            async def work() -> Any:
                async with client(host.url, token, mode) as connected:
                    return await connected.call_tool("write", {"text": "hi"})

            return run(work)

        first = call()
        assert (first.is_error, first.meta) == (True, {"plugbay/code": "approval_pending"})
        (waiting,) = host.http.get("/api/host/approvals").json()["approvals"]
        assert waiting["url"] in first.content[0].text
        again = call()
        assert again.meta == {"plugbay/code": "approval_pending"}
        assert [each["id"] for each in host.http.get("/api/host/approvals").json()["approvals"]] == [waiting["id"]]
        said = {"digest": waiting["digest"], "decision": "once"}
        host.http.post(f"/api/host/approvals/{waiting['id']}", json=said).raise_for_status()
        assert call().is_error is False
        assert ran == [{"text": "hi"}]
        assert call().meta == {"plugbay/code": "approval_pending"}, "an answer is for one call"
        assert ran == [{"text": "hi"}]
