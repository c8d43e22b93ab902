"""A chat on the shared socket: rooms are topics of the channel "chat".

    {"channel": "chat", "event": "join", "ref": 1, "data": {"room": "lobby", "name": "Ada"}}
    {"channel": "chat", "event": "say", "data": {"room": "lobby", "text": "hello"}}

Everybody in the room receives what is said as {"channel": "chat", "event": "message", "topic": "chat/lobby", …}.
"""

from collections import defaultdict
from typing import Any

from plugbay import BackendPlugin, Connection, PluginHost, PluginManifest


class Chat(BackendPlugin):
    manifest = PluginManifest(id="chat", name="Chat", version="1.0.0", description="Rooms to talk in.")

    def setup(self, host: PluginHost) -> None:
        members: defaultdict[str, dict[str, str]] = defaultdict(dict)

        def leave(room: str, conn: Connection) -> None:
            name = members[room].pop(conn.id, None)
            if not members[room]:
                del members[room]
            if name is not None:
                host.publish(f"chat/{room}", {"left": name})

        async def chat(conn: Connection, message: dict[str, Any]) -> Any:
            data = message.get("data") or {}
            room = data.get("room", "lobby")
            match message.get("event"):
                case "join":
                    members[room][conn.id] = data["name"]
                    await conn.subscribe(f"chat/{room}")
                    conn.on_close(lambda: leave(room, conn))
                    host.publish(f"chat/{room}", {"joined": data["name"]})
                    return {"members": sorted(members[room].values())}
                case "say":
                    name = members[room].get(conn.id)
                    if name is None:
                        raise ValueError(f"join {room} before you speak there")
                    host.publish(f"chat/{room}", {"from": name, "text": data["text"]})
                case "leave":
                    await conn.unsubscribe(f"chat/{room}")
                    leave(room, conn)
                case other:
                    raise ValueError(f"event {other!r} is not known: use join, say or leave")
            return None

        host.add_ws_channel("chat", chat)


PLUGIN = Chat()
