"""What is set up with less care than it could be is a warning: at the start of a worker, and by doctor."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from migrations.roles import grant_worker
from persistence.role_rights import excess_rights
from tests.command_line import OPERATOR_KEY, catalog
from tests.servers import Servers
from tests.system import SECRET, System
from workers.checks import unset_in_production
from workers.settings import Settings


@asynccontextmanager
async def role(stack: Servers, database_url: str, *grants: str) -> AsyncIterator[str]:
    """Make a worker's role with these rights as well; yields the URL with which it connects."""
    name, database = f"worker_{uuid.uuid4().hex[:8]}", database_url.rsplit("/", 1)[1]
    admin_url = stack.env.database_admin_url.rsplit("/", 1)[0] + f"/{database}"
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f"create role {name} login password 'hunter22'")
        await grant_worker(admin_url, name)
        for grant in grants:
            await admin.execute(grant.format(role=name, database=database))
        yield f"postgresql://{name}:hunter22@{database_url.rpartition('@')[2]}"
        await admin.execute(f"reassign owned by {name} to catalog; drop owned by {name}; drop role {name}")
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ((), None),
        (("alter table orders owner to {role}",), "owns 1 of our tables"),
        (("grant catalog to {role}",), "owns"),
        (("grant create on schema public to {role}",), "may create tables"),
        (("grant create on database {database} to {role}",), "may create schemas"),
        (("alter role {role} createrole createdb",), "may create roles, may create databases"),
        (("alter role {role} superuser",), "is a superuser"),
    ],
)
async def test_rights_beyond_the_work_are_named(
    stack: Servers, database_url: str, grants: tuple[str, ...], expected: str | None
) -> None:
    """Owned tables, also by membership, and whatever it may create; the granted role alone has nothing to name."""
    async with role(stack, database_url, *grants) as url:
        connection = await asyncpg.connect(url)
        found = await excess_rights(connection)
        await connection.close()
    assert (found is None) if expected is None else expected in (found or "")


PRODUCTION = {
    "ENVIRONMENT": "production",
    "JWT_ISSUER": "https://id.example.org",
    "JWT_AUDIENCE": "catalog",
    "OUTCOME_HMAC_KEY": "outcomes-" + SECRET,
    "DLQ_OPERATOR_KEY": OPERATOR_KEY,
}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({}, set()),
        ({"JWT_ISSUER": ""}, {"JWT_ISSUER"}),
        ({"JWT_AUDIENCE": ""}, {"JWT_AUDIENCE"}),
        ({"REPLY_TOPICS": "{}"}, {"REPLY_TOPICS"}),
        ({"JWT_ISSUER": "", "JWT_AUDIENCE": "", "REPLY_TOPICS": ""}, {"JWT_ISSUER", "JWT_AUDIENCE", "REPLY_TOPICS"}),
        ({"ENVIRONMENT": "staging", "JWT_ISSUER": "", "REPLY_TOPICS": ""}, set()),
    ],
)
def test_what_production_should_set(
    monkeypatch: pytest.MonkeyPatch, missing: Mapping[str, str], named: set[str]
) -> None:
    """Each of them is named with its consequence, in production alone."""
    given = PRODUCTION | {"REPLY_TOPICS": '{"tester": ["catalog.replies.*"]}', "TOPIC_PREFIX": "catalog"}
    others = {"DATABASE_URL": "postgresql://db/x", "JWT_SECRET": SECRET, "DLQ_SIGNING_KEY": "dead-letters-" + SECRET}
    for name, value in (given | others | dict(missing)).items():
        monkeypatch.setenv(name, value)
    assert {name for name, _, _ in unset_in_production(Settings.load(Path("/nowhere")))} == named


async def test_a_worker_warns_at_its_start(system: System) -> None:
    """Of each of them, and of a role that owns the tables."""
    worker = await system.start("queries", ready=True, **(PRODUCTION | {"JWT_ISSUER": "", "JWT_AUDIENCE": ""}))
    lines = worker.lines()
    missing = {line["setting"] for line in lines if line["operation"] == "setting_missing"}
    assert missing == {"JWT_ISSUER", "JWT_AUDIENCE", "REPLY_TOPICS"}
    (line,) = (line for line in lines if line["operation"] == "role_may_too_much")
    assert "owns" in line["finding"]


async def test_doctor_says_the_same(system: System) -> None:
    """In its table, as warnings."""
    told = " ".join((await catalog(system, "doctor", code=None, ENVIRONMENT="production")).out.split())
    for text in (
        "JWT_ISSUER is not set",
        "JWT_AUDIENCE is not set",
        "REPLY_TOPICS is not set",
        "warning role the role",
    ):
        assert text in told
