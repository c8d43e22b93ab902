"""Asking a running host over HTTP: what the command line and ``plugbay.connect`` stand on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from plugbay.discovery import home_of_environment
from plugbay.errors import InvalidError, PlugbayError, UnauthenticatedError, UnavailableError, of_code

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 10.0
_AT_ONCE = {"prefer": "respond-async"}
"""Asks for an answer at once when a person has to be asked."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class HostClient:
    """Asks one host. Each method raises the ``PlugbayError`` that the host's answer stands for."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidError(f"{url!r} is no address of a host: write it like http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        self._token = token
        # A proxy of the environment does not know this machine.
        self._trust_env = parts.hostname not in _LOOPBACK

    def get(self, path: str) -> Any:
        """The JSON of ``GET path``."""
        return self._ask("GET", path, None, _TIMEOUT_S)

    def post(self, path: str, body: Any, *, timeout_s: float = _TIMEOUT_S) -> Any:
        """The JSON of ``POST path``."""
        return self._ask("POST", path, body, timeout_s)

    def put(self, path: str, body: Any) -> Any:
        """The JSON of ``PUT path``."""
        return self._ask("PUT", path, body, _TIMEOUT_S)

    def delete(self, path: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        """Do ``DELETE path``."""
        self._ask("DELETE", path, None, timeout_s)

    def stream(self, path: str) -> Iterator[str]:
        """The text of ``GET path``, as it comes; waits for as long as the host writes."""
        import httpx

        try:
            with (
                httpx.Client(trust_env=self._trust_env, timeout=None) as client,
                client.stream("GET", f"{self.url}{path}", headers=self._headers()) as answer,
            ):
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                yield from answer.iter_text()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a tool and return its result. Waits as long as the host lets the call run.

        Where a person is asked first, standard error is told where they answer.
        """
        answer = self._ask("POST", _tool_path(name), arguments, None, _AT_ONCE)
        if "approval" in answer:
            _tell(answer["approval"])
            # The same call comes back to the approval, and waits there.
            answer = self._ask("POST", _tool_path(name), arguments, None)
        return answer["result"]

    async def call_tool_async(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a tool and return its result, as ``call_tool`` does; cancelling this cancels the call."""
        import httpx

        content = _encoded(arguments)
        try:
            async with httpx.AsyncClient(trust_env=self._trust_env, timeout=None) as client:
                url, headers = f"{self.url}{_tool_path(name)}", self._headers()
                answer = self._read(await client.post(url, content=content, headers=headers | _AT_ONCE))
                if "approval" in answer:
                    _tell(answer["approval"])
                    answer = self._read(await client.post(url, content=content, headers=headers))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return answer["result"]

    def _ask(
        self, method: str, path: str, body: Any, timeout_s: float | None, headers: Mapping[str, str] | None = None
    ) -> Any:
        import httpx

        content = None if body is None else _encoded(body)
        try:
            with httpx.Client(trust_env=self._trust_env, timeout=timeout_s) as client:
                sent = self._headers() | dict(headers or {})
                answer = client.request(method, f"{self.url}{path}", content=content, headers=sent)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return self._read(answer)

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code == 204:
            return None
        try:
            body = answer.json()
        except (ValueError, RecursionError):
            body = None
        if answer.is_success and body is not None:
            return body
        if isinstance(body, dict) and isinstance(body.get("code"), str):
            if body["code"] == "unauthenticated":
                if self._token and os.environ.get("PLUGBAY_TOKEN") == self._token:
                    raise UnauthenticatedError(f"PLUGBAY_TOKEN is no token of the host at {self.url}")
                raise UnauthenticatedError(
                    f"{body.get('detail')}: set PLUGBAY_TOKEN, or PLUGBAY_HOME to that host's home"
                )
            raise of_code(body["code"], str(body.get("detail") or body.get("title")))
        raise PlugbayError(f"{self.url} answered {answer.status_code}, not as a Plugbay host does: check the address")

    def _unreachable(self, error: Exception) -> UnavailableError:
        reason = str(error) or type(error).__name__
        return UnavailableError(f"no host answers at {self.url} ({reason}): start one with `plugbay serve`")


def open_client(url: str | None = None, token: str | None = None) -> HostClient | None:
    """A client of the host at ``url``, else of the one that runs in the home folder; ``None`` when none runs there.

    Without ``token``, ``PLUGBAY_TOKEN`` is used, else the token file of the home folder.
    """
    home = home_of_environment()
    url = running_url(home) if url is None else url
    return None if url is None else HostClient(url, token or os.environ.get("PLUGBAY_TOKEN") or _kept_token(home))


def running_url(home: Path) -> str | None:
    """The address of the host that runs in a home folder; ``None`` when ``host.json`` is not there or out of date."""
    try:
        said = json.loads((home / "host.json").read_bytes())
        os.kill(int(said["pid"]), 0)
        return str(said["url"])
    except PermissionError:
        return str(said["url"])
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _kept_token(home: Path) -> str | None:
    try:
        return (home / "token").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _tell(approval: Mapping[str, Any]) -> None:
    line = f"{approval['tool']} waits for a person, who answers at {approval['url']} or with `plugbay approvals`"
    if approval["caller"] == "owner":
        line += (
            "\nowner has asked and cannot answer: another principal does, with a token of "
            "`plugbay token add NAME --scope approve` in PLUGBAY_TOKEN"
        )
    print(line, file=sys.stderr, flush=True)


def _tool_path(name: str) -> str:
    return f"/api/host/tools/{quote(name, safe='')}"


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(
            f"the arguments are not JSON ({error}): use dicts, lists, texts, numbers and booleans"
        ) from None
