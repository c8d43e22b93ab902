// What every proxy of the benches stands in front of: a small JSON answer, and a WebSocket that echoes. Its port is its
// first argument, or a free one.

const http = require('node:http');
const { createHash } = require('node:crypto');

const LAMP = JSON.stringify({ id: 7, name: 'lamp', price: 12.5, tags: ['home', 'light'] });

const server = http.createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': LAMP.length });
  response.end(LAMP);
});
// Proxies keep connections for longer than this by default; none is to meet one that ends.
server.keepAliveTimeout = 60_000;

server.on('upgrade', (request, socket, early) => {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'];
  socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'));
  socket.setNoDelay(true);
  let bytes = early;
  socket.on('data', (more) => {
    bytes = bytes.length ? Buffer.concat([bytes, more]) : more;
    // Frames of less than 126 bytes, masked: 2 bytes, a mask of 4, the payload.
    while (bytes.length >= 6 && bytes.length >= 6 + (bytes[1] & 0x7f)) {
      const length = bytes[1] & 0x7f;
      const frame = Buffer.allocUnsafe(2 + length);
      frame[0] = bytes[0];
      frame[1] = length;
      for (let at = 0; at < length; at++) frame[2 + at] = bytes[6 + at] ^ bytes[2 + (at & 3)];
      socket.write(frame);
      if ((bytes[0] & 0x0f) === 8) socket.end();
      bytes = bytes.subarray(6 + length);
    }
  });
  socket.on('error', () => {});
});

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ ready: true, port: server.address().port }));
});
