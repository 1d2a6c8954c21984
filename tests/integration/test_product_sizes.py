"""A product is at most 768 KiB as `get_product` shows it, whatever makes it larger and whoever kept it before."""

import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import fields
from datetime import date, timedelta
from typing import Any, Final

import orjson
import pytest

from contracts.products import GetProduct, ProductResult
from handlers.context import Context
from handlers.product_size import MAX_PRODUCT_BYTES, MAX_SHOWN_BYTES
from handlers.queries.asked import Asked
from handlers.queries.products import get_products
from handlers.result import Success
from persistence import product_queries
from persistence.cache import RedisCache
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.redis_client import create_redis
from tests.in_memory.unit_of_work import NOW, Asking, Catalogue, InMemoryCatalogue
from tests.integration.postgres_catalogue import PostgresCatalogue
from tests.integration.test_product_repository import (
    archive,
    create,
    delete,
    end,
    restore,
    rule,
    statuses,
    update,
)
from tests.servers import Servers
from workers.contract.compatibility import releases

FIRST_DAY: Final = date(2020, 1, 1)
SHOWN_FIRST: Final = releases()["1.0.0"]["kinds"]["get_product"]["data"]["properties"]
LATER: Final = [one.name for one in fields(ProductResult) if one.name not in SHOWN_FIRST]
"""What the release before neither shows nor measures; columns of the same names."""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on an empty, migrated database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


@pytest.fixture(params=["memory", "postgres"])
async def catalogue(request: pytest.FixtureRequest, engine: Engine) -> Catalogue:
    """An empty catalogue, of both kinds in turn."""
    return InMemoryCatalogue() if request.param == "memory" else PostgresCatalogue(engine)


@pytest.fixture
def postgres(engine: Engine) -> PostgresCatalogue:
    """An empty catalogue in Postgres."""
    return PostgresCatalogue(engine)


def add(mnemonic: str, number: int, items: list[dict[str, object]], last: int | None = 0) -> Asking:
    """Make the command that adds a version for a day of its own; without end for None."""
    day = FIRST_DAY + timedelta(days=10 * number)
    until = None if last is None else (day + timedelta(days=last)).isoformat()
    payload = {"mnemonic": mnemonic, "version_label": str(number), "start_date": day.isoformat(), "end_date": until}
    return "add_product_version", payload | {"items": items}


def item(size: int) -> dict[str, object]:
    """Make an item of so many bytes."""
    bare = {"name": "n", "position": 1, "attributes": {"x": ""}}
    return bare | {"attributes": {"x": "a" * (size - len(orjson.dumps(bare)))}}


async def shown(catalogue: Catalogue, mnemonic: str) -> Mapping[str, Any]:
    """Get a product."""
    data: Mapping[str, Any] = (await catalogue.ask("get_product", {"mnemonic": mnemonic}))["data"]
    return data


async def size(catalogue: Catalogue, mnemonic: str = "A") -> int:
    """Measure a product as it is answered."""
    return len(orjson.dumps(await shown(catalogue, mnemonic)))


async def kept(catalogue: PostgresCatalogue, mnemonic: str = "A") -> int | None:
    """Read the size that is kept, with what the release before leaves out of it; None where it is not known."""
    async with connected(catalogue.engine) as connection:
        row = await connection.fetchrow(
            f"select answer_bytes, {', '.join(LATER)} from products"
            " where mnemonic = $1 and answer_bytes_version = version",
            mnemonic,
        )
    if row is None:
        return None
    left_out = orjson.dumps({name: row[name] for name in LATER}, option=orjson.OPT_UTC_Z)
    return int(row["answer_bytes"]) + len(left_out) - len(b"{}") + len(b",")


async def fill(catalogue: Catalogue, to: int) -> None:
    """Make a product of two versions that takes up exactly so many bytes; the second one has no end."""
    made = await catalogue.apply(
        create("BARE"), add("BARE", 2, [], None), create("A"), add("A", 1, [item(2_000)] * 200)
    )
    left = to - await size(catalogue) - len(orjson.dumps(made[1]["data"])) - 1
    count = left // 2_001
    last = left - (count - 1) * 2_001
    sizes = [*[2_000] * (count - 1), last // 2, last - last // 2 - 1]
    assert statuses(await catalogue.apply(add("A", 2, [item(one) for one in sizes], None))) == [201]
    assert await size(catalogue) == to


GROWING: Final[Mapping[str, Callable[[], Asking]]] = {
    "a version": lambda: add("A", 0, []),
    "a version with items": lambda: add("A", 0, [item(100)]),
    "a larger catalogue": lambda: update("A", catalog={"x": "y"}),
    "a longer overview": lambda: update("A", overview="xy"),
    "quotes, which are escaped": lambda: update("A", overview='"'),
    "a category": lambda: update("A", category="category"),
    "tags": lambda: update("A", tags=["t"]),
    "an end where there was none": lambda: end("A", "2", "2099-12-31"),
    "a number that is kept with all its digits": lambda: update("A", catalog={"x": 1e16}),
}


async def test_nothing_makes_a_product_too_large(catalogue: Catalogue) -> None:
    """At the limit each command that adds a byte is refused with limit and size, and leaves no trace."""
    await fill(catalogue, MAX_PRODUCT_BYTES)
    before = await shown(catalogue, "A")
    for growing, command in GROWING.items():
        (answer,) = await catalogue.apply(command())
        assert (answer["statusCode"], answer["data"].get("error_code")) == (400, "BUSINESS_RULE_VIOLATION"), growing
        details = answer["data"]["details"]
        assert details["limit_bytes"] == MAX_PRODUCT_BYTES < details["product_bytes"]
        assert str(MAX_PRODUCT_BYTES) in answer["message"]
    assert await shown(catalogue, "A") == before


async def test_what_does_not_make_it_larger_goes_on_at_the_limit(catalogue: Catalogue) -> None:
    """Rules, which are not shown, other fields of the same length, and less of anything are accepted."""
    await fill(catalogue, MAX_PRODUCT_BYTES)
    answers = await catalogue.apply(
        rule("A", "colour"), update("A", overview="y"), update("A", overview=""), update("A", overview="z")
    )
    assert statuses(answers) == [200, 200, 200, 200]
    assert await size(catalogue) == MAX_PRODUCT_BYTES


async def test_a_product_at_the_limit_is_archived_and_restored(catalogue: Catalogue) -> None:
    """Since when it is archived is no more what makes it larger than the time of its update; other bytes still are."""
    await fill(catalogue, MAX_PRODUCT_BYTES)
    answers = await catalogue.apply(
        archive("A"), update("A", overview="y"), update("A", overview="yz"), update("A", overview=""), restore("A"),
        update("A", overview="z"), update("A", overview="zz"),
    )  # fmt: skip
    assert statuses(answers) == [200, 200, 400, 200, 200, 200, 400]
    assert await size(catalogue) == MAX_PRODUCT_BYTES


async def test_both_releases_mean_the_same_by_a_size(postgres: PostgresCatalogue) -> None:
    """What the first release keeps, it measures without the fields that came later: so does this one."""
    await postgres.apply(create("A"), add("A", 1, [item(200)]))
    without = (await size(postgres)) - sum(len(f'"{name}":null,') for name in LATER)
    for command in (archive("A"), restore("A"), archive("A")):
        await postgres.apply(command)
        async with connected(postgres.engine) as connection:
            assert await connection.fetchval("select answer_bytes from products") == without
        assert await kept(postgres) == await size(postgres)


async def test_many_additions_in_one_batch_are_added_up(catalogue: Catalogue) -> None:
    """Of ten versions of 100 KB in one batch the first seven fit; a smaller one after them does as well."""
    versions = [add("A", number, [item(2_000)] * 50) for number in range(10)]
    answers = await catalogue.apply(create("A"), *versions, add("A", 10, [item(2_000)]), update("A", overview=""))
    assert statuses(answers) == [201, *[201] * 7, *[400] * 3, 201, 200]
    assert len((await shown(catalogue, "A"))["versions"]) == 8
    assert await size(catalogue) <= MAX_PRODUCT_BYTES


@pytest.mark.parametrize("seed", range(3))
async def test_the_size_that_is_kept_is_that_of_the_answer(postgres: PostgresCatalogue, seed: int) -> None:
    """Whatever a batch does to a product, refused commands included, to the byte."""
    chance = random.Random(seed)
    values = ["é\U0001f600", '"\\', 1.0, 1e16, -3e17, 2.5e18, 1e21, 1e-7, 0.1, [1e19, None], {"deep": [True, {}]}, 7]

    def attributes() -> dict[str, object]:
        return {f"k{n}": chance.choice(values) for n in range(chance.randrange(4))}

    def command() -> Asking:
        number = chance.randrange(40)
        items = [
            {"name": chance.choice(["n", "ü", '"']), "position": chance.randrange(-9, 99), "attributes": attributes()}
            for _ in range(chance.randrange(4))
        ]
        makers: list[Callable[[], Asking]] = [
            lambda: add("A", number, items, chance.choice([0, 3, None])),
            lambda: add("A", number, items),
            lambda: end("A", str(number), chance.choice([None, "2021-01-01", "2020-03-05"])),
            lambda: update("A", overview=chance.choice(["", "x" * 90, '"ü'])),
            lambda: update("A", catalog=chance.choice([None, attributes()])),
            lambda: update("A", category=chance.choice([None, "ö"]), tags=chance.choice([[], ["a", "b"]])),
            lambda: rule("A", str(number)),
            lambda: create("A", catalog=attributes()),
            lambda: delete("A"),
            lambda: archive("A"),
            lambda: restore("A"),
        ]
        return chance.choice(makers)()

    async with connected(postgres.engine) as connection:
        await connection.execute("update schema_changes set phase = 'reading_new'")  # what is kept as jsonb is shown
    for _ in range(12):
        await postgres.apply(create("A"), *[command() for _ in range(chance.randrange(1, 12))], create("A"))
        assert await kept(postgres) == await size(postgres)


async def test_a_write_of_the_release_before_has_the_size_measured_again(postgres: PostgresCatalogue) -> None:
    """It adds what it likes and raises the version alone; the next command that may make it larger measures."""
    await fill(postgres, MAX_PRODUCT_BYTES - 3_000)
    await older(postgres, "A", version=9, items=1)
    assert await kept(postgres) is None

    answers = await postgres.apply(add("A", 0, [item(2_000)]), add("A", -1, [item(200)]), rule("A", "x"))

    assert statuses(answers) == [400, 201, 200]
    assert await kept(postgres) == await size(postgres)


async def older(catalogue: PostgresCatalogue, mnemonic: str, *, version: int, items: int, versions: int = 1) -> None:
    """Add versions of items of 2 KB each as a release does that keeps no size; the product may be there or not."""
    async with connected(catalogue.engine) as connection:
        await connection.execute(
            """
            insert into products (id, mnemonic, overview) values (gen_random_uuid(), $1, '') on conflict do nothing
            """,
            mnemonic,
        )
        await connection.execute(
            """
            with changed as (update products set version = version + 1 where mnemonic = $1 returning id),
            made as (
                insert into product_versions (id, product_id, version_label, start_date, end_date)
                select gen_random_uuid(), id, 'old ' || n, date '1990-01-01' + n, date '1990-01-01' + n
                from changed, generate_series($2::int, $2 + $3 - 1) as n returning id)
            insert into product_version_items (version_id, ordinal, name, position, attributes)
            select id, n, 'n', n, jsonb_build_object('x', repeat('a', 1950)) from made, generate_series(0, $4 - 1) as n
            """,
            mnemonic,
            version,
            versions,
            items,
        )


async def test_an_older_larger_product_may_only_shrink(postgres: PostgresCatalogue) -> None:
    """Above 768 KiB it is answered while it fits a reply; its catalogue may become smaller, nothing larger."""
    await postgres.apply(create("A", catalog={"x": "a" * 50_000}))
    await older(postgres, "A", version=1, items=195, versions=2)
    large = await size(postgres)
    assert MAX_PRODUCT_BYTES < large <= MAX_SHOWN_BYTES

    answers = await postgres.apply(
        add("A", 3, []), update("A", overview="longer"), rule("A", "x"), update("A", catalog={"x": "a" * 40_000})
    )

    assert statuses(answers) == [400, 400, 200, 200]
    assert await size(postgres) == large - 10_000 == await kept(postgres)
    (answer,) = await postgres.apply(update("A", catalog={"x": "a" * 40_001}))
    assert (answer["statusCode"], answer["data"]["details"]["product_bytes"]) == (400, large - 10_000 + 1)


@pytest.mark.parametrize(
    ("versions", "items"), [(3, 190), (200, 9), (6, 200), (150, 100)], ids=["1 MB", "3.6 MB", "2.4 MB", "30 MB"]
)
@pytest.mark.parametrize("by", ["mnemonic", "product_id"])
async def test_a_product_beyond_a_reply_is_not_loaded(
    postgres: PostgresCatalogue, versions: int, items: int, by: str
) -> None:
    """It is measured once; from then on it costs a row. The remedies work: it is deleted, and made anew."""
    await older(postgres, "A", version=1, items=items, versions=versions)
    async with connected(postgres.engine) as connection:
        product_id = await connection.fetchval("select id::text from products where mnemonic = 'A'")
    asking = {"mnemonic": "A"} if by == "mnemonic" else {"product_id": product_id}

    first = await postgres.ask("get_product", asking)
    measured = await kept(postgres)
    assert measured is not None
    assert measured > MAX_SHOWN_BYTES
    assert (first["statusCode"], first["data"]["error_code"]) == (413, "RESPONSE_TOO_LARGE")
    assert first["data"]["details"]["response_bytes"] == measured
    assert abs(measured - versions * items * 2_000) < versions * (200 + items * 20)

    async with connected(postgres.engine) as connection:
        await connection.execute("delete from product_version_items")  # nobody looks there any more
    assert await postgres.ask("get_product", asking) == first


async def test_a_too_large_product_is_deleted_and_made_anew(postgres: PostgresCatalogue) -> None:
    """The remedy of the 413."""
    await older(postgres, "A", version=1, items=200, versions=5)
    assert statuses(await postgres.apply(delete("A"), create("A"), add("A", 1, [item(100)]))) == [200, 201, 201]
    assert await size(postgres) == await kept(postgres)


async def test_a_large_product_that_fits_after_all_is_shown(postgres: PostgresCatalogue) -> None:
    """A guess that is too high (so many blanks and digits) costs a measurement, and no answer."""
    digits = [1e30] * 300
    await postgres.apply(create("A"), add("A", 1, [{"name": "n", "position": 1, "attributes": {"x": digits}}] * 190))
    async with connected(postgres.engine) as connection:
        await connection.execute("update products set answer_bytes_version = null")
    before = await size(postgres)
    assert await kept(postgres) == before < MAX_SHOWN_BYTES


@pytest.mark.parametrize("cached", [False, True])
async def test_many_large_products_are_loaded_a_few_at_a_time(engine: Engine, stack: Servers, cached: bool) -> None:
    """Of many queries for 700 KB each, the first ones are answered; the others are asked again, and answered."""
    cache = RedisCache(create_redis(stack.env.redis_url), engine)
    postgres = PostgresCatalogue(engine, cache)
    names = [f"P{secrets.token_hex(8).upper()}" for _ in range(14)]
    for name in names:
        await older(postgres, name, version=1, items=175, versions=2)
        if cached:
            await shown(postgres, name)
    left = [Asked(GetProduct(mnemonic=name), Context(NOW, str, "caller")) for name in names]
    rounds = []
    while left:
        answers = await get_products(left, postgres.readers)
        assert answers
        for one, answer in zip(left, answers, strict=False):
            assert isinstance(answer, Success)
            assert orjson.loads(answer.value.encode())["data"]["mnemonic"] == one.query.mnemonic
        rounds.append(len(answers))
        left = left[len(answers) :]
    assert max(rounds) * 700_000 < product_queries.BYTES_AT_ONCE + 1_000_000
    assert len(rounds) == 2
    await cache.close()
