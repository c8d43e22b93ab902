#!/usr/bin/env python3
"""An agent in one loop: a model that speaks OpenAI's chat API, and the tools of a Plugbay host.

    PLUGBAY_TOKEN=$(plugbay token add agent --scope call) MODEL_KEY=… python agent_loop.py "What do my notes say?"

`PLUGBAY_URL` is the host (http://127.0.0.1:8000), `MODEL_URL` the API (https://api.openai.com/v1), `MODEL` the model.
This is a program beside the plugins, not one of them: the host passes over a file that begins with `#!`.
"""

import json
import os
import sys
from typing import Any

import httpx

TURNS = 20
"""So often the model may ask for tools before the loop gives up."""


def main(wish: str) -> int:
    plugbay = client(os.environ.get("PLUGBAY_URL", "http://127.0.0.1:8000"), os.environ["PLUGBAY_TOKEN"])
    model = client(os.environ.get("MODEL_URL", "https://api.openai.com/v1"), os.environ["MODEL_KEY"])
    # `names` leads from the model's name of a tool, which has no dots, to the tool's own.
    offer = plugbay.get("/api/host/tools", params={"format": "openai"}).raise_for_status().json()
    messages: list[dict[str, Any]] = [{"role": "user", "content": wish}]
    for _ in range(TURNS):
        body = {"model": os.environ.get("MODEL", "gpt-5"), "messages": messages, "tools": offer["tools"]}
        answer = model.post("/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]
        messages.append(answer)
        calls = answer.get("tool_calls") or []
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            print(f"→ {name} {arguments}", file=sys.stderr)
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": run(plugbay, offer, name, arguments)}
            )
        if not calls:
            print(answer["content"])
            return 0
    print("the model asks for tools without end", file=sys.stderr)
    return 1


def run(plugbay: httpx.Client, offer: dict[str, Any], name: str, arguments: str) -> str:
    """What a call gives, as text for the model: its result, or why there is none.

    The host checks the arguments and asks a person where its rules say so; then the answer takes as long as they do.
    """
    own_name = offer["names"].get(name, name)
    answer = plugbay.post(f"/api/host/tools/{own_name}", content=arguments or "{}").json()
    if "result" in answer:
        return json.dumps(answer["result"], ensure_ascii=False)
    return json.dumps({"error": answer["detail"], "code": answer["code"]}, ensure_ascii=False)


def client(url: str, token: str) -> httpx.Client:
    """A client of one of the two; it waits as long as they need."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=None)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "What can you do here?"))
