"""The command line, as an operator uses it, against a real database and worker."""

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from tests.backfill.workshop import Workshop
from workers.backfill.commands import backfill_app


@pytest.fixture
def catalog(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A command line whose settings point at the test's database."""
    monkeypatch.setenv("DATABASE_URL", workshop.url)
    return CliRunner()


async def _call(runner: CliRunner, *arguments: str) -> Result:
    return await asyncio.to_thread(runner.invoke, backfill_app, list(arguments))


async def test_an_operator_starts_steers_watches_and_verifies(catalog: CliRunner, workshop: Workshop) -> None:
    """Every verb, with its JSON, on a backfill of the release."""
    await workshop.session.execute("""
        insert into products (id, mnemonic, overview, old_validations)
        select uuidv7(), 'P' || i, '', '[]' from generate_series(1, 1200) i""")
    listed = json.loads((await _call(catalog, "list", "--json")).stdout)
    assert {one["name"]: one["state"] for one in listed}["validation_rules"] is None
    planned = json.loads((await _call(catalog, "plan", "validation_rules", "--json")).stdout)
    assert planned["key"] == [{"column": "id", "type": "uuid"}]
    assert "for update" in (await _call(catalog, "plan", "validation_rules")).stdout
    started = json.loads((await _call(catalog, "start", "validation_rules", "--rate", "50", "--json")).stdout)
    assert (started["state"], started["rate_cap_rows_per_s"]) == ("pending", 50)
    assert "paused" in (await _call(catalog, "pause", "validation_rules")).stdout
    assert (
        json.loads((await _call(catalog, "rate", "validation_rules", "0", "--json")).stdout)["rate_cap_rows_per_s"]
        is None
    )
    await _call(catalog, "resume", "validation_rules")
    from workers.backfill.workplace import RELEASED  # noqa: PLC0415

    async with workshop.workers(definitions=RELEASED):
        watched = await _call(catalog, "watch", "validation_rules", "--json")
        assert watched.exit_code == 0
        assert json.loads(watched.stdout.splitlines()[-1])["rows_done"] == 1200
        await _call(catalog, "verify", "validation_rules")
        drawn = await _call(catalog, "watch", "validation_rules")
    assert drawn.exit_code == 0
    assert "1,200 of 1,200 keys" in drawn.stdout
    assert "validation_rules" in (await _call(catalog, "list")).stdout


async def test_a_refusal_is_one_line(catalog: CliRunner) -> None:
    """What makes no sense, and a name that nobody knows, end with a line and exit code 1."""
    for arguments, line in [
        (("cancel", "validation_rules"), "error: no run of validation_rules was ever started"),
        (("start", "customer_summaries", "--reverse"), "error: customer_summaries cannot be reversed: a summary says"),
        (("retry", "nothing"), "error: There is no backfill nothing"),
    ]:
        result = await _call(catalog, *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(line)


async def test_a_database_that_is_away_is_one_line(catalog: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack trace when nobody answers."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("WAIT_TIMEOUT_S", "0.2")
    result = await _call(catalog, "list")
    assert result.exit_code == 1
    waiting, gave_up = result.stderr.splitlines()
    assert waiting.startswith("waiting for PostgreSQL at 127.0.0.1:1: the connection was refused")
    assert gave_up.startswith("error: PostgreSQL at 127.0.0.1:1 did not answer for 0.2 s")


async def test_a_failed_run_fails_the_watch(catalog: CliRunner, workshop: Workshop) -> None:
    """Watching a run that ended failed exits with 1, so a script notices."""
    await workshop.session.execute("""
        insert into backfill_runs (name, kind, definition, definition_digest, state, reason, chunk_rows, finished_at)
        values ('product_catalog', 'work', 'product_catalog', '', 'failed', 'too much', 1, now())""")
    result = await _call(catalog, "watch", "product_catalog")
    assert result.exit_code == 1
    assert "too much" in result.stdout
