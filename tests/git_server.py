"""A git server over HTTPS, as small as one can be: Python's own server in front of `git http-backend`."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> Path:
    """A key and a certificate of 127.0.0.1, which it signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


class GitServer:
    """Serves the repositories of a folder; what lies below `/locked/` wants a password, `/silent/` is never answered,
    and `/moved/` has another address."""

    def __init__(self, folder: Path, pem: Path) -> None:
        self.asked: list[str] = []
        """The method and the target of each request, and whether it had a credential."""
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                server.asked.append(f"{self.command} {self.path} {self.headers.get('authorization', '-')}")
                first = parts.path.split("/")[1]
                if first == "silent":
                    server.over.wait()
                elif first == "locked":
                    self._head(401, {"www-authenticate": 'Basic realm="here"', "content-length": "0"})
                elif first == "moved":
                    target = self.path.replace("/moved/", "/")
                    self._head(302, {"location": f"{server.url}{target}", "content-length": "0"})
                else:
                    self._backend(parts.path, parts.query)

            do_POST = do_GET

            def _backend(self, path: str, query: str) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                environment = {
                    "PATH": os.environ["PATH"],
                    "GIT_PROJECT_ROOT": str(folder),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "safe.directory",
                    "GIT_CONFIG_VALUE_0": "*",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("content-type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                    "HTTP_GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                }
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=True
                )
                head, _, content = done.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                status = int(headers.pop("Status", "200").split()[0])
                self._head(status, {**headers, "content-length": str(len(content))})
                self.wfile.write(content)

            def _head(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """``https://127.0.0.1:<port>``."""
        return f"https://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def git_server(folder: Path, pem: Path) -> Iterator[GitServer]:
    """A server for as long as the block lasts."""
    server = GitServer(folder, pem)
    server.start()
    try:
        yield server
    finally:
        server.close()
