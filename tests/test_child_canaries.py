"""A plugin's secret is where it belongs and nowhere else: not in a log, an error, a list or another process."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

from children import reaches, until, write_child
from served import Served

CANARY = "canary-c0ffee-41d8"

LOOKS = """
const http = require('node:http');
const server = http.createServer((request, response) => {
  if (request.url === '/die') process.exit(1);
  if (request.url === '/noise') { response.socket.end('no HTTP\\r\\n\\r\\n'); return; }
  response.setHeader('x-plugin-secret-key', request.headers['x-plugin-secret-key'] ?? '');
  response.end(JSON.stringify({ url: request.url, headers: request.headers }));
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
"""

PLACES = [
    "/metrics",
    "/openapi.json",
    "/api/host/plugins",
    "/api/host/plugins/keeps",
    "/api/host/plugins/keeps/secrets",
    "/api/host/plugins/keeps/logs?lines=1000",
    "/api/host/errors",
    "/api/host/status",
    "/api/host/audit",
    "/",
]


def of_processes(name: str) -> list[bytes]:
    """What every process of this machine says of itself in a file of that name."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


def test_a_secret_reaches_its_own_server_and_nothing_else(home: Path, tmp_path: Path) -> None:
    write_child(tmp_path / "plugins", "keeps", LOOKS)
    write_child(tmp_path / "plugins", "beside", LOOKS)
    with Served(home, "--log-level", "debug", plugins=tmp_path / "plugins") as host, host.ready().client() as client:
        client.put("/api/host/plugins/keeps/secrets/key", json={"value": CANARY}).raise_for_status()
        reaches(client, "keeps", "running")
        reaches(client, "beside", "running")
        told = client.get(f"/api/plugins/keeps/rpc/x?token={host.token}&a=1", headers={"cookie": f"a={host.token}"})
        assert told.json()["headers"]["x-plugin-secret-key"] == CANARY
        assert "x-plugin-secret-key" not in told.headers
        assert told.json()["url"] == "/x?a=1"
        assert host.token not in told.text
        assert CANARY not in client.get("/api/plugins/beside/rpc/x").text
        bodies = []
        for path, status in (("/noise", 502), ("/die", 502)):
            answer = client.get(f"/api/plugins/keeps/rpc{path}")
            assert answer.status_code == status
            bodies.append(answer.text)
        until(lambda: client.get("/api/plugins/keeps/rpc/x").status_code == 200, "its next run")
        bad = client.put("/api/host/plugins/keeps/secrets/key", json={"value": f"{CANARY}\n{CANARY}"})
        assert bad.status_code == 422
        bodies += [bad.text, *(client.get(place).text for place in PLACES)]
        secrets = [CANARY, base64.b64encode(CANARY.encode()).decode()]
        hidden = [host.token, *secrets]
        assert not [text for text in bodies for secret in hidden if secret in text]
        for name in ("cmdline", "environ"):
            assert not [one for one in of_processes(name) for secret in secrets if secret.encode() in one]
        host.process.send_signal(signal.SIGTERM)
        assert host.ended() == 0
        assert not [secret for secret in hidden if secret in host.log]
    kept = [path for path in home.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert kept == [home / "secrets.json"]
    assert json.loads(kept[0].read_text())["plugins"]["keeps"]["key"] == CANARY
