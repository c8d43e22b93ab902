import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const load = (name) => {
  try {
    return require(name);
  } catch (error) {
    console.error(`[web-terminal] Cannot find module '${name}' - run npm install: ${error.message}`);
    return process.exit(1);
  }
};
const pty = load("node-pty");
const { WebSocketServer } = load("ws");

const shell = process.env.SHELL || "/bin/bash";
const sessions = new Map();
let count = 0;

const server = createServer((request, response) => {
  response.setHeader("Content-Type", "application/json");
  if (request.url === "/" || request.url === "/info") {
    const { platform } = process;
    return response.end(JSON.stringify({ name: "web-terminal", sessions: sessions.size, platform, shell }));
  }
  if (request.url === "/health") return response.end(JSON.stringify({ ok: true }));
  response.writeHead(404);
  return response.end(JSON.stringify({ error: "Not found" }));
});

const clamp = (value, low, high, fallback) => Math.min(high, Math.max(low, Math.floor(value) || fallback));

const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });
sockets.on("connection", (socket) => {
  const sessionId = `s${++count}`;
  const cwd = process.env.HOME;
  const env = { ...process.env, TERM: "xterm-256color", COLORTERM: "truecolor", TERM_PROGRAM: "web-terminal" };
  const terminal = pty.spawn(shell, [], { name: "xterm-256color", cols: 80, rows: 24, cwd, env });
  sessions.set(sessionId, terminal);
  const say = (message) => socket.send(JSON.stringify({ sessionId, ...message }));
  say({ type: "ready", shell, cwd });
  terminal.onData((data) => {
    terminal.pause();
    socket.send(data, () => terminal.resume());
  });
  terminal.onExit(({ exitCode, signal }) => {
    sessions.delete(sessionId);
    if (socket.readyState !== socket.OPEN) return;
    say({ type: "exit", exitCode, signal });
    socket.close(1000, "shell exited");
  });
  socket.on("message", (data) => {
    let message = null;
    try {
      message = JSON.parse(data.toString());
    } catch {
      // Raw keystrokes.
    }
    if (message?.type === "input") terminal.write(message.data);
    else if (message?.type === "resize") terminal.resize(clamp(message.cols, 1, 500, 80), clamp(message.rows, 1, 200, 24));
    else if (message?.type === "ping") say({ type: "pong" });
    else terminal.write(data.toString());
  });
  socket.on("close", () => {
    if (sessions.delete(sessionId)) terminal.kill();
  });
});

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ ready: true, port: server.address().port })));

process.on("SIGTERM", () => {
  for (const terminal of sessions.values()) terminal.kill();
  for (const socket of sockets.clients) socket.terminate();
  server.close(() => process.exit(0));
  setTimeout(() => process.exit(1), 3000).unref();
});
