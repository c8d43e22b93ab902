"""The log of calls, as tests read it: from a moment on, waiting for what must come."""

from __future__ import annotations

from typing import Any

from plugbay.testing import RunningHost


def latest(host: RunningHost) -> int:
    records = host.http.get("/api/host/audit", params={"limit": 1}).raise_for_status().json()["records"]
    return records[0]["id"] if records else 0


def news(host: RunningHost, after: int, count: int) -> list[dict[str, Any]]:
    """So many new records, once they are there."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        page = host.http.get("/api/host/audit", params={"after": after, "wait_s": 20}).raise_for_status().json()
        assert page["records"], f"{len(found)} of {count} records"
        found += page["records"]
        after = page["next"]
    return found
