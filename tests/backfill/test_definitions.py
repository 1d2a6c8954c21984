"""Definitions: what is refused when loaded, and that the guide's smallest example runs."""

import re
import textwrap
from pathlib import Path

import pytest

from persistence.backfill.definition import DefinitionError, load_definitions
from tests.backfill.workshop import Workshop

REAL = Path(__file__).parents[2] / "migrations" / "backfills"

GOOD = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "new is null"
    SET = {"new": "old + 1"}
    """


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("KEY", "KEYS"), "no such setting: KEYS"),
        (('("id",)', '"id"'), "KEY is a tuple of names"),
        (('"walked"', '"walked; drop table walked"'), "TABLE is no plain name"),
        (('"new is null"', '""'), "TODO is missing"),
        (('SET = {"new": "old + 1"}', ""), "exactly one of SET, SQL and a function named transform"),
        (('SET = {"new": "old + 1"}', 'SQL = "update walked set new = 1"'), "SQL must say {chunk}"),
        (('SET = {"new": "old + 1"}', 'SQL = "update walked set new = 1 where {chunk}"'), "EXPECTED and ACTUAL"),
        (('"old + 1"}', '"(select 1)"}\n    ROW_LOCAL = True'), "it has no SELECT in it"),
        (('"old + 1"}', '"old + 1"}\n    EXPECTED = "1"'), "follow from SET"),
        (('"old + 1"}', '"old + 1"}\n    REVERSE = "gone"'), "its reverse 'gone' does not exist"),
        (('"old + 1"}', '"old + 1"}\n    MAX_ROWS = 0'), "MAX_ROWS is 1 to"),
        (("TABLE", "raise ValueError('broken')\n    TABLE"), "ValueError: broken"),
    ],
)
def test_a_wrong_definition_is_refused(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    """Each mistake is named, with the definition's name, before anything runs."""
    tmp_path.joinpath("fill.py").write_text(textwrap.dedent(GOOD.replace(*change)))
    with pytest.raises(DefinitionError, match=re.escape(complaint)) as refused:
        load_definitions(tmp_path)
    assert str(refused.value).startswith("fill: ")


def test_the_definitions_of_the_release_are_in_order() -> None:
    """Every one loads, says what it does, and names its reverse or why there is none."""
    definitions = load_definitions(REAL)
    assert {"product_catalog", "validation_rules", "customer_summaries"} <= definitions.keys()
    for definition in definitions.values():
        assert definition.summary.endswith((".", "`."))
        assert (definition.reverse is None) != (definition.irreversible is None)


def test_the_digest_follows_the_file(tmp_path: Path) -> None:
    """A definition that was changed after its release is another one."""
    tmp_path.joinpath("fill.py").write_text(textwrap.dedent(GOOD))
    before = load_definitions(tmp_path)["fill"].digest
    tmp_path.joinpath("fill.py").write_text(textwrap.dedent(GOOD.replace("+ 1", "+ 2")))
    assert load_definitions(tmp_path)["fill"].digest != before


async def test_the_smallest_example_of_the_guide_runs(own_workshop: Workshop) -> None:
    """The first example of the authors' guide, as it stands there, is at most 15 lines, and a backfill."""
    example = REAL.joinpath("README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 15
    own_workshop.define("product_labels", example)
    await own_workshop.session.execute("""
        alter table products add column label text;
        insert into products (id, mnemonic, overview) select uuidv7(), 'P' || i, '' from generate_series(1, 1500) i""")
    async with own_workshop.workers():
        assert (await own_workshop.run("product_labels"))["state"] == "completed"
        assert (await own_workshop.verify("product_labels"))["state"] == "completed"
    assert await own_workshop.session.fetchval("select bool_and(label = lower(mnemonic)) from products")


async def test_a_worker_of_another_release_leaves_a_run_alone(workshop: Workshop) -> None:
    """A run whose definition reads differently here is not worked on; with the right file it is."""
    await workshop.session.execute("create table walked (id bigint primary key, old integer, new integer)")
    workshop.define("fill", GOOD)
    await workshop.wish(lambda control: control.start("fill"))
    workshop.define("fill", GOOD.replace("+ 1", "+ 2"))
    async with workshop.workers():
        await workshop.poll("select exists (select from backfill_workers)")
        assert (await workshop.look("fill"))["state"] == "pending"
    workshop.define("fill", GOOD)
    async with workshop.workers():
        await workshop.until("fill", "completed")
