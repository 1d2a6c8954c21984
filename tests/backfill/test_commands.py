"""The command line, as an operator uses it, against a real database and worker."""

import json
import os
from dataclasses import dataclass

import pytest

from tests.backfill.workshop import Workshop
from tests.command_line import Finished, command


@dataclass(frozen=True)
class Catalog:
    """A command line whose settings point at a database."""

    url: str

    async def __call__(self, *arguments: str, **settings: str) -> Finished:
        """Run `catalog backfill`."""
        env = {**os.environ, "DATABASE_URL": self.url, "COLUMNS": "300", **settings}
        return await command("backfill", *arguments, env=env)


@pytest.fixture
def catalog(workshop: Workshop) -> Catalog:
    """The command line on the test's database."""
    return Catalog(workshop.url)


async def test_an_operator_starts_steers_watches_and_verifies(catalog: Catalog, workshop: Workshop) -> None:
    """Every verb, with its JSON, on a backfill of the release."""
    await workshop.session.execute("""
        insert into products (id, mnemonic, overview, old_validations)
        select uuidv7(), 'P' || i, '', '[]' from generate_series(1, 1200) i""")
    listed = json.loads((await catalog("list", "--json")).out)
    assert {one["name"]: one["state"] for one in listed}["validation_rules"] is None
    planned = json.loads((await catalog("plan", "validation_rules", "--json")).out)
    assert planned["key"] == [{"column": "id", "type": "uuid"}]
    assert "for update" in (await catalog("plan", "validation_rules")).out
    started = json.loads((await catalog("start", "validation_rules", "--rate", "50", "--json")).out)
    assert (started["state"], started["rate_cap_rows_per_s"]) == ("pending", 50)
    assert "paused" in (await catalog("pause", "validation_rules")).out
    assert json.loads((await catalog("rate", "validation_rules", "0", "--json")).out)["rate_cap_rows_per_s"] is None
    await catalog("resume", "validation_rules")
    from workers.backfill.workplace import RELEASED  # noqa: PLC0415

    async with workshop.workers(definitions=RELEASED):
        watched = await catalog("watch", "validation_rules", "--json")
        assert watched.code == 0
        assert json.loads(watched.out.splitlines()[-1])["rows_done"] == 1200
        await catalog("verify", "validation_rules")
        drawn = await catalog("watch", "validation_rules")
    assert drawn.code == 0
    assert "1,200 of 1,200 keys" in drawn.out
    assert "validation_rules" in (await catalog("list")).out


async def test_a_refusal_is_one_line(catalog: Catalog) -> None:
    """What makes no sense, and a name that nobody knows, end with a line and exit code 1."""
    for arguments, line in [
        (("cancel", "validation_rules"), "error: no run of validation_rules was ever started"),
        (("start", "customer_summaries", "--reverse"), "error: customer_summaries cannot be reversed: a summary says"),
        (("retry", "nothing"), "error: There is no backfill nothing"),
    ]:
        result = await catalog(*arguments)
        assert result.code == 1
        assert result.err.startswith(line)


async def test_a_database_that_is_away_is_one_line(catalog: Catalog) -> None:
    """No stack trace when nobody answers."""
    result = await catalog("list", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing", WAIT_TIMEOUT_S="0.2")
    assert result.code == 1
    waiting, gave_up = result.err.splitlines()
    assert waiting.startswith("waiting for PostgreSQL at 127.0.0.1:1: the connection was refused")
    assert gave_up.startswith("error: PostgreSQL at 127.0.0.1:1 did not answer for 0.2 s")


async def test_a_failed_run_fails_the_watch(catalog: Catalog, workshop: Workshop) -> None:
    """Watching a run that ended failed exits with 1, so a script notices."""
    await workshop.session.execute("""
        insert into backfill_runs (name, kind, definition, definition_digest, state, reason, chunk_rows, finished_at)
        values ('product_catalog', 'work', 'product_catalog', '', 'failed', 'too much', 1, now())""")
    result = await catalog("watch", "product_catalog")
    assert result.code == 1
    assert "too much" in result.out
