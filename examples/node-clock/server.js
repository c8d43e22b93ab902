// A clock as a process of its own: GET /time, a stream at GET /events, a WebSocket at /ws. Node alone, no package.

const http = require('node:http');
const { createHash, createHmac, timingSafeEqual } = require('node:crypto');

const now = () => ({ time: new Date().toISOString() });

// The host writes one line to standard input: the key with which it signs who asks. A host that does not is fine too.
let key;
let input = '';
process.stdin.on('data', (text) => (input += text));
process.stdin.on('end', () => {
  if (input) key = JSON.parse(input).key;
});

/** The name of who asks, or null where the host did not sign it within the last minute. */
function user({ method, url, headers }) {
  if (!key) return null;
  const { 'x-host-time': time = '', 'x-host-user': name = '', 'x-host-signature': signature = '' } = headers;
  const text = `${time}\n${name}\n${method}\n${url}`;
  const due = Buffer.from(createHmac('sha256', Buffer.from(key, 'base64url')).update(text).digest('hex'));
  const said = Buffer.from(signature);
  const fresh = Math.abs(Date.now() / 1000 - Number(time)) <= 60;
  return fresh && said.length === due.length && timingSafeEqual(said, due) ? decodeURIComponent(name) : null;
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (request.method === 'GET' && url.pathname === '/time') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ...now(), user: user(request) }));
  } else if (request.method === 'GET' && url.pathname === '/events') {
    const every = Math.min(Math.max(Number(url.searchParams.get('every_ms')) || 1000, 10), 60_000);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const tick = () => response.write(`data: ${JSON.stringify(now())}\n\n`);
    tick();
    const timer = setInterval(tick, every);
    // The host ends this request when its client leaves.
    response.on('close', () => clearInterval(timer));
  } else {
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end('{"error":"there are /time, /events and the WebSocket /ws"}');
  }
});

// The WebSocket, as far as a clock needs it (RFC 6455): whole text frames of less than 126 bytes, pings and the close.
const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const frame = (opcode, payload) => Buffer.concat([Buffer.from([0x80 | opcode, payload.length]), payload]);

/** A close frame with a code and a reason. */
function goodbye(code, reason) {
  const text = Buffer.from(`00${reason}`);
  text.writeUInt16BE(code);
  return frame(CLOSE, text);
}

/** Takes one masked frame off the bytes: null while it is not whole. Frames that a clock does not know have no opcode. */
function take(bytes) {
  if (bytes.length < 2) return null;
  const length = bytes[1] & 0x7f;
  if (length > 125 || !(bytes[0] & 0x80) || !(bytes[1] & 0x80)) return { opcode: null };
  if (bytes.length < 6 + length) return null;
  const payload = Buffer.from(bytes.subarray(6, 6 + length).map((byte, index) => byte ^ bytes[2 + (index % 4)]));
  return { opcode: bytes[0] & 0x0f, payload, rest: bytes.subarray(6 + length) };
}

server.on('upgrade', (request, socket, early) => {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'];
  socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'));
  const say = (message) => socket.write(frame(TEXT, Buffer.from(JSON.stringify(message))));
  say({ hello: user(request) });
  const timer = setInterval(() => say(now()), 1000);
  let bytes = early;
  const hear = (more) => {
    bytes = Buffer.concat([bytes, more]);
    for (let found; (found = take(bytes)); bytes = found.rest) {
      const { opcode, payload } = found;
      if (opcode === PING) socket.write(frame(PONG, payload));
      else if (opcode === TEXT) say({ ...now(), asked: payload.toString().slice(0, 40) });
      else if (opcode === CLOSE) return socket.end(frame(CLOSE, payload));
      else if (opcode !== PONG) return socket.end(goodbye(1003, 'short text frames only'));
    }
  };
  socket.on('data', hear);
  socket.on('error', () => {});
  socket.on('close', () => clearInterval(timer));
  hear(Buffer.alloc(0));
});

server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
process.on('SIGTERM', () => process.exit(0));
