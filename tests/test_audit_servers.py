"""The record of every call on a PostgreSQL server as its operator has set it up, and between hosts that share one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres
from served import Served, write_plugin

TOOLS = """
def setup(host):
    text = {"text": {"type": "string"}}
    host.add_agent_tool(AgentTool("kept.write", "Change.", lambda args: "done", text, side_effect=True))
    host.add_agent_tool(AgentTool("kept.read", "Look.", lambda args: "seen", text))
"""

REFUSES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.arguments LIKE '%unfit%' THEN RAISE EXCEPTION 'no such letters' USING ERRCODE = '22021'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON plugbay_audit FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    write_plugin(tmp_path / "plugins", "kept", TOOLS)
    return tmp_path / "plugins"


def serve(home: Path, plugins: Path, url: str) -> Served:
    return Served(home, "--mode", "autonomous", "--access-log", "off", "--database", url, plugins=plugins)


def call(host: Served, tool: str, text: str = "") -> tuple[int, Any]:
    with host.client() as client:
        answer = client.post(f"/api/host/tools/{tool}", json={"text": text})
        return answer.status_code, answer.json()


def news(host: Served, after: int, wait_s: float = 0) -> dict[str, Any]:
    with host.client() as client:
        page = client.get("/api/host/audit", params={"after": after, "wait_s": wait_s}).raise_for_status()
        found: dict[str, Any] = page.json()
        return found


def test_what_was_answered_is_on_the_disk_of_a_server_that_commits_lazily(
    home: Path, plugins: Path, postgres: Postgres
) -> None:
    url = postgres.create("lazy")
    postgres.sql("lazy", "ALTER DATABASE lazy SET synchronous_commit = off")
    # So long it would keep in memory what it was given.
    postgres.sql("lazy", "ALTER SYSTEM SET wal_writer_delay = '10s'")
    postgres.sql("lazy", "SELECT pg_reload_conf()")
    with serve(home, plugins, url).ready() as host:
        for _ in range(10):
            assert call(host, "kept.write")[0] == 200
        postgres.stop("immediate")
        host.process.kill()
        host.ended()
    postgres.start()
    assert postgres.sql("lazy", "SELECT count(*) FROM plugbay_audit") == "10"


def test_a_database_that_cannot_keep_every_text_is_refused(home: Path, plugins: Path, postgres: Postgres) -> None:
    url = postgres.create("latin", "--encoding=LATIN1", "--locale=C", "--template=template0")
    with serve(home, plugins, url).ready() as host:
        host.logged("has the encoding LATIN1.*--encoding=UTF8")
        status, problem = call(host, "kept.write")
        assert (status, "LATIN1" in problem["detail"]) == (503, True)
        assert call(host, "kept.read", "中")[0] == 200


def test_a_record_that_the_server_does_not_take_holds_up_no_other(
    home: Path, plugins: Path, postgres: Postgres
) -> None:
    url = postgres.create("refusing")
    with serve(home, plugins, url).ready() as host:
        assert call(host, "kept.write")[0] == 200
        postgres.sql("refusing", REFUSES)
        assert call(host, "kept.read", "fit")[0] == 200
        assert call(host, "kept.read", "unfit")[0] == 200
        assert call(host, "kept.write", "unfit")[0] == 200
        records = news(host, 0)["records"]
        assert [record["arguments"] for record in records] == [{"text": ""}, {"text": "fit"}, None, None]
        assert [record["tool"] for record in records] == ["kept.write", "kept.read", "kept.read", "kept.write"]
        assert {record["principal"] for record in records} == {"owner"}


def test_a_host_that_may_make_no_tables_uses_those_that_are_there(
    tmp_path: Path, plugins: Path, postgres: Postgres
) -> None:
    url = postgres.create("least")
    with serve(tmp_path / "owner", plugins, url).ready() as host:
        assert call(host, "kept.write")[0] == 200
    postgres.sql(
        "least",
        "CREATE ROLE app LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app",
    )
    with serve(tmp_path / "app", plugins, postgres.url_of("least", "app")).ready() as host:
        assert call(host, "kept.write")[0] == 200
        assert len(news(host, 0)["records"]) == 2
    postgres.sql("least", "UPDATE plugbay_version SET version = 1; DROP INDEX plugbay_audit_age")
    with serve(tmp_path / "late", plugins, postgres.url_of("least", "app")).ready() as host:
        host.logged("start it once as their owner")


def test_who_waits_at_one_host_hears_of_what_another_records(tmp_path: Path, plugins: Path, postgres: Postgres) -> None:
    url = postgres.create("shared")
    with (
        serve(tmp_path / "one", plugins, url).ready() as one,
        serve(tmp_path / "other", plugins, url).ready() as other,
    ):
        assert call(one, "kept.write")[0] == 200
        last = news(one, 0)["next"]
        heard: list[dict[str, Any]] = []
        waits = threading.Thread(target=lambda: heard.append(news(one, last, wait_s=20)), daemon=True)
        waits.start()
        assert call(other, "kept.write", "from the other")[0] == 200
        waits.join()
        assert [record["arguments"] for record in heard[0]["records"]] == [{"text": "from the other"}]
