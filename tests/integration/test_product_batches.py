"""Products in Postgres: phases of the catalogue, legacy columns, how many statements a batch takes, and races."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Mapping, Sequence

import orjson
import pytest
from sqlalchemy import event

from handlers.commands import COMMANDS
from handlers.rules import RuleBook
from persistence import product_queries, unit_of_work
from persistence.engine import Engine, PoolSettings, connected, create_engine, transaction
from persistence.phases import Phase, catalogue_columns
from persistence.product_queries import CatalogueReads, ProductTable
from persistence.standing import read_standing
from tests.batches import NOW, Batches, context
from tests.in_memory.unit_of_work import Asking, read
from tests.integration.postgres_catalogue import PostgresCatalogue, declared

CUSTOMER_ID = "11111111-1111-7111-8111-111111111111"
CUSTOMER: Asking = ("create_customer", {"name": "N", "email": "n@example.com", "customer_id": CUSTOMER_ID})


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    yield engine
    await engine.dispose()


@pytest.fixture
def catalogue(engine: Engine) -> PostgresCatalogue:
    """A catalogue on it."""
    return PostgresCatalogue(engine)


async def sql(engine: Engine, statement: str, *args: object) -> Sequence[Mapping[str, object]]:
    """Run a statement; its rows."""
    async with connected(engine) as connection:
        rows: Sequence[Mapping[str, object]] = await connection.fetch(statement, *args)
        return rows


def create(mnemonic: str, **more: object) -> Asking:
    """Make the command that creates a product."""
    return "create_product", {"mnemonic": mnemonic, "overview": "x"} | more


def order(*mnemonics: str, **attributes: object) -> Asking:
    """Make the command that orders one of each product."""
    line = {"quantity": 1, "unit_price": "1.00", "attributes": attributes}
    return "place_order", {"customer_id": CUSTOMER_ID, "lines": [line | {"mnemonic": one} for one in mnemonics]}


# Phases --------------------------------------------------------------------------------------------------------------
async def enter(engine: Engine, phase: Phase) -> None:
    """Take the change of the catalogue to a phase, without its gate."""
    await sql(engine, "update schema_changes set phase = $1 where change = 'product_catalog'", phase.value)


async def stored(engine: Engine, mnemonic: str) -> dict[str, object]:
    """Read the columns of a catalogue that there are."""
    (row,) = await sql(engine, "select to_jsonb(p)::text as row from products p where mnemonic = $1", mnemonic)
    columns: dict[str, object] = orjson.loads(str(row["row"]))
    return {name: columns[name] for name in ("old_catalog_field", "new_catalog") if name in columns}


@pytest.mark.parametrize("phase", list(Phase))
async def test_each_phase_writes_and_reads_its_columns(
    engine: Engine, catalogue: PostgresCatalogue, phase: Phase
) -> None:
    """A catalogue is written to the columns of the phase, read from the one of the phase, and found in any query."""
    await enter(engine, phase)
    await catalogue.apply(create("A", catalog={"n": 1}), create("B", catalog={"n": 1}))
    await catalogue.apply(("update_product", {"mnemonic": "B", "catalog": {"n": 2}}))
    columns = catalogue_columns(phase)
    for mnemonic, catalog in (("A", {"n": 1}), ("B", {"n": 2})):
        kept = await stored(engine, mnemonic)
        assert orjson.loads(str(kept["old_catalog_field"])) == (
            catalog if "old_catalog_field" in columns.written else {}
        )
        assert kept["new_catalog"] == (catalog if "new_catalog" in columns.written else None)
    for kind, payload in (("list_products", {}), ("search_products", {"mnemonic_contains": "B"})):
        items = (await catalogue.ask(kind, payload))["data"]["items"]
        assert items[0]["catalog"] == {"n": 2}
    assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": 1}
    (same,) = await catalogue.apply(("update_product", {"mnemonic": "A", "catalog": {"n": 1}}))
    assert same["type"] == "neutral"


async def test_the_whole_way_and_back(engine: Engine, catalogue: PostgresCatalogue) -> None:
    """Readers and writers follow each step without a restart; the legacy column may go when it is contracted."""
    await catalogue.apply(create("A", catalog={"n": 0}))
    steps = [Phase.DUAL_WRITE, Phase.EXPANDED, Phase.DUAL_WRITE, Phase.BACKFILLED, Phase.READING_NEW, Phase.BACKFILLED]
    steps += [Phase.READING_NEW, Phase.CONTRACTED]
    for n, phase in enumerate(steps, 1):
        await enter(engine, phase)
        assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": n - 1}
        await catalogue.apply(("update_product", {"mnemonic": "A", "catalog": {"n": n}}))
        assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": n}
    await sql(engine, "alter table products drop column old_catalog_field")
    late = PostgresCatalogue(engine)  # it takes the phase for the first one, until the column is not there
    assert (await late.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": len(steps)}
    assert (await late.ask("list_products", {}))["data"]["items"][0]["catalog"] == {"n": len(steps)}
    (changed,) = await catalogue.apply(("update_product", {"mnemonic": "A", "overview": "y"}))
    assert changed["data"]["catalog"] == {"n": len(steps)}


async def test_a_reader_of_before_never_shows_a_stale_column(engine: Engine, catalogue: PostgresCatalogue) -> None:
    """A reader that slept through several steps sees, by the phase of its snapshot, that its column is out of date."""
    await catalogue.apply(create("A", catalog={"n": 0}))
    sleeper = PostgresCatalogue(engine)
    assert (await sleeper.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": 0}
    await enter(engine, Phase.CONTRACTED)
    await sql(engine, """update products set new_catalog = '{"n": 1}'""")
    assert (await sleeper.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"] == {"n": 1}
    assert (await sleeper.ask("list_products", {}))["data"]["items"][0]["catalog"] == {"n": 1}


async def test_other_changes_fill_the_new_column_in(engine: Engine, catalogue: PostgresCatalogue) -> None:
    """While both are written, a change of anything else brings the new column up to the old one."""
    await catalogue.apply(create("A", catalog={"n": 1}))
    await enter(engine, Phase.DUAL_WRITE)
    await sql(engine, """update products set new_catalog = '{"stale": true}'""")
    await catalogue.apply(("update_product", {"mnemonic": "A", "overview": "y"}))
    assert (await stored(engine, "A"))["new_catalog"] == {"n": 1}


@pytest.mark.parametrize("text", ["{broken", "[1]", '{"nul": "\\u0000"}'])
async def test_a_legacy_catalogue_that_is_none(engine: Engine, catalogue: PostgresCatalogue, text: str) -> None:
    """Legacy text that is no JSON object is shown as empty, and kept until somebody sets a catalogue."""
    await catalogue.apply(create("A"))
    await enter(engine, Phase.DUAL_WRITE)
    await sql(engine, "update products set old_catalog_field = $1", text)
    shown = (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["catalog"]
    assert shown in ({}, {"nul": "\u0000"})
    (changed,) = await catalogue.apply(("update_product", {"mnemonic": "A", "overview": "y"}))
    assert changed["statusCode"] == 200
    assert (await stored(engine, "A"))["old_catalog_field"] == text
    await catalogue.apply(("update_product", {"mnemonic": "A", "catalog": {"n": 1}}))
    assert await stored(engine, "A") == {"old_catalog_field": '{"n":1}', "new_catalog": {"n": 1}}


class Drift:
    """Counts comparisons of the two columns."""

    def __init__(self) -> None:
        self.compared: list[tuple[int, int]] = []

    def on_catalogue_compared(self, compared: int, differing: int) -> None:
        self.compared.append((compared, differing))


async def test_drift_is_told_on_write(engine: Engine, catalogue: PostgresCatalogue) -> None:
    """A batch compares both columns of the products it changes, as it found them, where the backfill has been."""
    await catalogue.apply(create("A"), create("B"), create("C"))
    await enter(engine, Phase.BACKFILLED)
    await sql(engine, "update products set new_catalog = '{}' where mnemonic = 'A'")
    await sql(engine, """update products set new_catalog = '{"n": 1}' where mnemonic = 'B'""")
    drift = Drift()
    async with connected(engine) as connection:
        standing = await read_standing(connection)
    messages = [read(("update_product", {"mnemonic": one, "overview": "y"})) for one in "ABC"]
    async with unit_of_work.begin(engine, RuleBook(caching=False), drift) as uow:
        await uow.load(declared(messages), standing)
        for message in messages:
            await COMMANDS[message.kind](message.payload, uow, context(NOW))
        await uow.flush()
        await uow.commit()
    assert drift.compared == [(2, 1)]


async def test_drift_is_sampled_on_read(
    engine: Engine, catalogue: PostgresCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then a read compares both columns, as long as both are written."""
    monkeypatch.setattr(product_queries, "SAMPLED_ONE_IN", 2)
    await catalogue.apply(create("A"), create("B"))
    await enter(engine, Phase.READING_NEW)
    await sql(engine, """update products set new_catalog = '{"n": 1}' where mnemonic = 'A'""")
    await sql(engine, "update products set new_catalog = '{}' where mnemonic = 'B'")
    drift = Drift()
    table = ProductTable(engine, CatalogueReads(drift), engine)
    for _ in range(4):
        await table.get_many(["A", "B"])
    assert drift.compared == [(2, 1)] * 2
    await enter(engine, Phase.CONTRACTED)
    for _ in range(4):
        await table.get_many(["A", "B"])
    assert drift.compared == [(2, 1)] * 2


# Legacy rules --------------------------------------------------------------------------------------------------------
async def test_legacy_rules_count_until_they_are_replaced(engine: Engine, catalogue: PostgresCatalogue) -> None:
    """While the legacy column has rules they are the product's; setting rules moves them to rows and empties it."""
    await catalogue.apply(CUSTOMER, create("A"))
    legacy = [{"name": "legacy", "parameters": {"required": ["size"]}, "start_date": "2020-01-01", "end_date": None}]
    await sql(engine, "update products set old_validations = $1", orjson.dumps(legacy).decode())
    answer = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {}})
    assert [rule["name"] for rule in answer["data"]["rules"]] == ["legacy"]
    (refused,) = await catalogue.apply(order("A"))
    assert refused["data"]["details"]["rule"] == "legacy"
    (same,) = await catalogue.apply(("set_validation_rules", {"mnemonic": "A", "rules": legacy}))
    assert same["type"] == "neutral"
    rules = [{"name": "new", "parameters": {}, "start_date": "2020-01-01"}]
    changed, placed = await catalogue.apply(("set_validation_rules", {"mnemonic": "A", "rules": rules}), order("A"))
    assert (changed["statusCode"], placed["statusCode"]) == (200, 201)
    assert [dict(row) for row in await sql(engine, "select old_validations from products")] == [
        {"old_validations": None}
    ]
    assert [row["name"] for row in await sql(engine, "select name from validation_instances")] == ["new"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "{}",
        "[1]",
        '[{"name": "r", "parameters": {}}]',
        '[{"name": "r", "parameters": {}, "start_date": "soon"}]',
        '[{"name": "r", "parameters": {"$ref": "http://example.com"}, "start_date": "2020-01-01"}]',
    ],
)
async def test_legacy_rules_that_cannot_be_read(engine: Engine, catalogue: PostgresCatalogue, text: str) -> None:
    """An order is refused as long as a rule cannot be evaluated; it never passes unchecked."""
    await catalogue.apply(CUSTOMER, create("A"))
    await sql(engine, "update products set old_validations = $1", text)
    (refused,) = await catalogue.apply(order("A"))
    assert (refused["statusCode"], refused["data"]["error_code"]) == (422, "BUSINESS_RULE_ERROR")


async def test_uncommitted_rules_are_not_kept_compiled(engine: Engine) -> None:
    """Rules of a batch that was rolled back judge nobody, though other rules get the same version later."""
    worker = Batches(engine)
    await worker.decide(CUSTOMER, create("A"))

    def rules(field: str) -> Asking:
        rule = {"name": field, "parameters": {"required": [field]}, "start_date": "2020-01-01"}
        return "set_validation_rules", {"mnemonic": "A", "rules": [rule]}

    async with worker.prepared(rules("lost"), order("A")) as (_, answers):
        assert answers[1]["data"]["details"]["rule"] == "lost"
    await worker.decide(rules("kept"))
    (refused,) = await worker.decide(order("A", lost=1))
    assert refused["data"]["details"]["rule"] == "kept"


# Statements ----------------------------------------------------------------------------------------------------------
class Statements:
    """Counts the statements of an engine's connections, but not what the driver asks once of the types of arguments."""

    def __init__(self, engine: Engine) -> None:
        self.seen: list[str] = []
        event.listen(engine.sync_engine, "connect", self._watch)

    def _watch(self, connection: object, _: object) -> None:
        connection.driver_connection.add_query_logger(self._log)  # type: ignore[attr-defined]

    def _log(self, query: object) -> None:
        text: str = query.query  # type: ignore[attr-defined]
        if "typeinfo_tree" not in text and "current_setting('jit')" not in text:
            self.seen.append(text)

    def take(self) -> int:
        """Return how many there were since the last time."""
        number = len(self.seen)
        self.seen.clear()
        return number


def one_of_each(mark: str) -> list[Asking]:
    """Make commands of every product kind, and an order."""
    return [
        ("create_product", {"mnemonic": f"NEW_{mark}", "overview": "x"}),
        ("update_product", {"mnemonic": f"U_{mark}", "catalog": {"n": 1}}),
        ("delete_product", {"mnemonic": f"D_{mark}"}),
        (
            "add_product_version",
            {
                "mnemonic": f"V_{mark}",
                "version_label": "2",
                "start_date": "2025-02-01",
                "items": [{"name": "i", "position": 1}],
            },
        ),
        ("end_product_version", {"mnemonic": f"E_{mark}", "version_label": "1", "end_date": "2025-01-01"}),
        (
            "set_validation_rules",
            {"mnemonic": f"R_{mark}", "rules": [{"name": "r", "parameters": {}, "start_date": "2025-01-01"}]},
        ),
        ("import_products", {"products": [{"mnemonic": f"I_{mark}", "overview": "x"}]}),
        order(f"U_{mark}", f"V_{mark}"),
    ]


async def test_a_batch_takes_a_constant_number_of_statements(engine: Engine) -> None:
    """One command of each kind takes as many statements as forty of each, but for one that weighs what may be large.

    So do queries about one product or forty.
    """
    statements = Statements(engine)
    catalogue = PostgresCatalogue(engine)
    marks = [str(n) for n in range(41)]
    await catalogue.apply(CUSTOMER, *(create(f"{kind}_{mark}", catalog={"n": 0}) for kind in "UDVER" for mark in marks))
    await catalogue.apply(
        *(
            (
                "add_product_version",
                {
                    "mnemonic": f"{kind}_{mark}",
                    "version_label": "1",
                    "start_date": "2025-01-01",
                    "end_date": "2025-01-31",
                    "items": [{"name": "i", "position": 1}],
                },
            )
            for kind in "VE"
            for mark in marks
        )
    )
    statements.take()
    answers = await catalogue.apply(*one_of_each("0"))
    few = statements.take()
    answers += await catalogue.apply(*itertools.chain.from_iterable(one_of_each(mark) for mark in marks[1:]))
    assert statements.take() == few + 1
    assert {answer["type"] for answer in answers} == {"success"}
    assert few < 40
    for names in (["U_0"], [f"V_{mark}" for mark in marks]):
        assert len(await catalogue.readers.products.get_many(names)) == len(names)
        assert statements.take() == 1
    await catalogue.readers.products.rules_of([f"R_{mark}" for mark in marks])
    assert statements.take() == 1


# Races ---------------------------------------------------------------------------------------------------------------
async def waiting_for_a_lock(engine: Engine) -> None:
    """Return when somebody waits for a lock; gives up after 10 s."""
    async with asyncio.timeout(10):
        waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        while not await sql(engine, waiting):  # noqa: ASYNC110 - only the server knows it
            await asyncio.sleep(0.01)


async def test_one_of_two_creates_wins(engine: Engine) -> None:
    """Workers that create the same products at once: each is created once, the other is told that it exists."""
    one, two = Batches(engine), Batches(engine)
    batch = [create(f"P_{n}") for n in range(20)]
    answers = await asyncio.gather(one.decide(*batch), two.decide(*reversed(batch)))
    by_name = zip(answers[0], reversed(answers[1]), strict=True)
    assert [sorted((first["statusCode"], second["statusCode"])) for first, second in by_name] == [[201, 409]] * 20


async def test_no_change_is_lost(engine: Engine) -> None:
    """Changes of the same products by several workers at once are all counted."""
    workers = [Batches(engine) for _ in range(4)]
    await workers[0].decide(*(create(f"P_{n}") for n in range(5)))

    async def change(worker: Batches, mark: int) -> None:
        chance = random.Random(mark)
        for turn in range(5):
            names = chance.sample(range(5), 5)
            updates: list[Asking] = [
                ("update_product", {"mnemonic": f"P_{n}", "overview": f"{mark} {turn}"}) for n in names
            ]
            assert {answer["type"] for answer in await worker.decide(*updates)} == {"success"}

    await asyncio.gather(*(change(worker, mark) for mark, worker in enumerate(workers)))
    assert {row["version"] for row in await sql(engine, "select version from products")} == {21}


async def test_an_overlap_between_workers(engine: Engine) -> None:
    """Two workers that add overlapping versions at once: one adds, the other names what it overlaps."""
    one, two = Batches(engine), Batches(engine)
    await one.decide(create("A"))

    def add(label: str) -> Asking:
        payload = {"mnemonic": "A", "version_label": label, "start_date": "2025-01-01", "items": []}
        return "add_product_version", payload

    (first,), (second,) = await asyncio.gather(one.decide(add("one")), two.decide(add("two")))
    refused = first if first["statusCode"] == 409 else second
    assert sorted((first["statusCode"], second["statusCode"])) == [201, 409]
    assert refused["data"]["details"]["overlaps"]["version_label"] in {"one", "two"}


async def test_an_order_holds_against_a_delete_that_waits(engine: Engine) -> None:
    """A delete that waits for an order's transaction counts that order: children are read after the lock."""
    orders, deletes = Batches(engine), Batches(engine)
    await orders.decide(CUSTOMER, create("A"))
    async with orders.prepared(order("A")) as (uow, _):
        delete = asyncio.create_task(deletes.command("delete_product", {"mnemonic": "A"}))
        await waiting_for_a_lock(engine)
        await uow.commit()
    answer = await delete
    assert (answer["statusCode"], answer["data"]["details"]["placed_orders"]) == (400, 1)


async def test_a_product_made_anew_is_never_called_missing(engine: Engine) -> None:
    """Whoever waits for a product that is deleted and created in one batch decides again, and finds the new one."""
    makes, orders = Batches(engine), Batches(engine)
    await makes.decide(CUSTOMER, create("A"))
    async with makes.prepared(("delete_product", {"mnemonic": "A"}), create("A")) as (uow, _):
        placed = asyncio.create_task(orders.decide(order("A")))
        await waiting_for_a_lock(engine)
        await uow.commit()
    (answer,) = await placed
    assert answer["statusCode"] == 201
    assert orders.conflicts == 1


async def test_what_went_for_good_is_missing(engine: Engine) -> None:
    """A product that was deleted while somebody waited for it is told to be missing, without deciding again."""
    makes, orders = Batches(engine), Batches(engine)
    await makes.decide(CUSTOMER, create("A"))
    async with makes.prepared(("delete_product", {"mnemonic": "A"})) as (uow, _):
        placed = asyncio.create_task(orders.decide(order("A")))
        await waiting_for_a_lock(engine)
        await uow.commit()
    (answer,) = await placed
    assert (answer["statusCode"], orders.conflicts) == (404, 0)


async def test_a_batch_waits_for_a_backfill(engine: Engine) -> None:
    """Whoever changes a product waits for a backfill that has its row and knows nothing of names; nothing is lost."""
    worker = Batches(engine)
    await worker.decide(create("A"))
    legacy = '[{"name": "moved", "parameters": {}, "start_date": "2025-01-01"}]'
    await sql(engine, "update products set old_validations = $1", legacy)
    rules = {"mnemonic": "A", "rules": [{"name": "set", "parameters": {}, "start_date": "2025-01-01"}]}
    async with transaction(engine) as backfill:
        await backfill.execute("select from products for no key update")
        await backfill.execute(
            """insert into validation_instances (product_id, ordinal, name, parameters, start_date)
            select id, 0, 'moved', '{}', '2025-01-01' from products"""
        )
        await backfill.execute("update products set old_validations = null")
        waiting = asyncio.create_task(worker.command("set_validation_rules", rules))
        await waiting_for_a_lock(engine)
        await backfill.execute("commit")
    assert (await waiting)["statusCode"] == 200
    assert worker.conflicts == 0
    assert [row["name"] for row in await sql(engine, "select name from validation_instances")] == ["set"]


async def test_a_storm_of_batches_never_deadlocks(engine: Engine) -> None:
    """Workers with random batches over the same few products never wait in a circle; counters and holds end right."""
    first = Batches(engine)
    await first.decide(CUSTOMER, *(create(name) for name in NAMES))

    async def storm(mark: int) -> int:
        worker, chance = Batches(engine), random.Random(mark)
        for _ in range(15):
            await worker.decide(*(any_command(chance, mark) for _ in range(chance.randint(1, 8))))
        return worker.conflicts

    await asyncio.gather(*(storm(mark) for mark in range(4)))
    (row,) = await sql(engine, "select deadlocks from pg_stat_database where datname = current_database()")
    assert row["deadlocks"] == 0
    (row,) = await sql(
        engine,
        """select (select count(*) from products) as products,
          (select sum(amount) from counter_deltas where counter = 'products') as counted""",
    )
    assert row["products"] == row["counted"]
    wrong = await sql(
        engine,
        """
        select p.mnemonic, coalesce(h.held, 0) as held, coalesce(o.placed, 0) as placed
        from products p
        left join (select product_id, sum(amount) as held from product_holds group by 1) h on h.product_id = p.id
        left join (select line ->> 'product_id' as product_id, count(distinct orders.id) as placed
          from orders, jsonb_array_elements(lines) as line where status = 'placed' group by 1) o
          on o.product_id = p.id::text
        where coalesce(h.held, 0) <> coalesce(o.placed, 0)""",
    )
    assert wrong == []


NAMES = ("A", "B", "C", "D")


def any_command(chance: random.Random, mark: int) -> Asking:
    """Make a random command about one of the few products."""
    one = chance.choice(NAMES)
    day = f"2025-0{chance.randint(1, 9)}-01"
    commands: list[Asking] = [
        create(one),
        ("delete_product", {"mnemonic": one}),
        ("update_product", {"mnemonic": one, "overview": f"{mark} {chance.random()}"}),
        (
            "add_product_version",
            {"mnemonic": one, "version_label": f"{mark} {day}", "start_date": day, "end_date": day, "items": []},
        ),
        order(*chance.sample(NAMES, 2)),
        ("update_customer", {"customer_id": CUSTOMER_ID, "name": f"{mark} {chance.random()}"}),
    ]
    return chance.choice(commands)
