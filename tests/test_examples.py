"""Each example is started on a real host and used as a reader would use it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxied import NODE

from plugbay import registry
from plugbay.testing import RunningHost, running_host

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ["chat", "guestbook", "node-clock", "notes", "ping", "ticker"]


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host with all the examples, in which tools with side effects may run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(NODE), os.environ["PATH"]]))
        with running_host(plugins_dirs=[EXAMPLES], mode="autonomous") as host:
            yield host


def call(host: RunningHost, tool: str, **arguments: Any) -> Any:
    """The result of a tool over HTTP."""
    answer = host.http.post(f"/api/host/tools/{tool}", json=arguments)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


class Socket:
    """One client of the shared socket."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        assert self.receive()["event"] == "hello"

    def send(self, channel: str, event: str, data: Any = None, ref: int | None = None) -> None:
        """Send a frame."""
        self._connection.send(json.dumps({"channel": channel, "event": event, "data": data, "ref": ref}))

    def receive(self) -> dict[str, Any]:
        """The next frame; everybody is also told when a server of a plugin comes up, which takes its own time."""
        frame: dict[str, Any] = {"event": "plugin_state"}
        while frame["event"] == "plugin_state":
            frame = json.loads(self._connection.recv(timeout=10))
        return frame


def test_all_examples_load_without_an_error(host: RunningHost) -> None:
    assert registry.errors == []
    assert [manifest.id for manifest in registry.loaded] == NAMES


def test_every_example_is_used_here() -> None:
    files = {path.stem for path in EXAMPLES.iterdir() if not path.name.startswith((".", "_"))}
    # A program that uses the host from outside, and has a test of its own.
    assert files == {*NAMES, "agent_loop"}


def test_ping_offers_one_of_everything(host: RunningHost) -> None:
    ping = host.http.get("/api/host/plugins/ping").json()
    offers = ping["offers"]
    assert all(offers.values()), offers


def test_ping_answers_over_http(host: RunningHost) -> None:
    assert host.http.get("/api/plugins/ping").json() == {"pong": True}
    answer = host.http.get("/api/plugins/ping/hello/Ada", params={"excited": True})
    assert answer.json() == {"greeting": "Hello, Ada!"}
    assert host.http.get("/api/plugins/ping/assets/index.html").text.startswith("<!doctype html>")


def test_the_tools_of_ping_work_at_every_door(host: RunningHost) -> None:
    assert call(host, "ping.echo", text="hi") == {"echo": "hi"}
    assert host.dash.tools.ping.echo(text="hi") == {"echo": "hi"}
    with host.websocket() as connection:
        socket = Socket(connection)
        socket.send("tools", "call", {"tool": "ping.countdown", "arguments": {"start": 2}}, ref=1)
        frames = [socket.receive() for _ in range(4)]
    assert [frame["event"] for frame in frames] == ["progress"] * 3 + ["result"]
    assert frames[0]["data"]["message"] == "at 2"
    assert frames[-1]["data"] == {"result": [2, 1, 0]}


def test_the_channel_of_ping_counts_and_spreads_the_news(host: RunningHost) -> None:
    with host.websocket() as connection:
        socket = Socket(connection)
        socket.send("ping", "follow", "a", ref=1)
        assert socket.receive()["data"] == {"pong": "a", "count": 1}
        socket.send("ping", "say", ["b"], ref=2)
        assert socket.receive()["data"] == {"pong": ["b"], "count": 2}
        assert call(host, "ping.announce", text="big news") == {"announced": True}
        news = socket.receive()
    assert (news["event"], news["topic"], news["data"]) == ("message", "ping/news", {"text": "big news"})


def test_the_facade_of_ping_answers_in_the_console(host: RunningHost) -> None:
    assert host.dash.ping.once() == "pong"
    assert host.dash.ping.soon() == "pong"
    assert host.dash.ping.count == 2


def test_notes_are_written_read_changed_and_removed(host: RunningHost) -> None:
    made = host.http.post("/api/notes", json={"title": "Milk", "tags": ["shop"]})
    assert made.status_code == 201
    where = made.headers["location"]
    assert host.http.get(where).json() == {"id": made.json()["id"], "title": "Milk", "text": "", "tags": ["shop"]}
    assert host.http.put(where, json={"title": "Bread"}).json()["title"] == "Bread"
    assert [note["title"] for note in host.http.get("/api/notes", params={"words": "bre"}).json()] == ["Bread"]
    assert host.http.delete(where).status_code == 204
    assert host.http.get(where).json() == {"detail": f"there is no note {made.json()['id']}"}
    assert host.http.post("/api/notes", json={"title": ""}).status_code == 422


def test_the_tools_and_the_routes_of_notes_share_one_store(host: RunningHost) -> None:
    kept = call(host, "notes.add", note={"title": "From a tool"})
    assert host.http.get(f"/api/notes/{kept['id']}").json()["title"] == "From a tool"
    assert call(host, "notes.find", words="from a tool") == [kept]
    refused = host.http.post("/api/host/tools/notes.add", json={"note": {"title": ""}})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


def test_people_talk_in_a_room_of_the_chat(host: RunningHost) -> None:
    with host.websocket() as one, host.websocket() as two:
        ada, bob = Socket(one), Socket(two)
        ada.send("chat", "join", {"room": "a", "name": "Ada"}, ref=1)
        assert {ada.receive()["event"], ada.receive()["event"]} == {"message", "reply"}
        bob.send("chat", "join", {"room": "a", "name": "Bob"}, ref=1)
        replies = [bob.receive(), bob.receive()]
        assert {"members": ["Ada", "Bob"]} in [frame["data"] for frame in replies]
        assert ada.receive()["data"] == {"joined": "Bob"}
        bob.send("chat", "say", {"room": "a", "text": "hello"})
        for socket in (ada, bob):
            frame = socket.receive()
            assert (frame["topic"], frame["data"]) == ("chat/a", {"from": "Bob", "text": "hello"})
        two.close()
        assert ada.receive()["data"] == {"left": "Bob"}
        ada.send("chat", "say", {"room": "b", "text": "anybody?"}, ref=2)
        assert ada.receive()["data"]["code"] == "plugin"


def test_the_ticker_streams_events(host: RunningHost) -> None:
    with host.http.stream("GET", "/api/plugins/ticker", params={"count": 3, "interval_s": 0}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data:")]
    assert lines == [f'data: {{"number": {number}}}' for number in (1, 2, 3)]


def test_the_starlette_application_is_mounted_unchanged(host: RunningHost) -> None:
    book = "/api/guestbook/"
    assert host.http.get(book).json() == {"entries": ["the book is open"], "self": f"{host.url}{book}"}
    assert host.http.post(book, content="Ada was here").status_code == 201
    assert host.http.get(book).json()["entries"][-1] == "Ada was here"
    assert host.http.get("/api/guestbook", follow_redirects=False).headers["location"] == f"{host.url}{book}"
    with host.websocket("/api/guestbook/echo") as socket:
        socket.send("hello")
        assert socket.recv(timeout=10) == "hello"


def test_node_clock_answers_streams_and_talks(host: RunningHost) -> None:
    said = host.http.get("/api/plugins/node-clock/rpc/time").json()
    assert (said["time"][:2], said["user"]) == ("20", "owner")
    assert host.http.get("/api/plugins/node-clock/rpc/none").status_code == 404
    with host.http.stream("GET", "/api/plugins/node-clock/rpc/events?every_ms=20") as stream:
        lines = stream.iter_lines()
        events = [next(line for line in lines if line.startswith("data: ")) for _ in range(3)]
    assert all(json.loads(event.removeprefix("data: "))["time"] for event in events)
    with host.websocket("/plugin-ws/node-clock") as socket:
        assert json.loads(socket.recv(timeout=10)) == {"hello": "owner"}
        socket.send("hello")
        while (heard := json.loads(socket.recv(timeout=10))).get("asked") is None:
            assert heard["time"]
        assert heard["asked"] == "hello"
        assert socket.ping().wait(10)
        socket.close(4000, "bye")
        assert socket.close_code == 4000
