import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, isAbsolute, join } from "node:path";

const SKIP = new Set(["node_modules", "dist", "build", "coverage"]);
const TEXT = new Set([".js", ".ts", ".json", ".md", ".css", ".html", ".py", ".txt"]);

function scan(root) {
  const files = [];
  const walk = (folder, depth) => {
    if (depth > 6 || files.length >= 5000) return;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.name.startsWith(".") && entry.name !== ".env") continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!SKIP.has(entry.name)) walk(path, depth + 1);
      } else if (entry.isFile()) {
        const { size, mtimeMs } = statSync(path);
        const extension = extname(entry.name) || "(none)";
        const counted = TEXT.has(extension) && size <= 256 * 1024;
        const lines = counted ? readFileSync(path, "utf8").split("\n").length : 0;
        files.push({ name: path.slice(root.length + 1), size, mtime: mtimeMs, extension, lines });
      }
    }
  };
  if (statSync(root).isDirectory()) walk(root, 0);
  const byExtension = {};
  for (const { extension } of files) byExtension[extension] = (byExtension[extension] ?? 0) + 1;
  const top = (key, fields) =>
    [...files].sort((a, b) => b[key] - a[key]).slice(0, 6).map((file) => Object.fromEntries(fields.map((f) => [f, file[f]])));
  return {
    totalFiles: files.length,
    totalLines: files.reduce((sum, file) => sum + file.lines, 0),
    totalSize: files.reduce((sum, file) => sum + file.size, 0),
    byExtension: Object.entries(byExtension).sort((a, b) => b[1] - a[1]).slice(0, 12),
    largest: top("size", ["name", "size"]),
    recent: top("mtime", ["name", "mtime"]),
  };
}

const server = createServer((request, response) => {
  response.setHeader("Content-Type", "application/json");
  const fail = (status, error) => {
    response.writeHead(status);
    response.end(JSON.stringify({ error }));
  };
  if (request.method !== "GET" || !request.url.startsWith("/stats")) return fail(404, "Not found");
  const path = new URL(request.url, "http://localhost").searchParams.get("path");
  if (!path || !isAbsolute(path)) return fail(400, "Invalid path");
  if (!existsSync(path)) return fail(400, "Path does not exist");
  const body = JSON.stringify(scan(path));
  response.writeHead(200, { "Content-Length": Buffer.byteLength(body) });
  response.end(body);
});

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
