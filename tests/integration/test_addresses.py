"""What `DATABASE_URL` says is done: by the workers' pool, by migrations, by every command that asks the database."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from migrations import runner
from persistence.address import NotConnectedError, read_address
from persistence.engine import PoolSettings, connected, create_engine
from persistence.faults import Fault, fault_of
from tests.command_line import catalog
from tests.system import System


def rewritten(url: str, form: str, folder: Path) -> str:
    """Write an address in another way; `form` may use its parts."""
    parts = urlsplit(url)
    password = folder / "pgpass"
    password.write_text(f"{parts.hostname}:{parts.port}:*:{parts.username}:{parts.password}\n")
    password.chmod(0o600)
    name = parts.path.strip("/")
    return form.format(
        url=url, user=parts.username, password=parts.password, host=parts.hostname, port=parts.port, name=name,
        passfile=password,
    )  # fmt: skip


FORMS: list[tuple[str, str, Any]] = [
    ("{url}?application_name=shop", "show application_name", "shop"),
    ("{url}?fallback_application_name=shop", "show application_name", "tests"),
    ("{url}?options=-c%20work_mem%3D7MB", "show work_mem", "7MB"),
    ("{url}?options=-c%20statement_timeout%3D9s%20--search_path%3Dpg_catalog", "show search_path", "pg_catalog"),
    ("{url}?target_session_attrs=primary", "select pg_is_in_recovery()", False),
    ("{url}?target_session_attrs=read-write&connect_timeout=3&channel_binding=prefer", "select 1", 1),
    ("{url}?sslmode=disable&gssencmode=disable&client_encoding=utf8", "show client_encoding", "UTF8"),
    ("{url}?sslmode=prefer&sslsni=1&sslcompression=0", "select 1", 1),
    ("postgresql://{user}@{host}:{port}/{name}?passfile={passfile}", "select 1", 1),
    ("postgresql:///?user={user}&password={password}&host={host}&port={port}&dbname={name}", "select 1", 1),
    ("postgresql://{user}:{password}@127.0.0.1:1,{host}:{port}/{name}", "select inet_server_port() > 1", True),
]


@pytest.mark.parametrize(("form", "question", "answer"), FORMS)
async def test_parameters_are_honoured(
    database_url: str, tmp_path: Path, form: str, question: str, answer: object
) -> None:
    """By the pool and by migrations alike."""
    url = rewritten(database_url, form, tmp_path)
    engine = create_engine(url, PoolSettings(size=1), "tests")
    try:
        async with connected(engine) as connection:
            assert await connection.fetchval(question) == answer
    finally:
        await engine.dispose()
    async with runner.connected(read_address(url).arguments("tests")) as connection:
        assert await connection.fetchval(question) == answer


async def test_sessions_of_backfills_keep_their_kind(database_url: str) -> None:
    """The throttle knows the sessions of backfill workers by the beginning of their names, whatever the URL says."""
    engine = create_engine(database_url + "?application_name=shop", PoolSettings(), "w", kind="catalog-backfill/")
    try:
        async with connected(engine) as connection:
            assert await connection.fetchval("show application_name") == "catalog-backfill/shop"
    finally:
        await engine.dispose()


async def test_every_command_takes_parameters(system: System) -> None:
    """Whatever makes an engine or a connection: none of it meets a parameter that it does not know."""
    url = system.database_url + "?application_name=shop&connect_timeout=4&sslmode=prefer&options=-c%20work_mem%3D7MB"
    for command in (
        ["migrate"],
        ["seed", "--customers", "1", "--products", "1", "--orders", "1"],
        ["backfill", "list"],
        ["change", "show"],
        ["settings"],
    ):
        await catalog(system, *command, DATABASE_URL=url)
    assert "failing  database" not in (await catalog(system, "doctor", code=None, DATABASE_URL=url)).out
    system.settings |= {"DATABASE_URL": url, "DATABASE_READ_URL": url}
    await system.start("commands")
    await system.start("queries")
    created = await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})
    assert (await system.query("get_customer", {"customer_id": created.data["id"]})).data == created.data
    names = {row["application_name"] for row in await system.fetch("select application_name from pg_stat_activity")}
    assert "shop" in names


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("options=-c%20nosuch%3D1", 'unrecognized configuration parameter "nosuch"'),
        ("options=-c%20work_mem%3Dlots", 'invalid value for parameter "work_mem": "lots"'),
        ("options=-c%20fsync%3Doff", 'parameter "fsync" cannot be changed now'),
        ("options=-c%20TimeZone%3DNowhere", 'invalid value for parameter "TimeZone": "Nowhere"'),
        ("options=-c%20synchronous_commit%3Doff", "synchronous_commit is off"),
    ],
)
async def test_what_the_server_refuses_is_one_line(system: System, parameter: str, told: str) -> None:
    """While connecting it says nothing of any message: no defect; a start is refused with the server's own words."""
    url = f"{system.database_url}?{parameter}"
    refused = await catalog(system, "worker", "commands", code=1, DATABASE_URL=url)
    (line,) = (line for line in refused.err.splitlines() if not line.startswith("{"))
    assert told in line
    if "synchronous_commit" not in parameter:
        with pytest.raises(NotConnectedError) as found:
            await read_address(url).connect("tests")
        assert fault_of(found.value) is Fault.TRANSIENT
    assert os.linesep not in line
