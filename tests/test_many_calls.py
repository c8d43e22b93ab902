"""Many calls through several doors while many others wait for a person: none is lost and none runs twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit import PATIENCE_S
from mcp_clients import client

from plugbay.testing import RunningHost, running_host

PLUGIN = Path(__file__).parent / "plugins" / "gated.py"

UNDER_WAY = 100
"""Calls of one socket at a time; a connection may have 256."""


def over_http(host: RunningHost, texts: list[str]) -> list[str]:
    headers = {"Authorization": f"Bearer {host.token}"}
    with httpx.Client(base_url=host.url, headers=headers, timeout=120) as client:
        return [
            client.post("/api/host/tools/gated.good", json={"text": text}).json()["result"]["heard"] for text in texts
        ]


def on_dash(host: RunningHost, texts: list[str]) -> list[str]:
    return [host.dash.tools.gated.good(text=text)["heard"] for text in texts]


def in_python(host: RunningHost, texts: list[str]) -> list[str]:
    async def run() -> list[str]:
        found = []
        for start in range(0, len(texts), UNDER_WAY):
            calls = [
                host.registry.invoke_agent_tool("gated.good", {"text": t}) for t in texts[start : start + UNDER_WAY]
            ]
            found += [answer["heard"] for answer in await asyncio.gather(*calls)]
        return found

    return asyncio.run(run())


def over_the_socket(host: RunningHost, texts: list[str]) -> list[str]:
    found: dict[int, str] = {}
    with host.websocket() as socket:
        for start in range(0, len(texts), UNDER_WAY):
            refs = range(start, min(start + UNDER_WAY, len(texts)))
            for ref in refs:
                socket.send(frame("gated.good", texts[ref], ref))
            while not all(ref in found for ref in refs):
                answer = json.loads(socket.recv(timeout=PATIENCE_S))
                if answer["event"] == "result":
                    found[answer["ref"]] = answer["data"]["result"]["heard"]
    return [found[ref] for ref in range(len(texts))]


def over_mcp(host: RunningHost, texts: list[str]) -> list[str]:
    """Half of them in each era."""

    async def half(mode: str, some: list[str]) -> list[str]:
        async with client(host.url, host.token, mode) as connected:
            answers = [await connected.call_tool("gated.good", {"text": text}) for text in some]
            return [answer.structured_content["heard"] for answer in answers]

    middle = len(texts) // 2
    return [
        *asyncio.run(half("legacy", texts[:middle])),
        *asyncio.run(half("auto", texts[middle:])),
    ]


DOORS = [over_http, over_http, on_dash, in_python, over_the_socket, over_mcp]


def frame(tool: str, text: str, ref: int) -> str:
    return json.dumps(
        {"channel": "tools", "event": "call", "ref": ref, "data": {"tool": tool, "arguments": {"text": text}}}
    )


def run_mixed(tmp_path: Path, calls: int, approvals: int) -> None:
    config = tmp_path / "plugbay.toml"
    config.write_text('[permissions]\nask = ["gated.asked"]\n')
    limits = {"approval_time_s": 3000, "mailbox_messages": 1000}
    with running_host(PLUGIN, log_level="off", config=str(config), limits=limits) as host, host.websocket() as waiting:
        for number in range(approvals):
            waiting.send(frame("gated.asked", f"asked {number}", number))
        made = host.http.post("/api/host/tokens", json={"name": "ann", "scopes": ["approve"]}).json()
        person = httpx.Client(
            base_url=host.url, headers={"Authorization": f"Bearer {made['token']}"}, timeout=PATIENCE_S
        )
        while len(pending := person.get("/api/host/approvals").json()["approvals"]) < approvals:
            pass
        texts = [f"call {number}" for number in range(calls)]
        with ThreadPoolExecutor(len(DOORS)) as pool:
            parts = [texts[index :: len(DOORS)] for index in range(len(DOORS))]
            answers = [pool.submit(door, host, part) for door, part in zip(DOORS, parts, strict=True)]
            for approval in pending:
                decision = "once" if int(approval["arguments"]["text"].split()[1]) % 2 == 0 else "deny"
                said = {"digest": approval["digest"], "decision": decision}
                assert person.post(f"/api/host/approvals/{approval['id']}", json=said).status_code == 200
            for answer, part in zip(answers, parts, strict=True):
                assert answer.result(600) == part
        person.close()
        ended: dict[int, Any] = {}
        while len(ended) < approvals:
            said = json.loads(waiting.recv(timeout=PATIENCE_S))
            if said["event"] in ("result", "error") and said["channel"] == "tools":
                assert said["ref"] not in ended
                ended[said["ref"]] = said["data"].get("code")
        assert ended == {number: None if number % 2 == 0 else "denied" for number in range(approvals)}
        expected = Counter([*texts, *(f"asked {number}" for number in range(0, approvals, 2))])
        assert Counter(module().runs) == expected
        records = Counter(record["arguments"]["text"] for record in all_records(host))
    assert records == Counter([*texts, *(f"asked {number}" for number in range(approvals))])


def all_records(host: RunningHost) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    wish: dict[str, Any] = {"limit": 1000}
    while True:
        page = host.http.get("/api/host/audit", params=wish).raise_for_status().json()
        found += page["records"]
        if page["next"] is None:
            return found
        wish["cursor"] = page["next"]


def module() -> Any:
    """The plugin as the host has loaded it."""
    return next(module for module in sys.modules.values() if getattr(module, "__file__", None) == str(PLUGIN))


def test_calls_of_many_doors_run_once_while_others_wait_for_a_person(tmp_path: Path) -> None:
    run_mixed(tmp_path, 1000, 50)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ten_thousand_calls_and_five_hundred_approvals(tmp_path: Path) -> None:
    run_mixed(tmp_path, 10_000, 500)
