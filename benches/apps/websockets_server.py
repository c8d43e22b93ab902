"""The `websockets` library on uvloop: `/` echoes the text, `/json` reads and writes the JSON, `/fanout` broadcasts.

Run as a program with the port; it serves on 127.0.0.1 until it is ended.
"""

import asyncio
import json
import sys
from http import HTTPStatus

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

LISTENERS: set[ServerConnection] = set()


async def answer(connection: ServerConnection) -> None:
    """Serves one socket, as its path says."""
    path = connection.request.path if connection.request else "/"
    if path == "/fanout":
        LISTENERS.add(connection)
        try:
            async for text in connection:
                broadcast(LISTENERS, text)
        finally:
            LISTENERS.discard(connection)
        return
    async for text in connection:
        if path == "/json":
            text = json.dumps({**json.loads(text), "event": "reply"}, separators=(",", ":"))
        await connection.send(text)


def alive(connection: ServerConnection, request: Request) -> Response | None:
    """Answers ``/healthz``; everything else is a socket."""
    return connection.respond(HTTPStatus.OK, "ok\n") if request.path == "/healthz" else None


async def main(port: int) -> None:
    """Serves until the process is ended."""
    async with serve(answer, "127.0.0.1", port, compression=None, process_request=alive):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
