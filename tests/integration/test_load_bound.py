"""A batch loads 16 MiB at most, whatever its messages name; a lone one what it needs, and all of them are answered."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import pytest

from persistence import load_bound, unit_of_work
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.faults import TooMuchAtOnceError
from persistence.load_bound import LOADED_AT_ONCE
from persistence.standing import read_standing
from tests.direct import Arrived, Direct
from tests.in_memory.unit_of_work import Asking, read
from tests.integration.postgres_catalogue import declared

MANY: Final = 90
BUYER: Final = "11111111-1111-7111-8111-111111111111"
LINE: Final = {"mnemonic": "P1", "quantity": 1, "unit_price": "1.00"}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on a database with large rows: of each 90, and all of a kind together more than may be loaded."""
    made = create_engine(database_url, PoolSettings(size=4, max_overflow=4), "tests")
    async with connected(made) as connection:
        await connection.execute(f"""
            insert into customers (id, name, name_key, email, email_key)
                values ('{BUYER}', 'N', 'n', 'e@x', 'e@x');
            insert into products (id, mnemonic, overview, old_catalog_field, answer_bytes, answer_bytes_version)
                select gen_random_uuid(), 'P' || n, '', jsonb_build_object('x', repeat('a', 230000)), 230200, 1
                from generate_series(1, {MANY}) as n;
            insert into product_versions (id, product_id, version_label, start_date)
                select gen_random_uuid(), id, '1', '2020-01-01' from products;
            insert into product_version_items (version_id, ordinal, name, position, attributes)
                select v.id, n, 'n', n, '{{"x": 1}}' from product_versions v, generate_series(0, 199) as n;
            insert into validation_instances (product_id, ordinal, name, parameters, start_date)
                select id, n, 'r' || n, jsonb_build_object('description', repeat('a', 16000)), '2020-01-01'
                from products, generate_series(0, 14) as n;
            insert into orders (id, customer_id, status, lines, total_amount)
                select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{BUYER}', 'cancelled',
                  jsonb_build_array(jsonb_build_object('product_id', '{BUYER}', 'mnemonic', 'P1', 'quantity', 1,
                    'unit_price', '1.00', 'attributes', jsonb_build_object('x', repeat('a', 230000)))), 1
                from generate_series(1, {MANY}) as n""")
    yield made
    await made.dispose()


DECLARING: Final[Mapping[str, Callable[[int], Asking]]] = {
    "catalogues": lambda n: ("update_product", {"mnemonic": f"P{n}", "overview": "x"}),
    "items of versions": lambda n: (
        "end_product_version",
        {"mnemonic": f"P{n}", "version_label": "1", "end_date": "2030-01-01"},
    ),
    "rules that are replaced": lambda n: ("set_validation_rules", {"mnemonic": f"P{n}", "rules": []}),
    "rules of what is ordered": lambda n: (
        "place_order",
        {"customer_id": BUYER, "lines": [LINE | {"mnemonic": f"P{n}"}]},
    ),
    "lines of orders": lambda n: (
        "cancel_order",
        {"customer_id": BUYER, "order_id": f"00000000-0000-4000-8000-{n:012}"},
    ),
}


@pytest.mark.parametrize("named", DECLARING)
async def test_a_large_batch_is_halved_until_it_fits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """All are applied, in their order, in several transactions; none is blamed."""
    commits = []
    commit = unit_of_work.BatchUnitOfWork.commit

    async def counted(uow: Any) -> None:  # noqa: ANN401
        await commit(uow)
        commits.append(uow)

    monkeypatch.setattr(unit_of_work.BatchUnitOfWork, "commit", counted)
    direct = Direct(engine)
    records: list[Arrived] = []
    for number in range(1, MANY + 1):
        kind, payload = DECLARING[named](number)
        records.append(direct.record(kind, payload, message_id=f"m{number}"))
    answers = await direct.decide(*records)
    assert {envelope["statusCode"] for envelope, _, _ in answers} <= {200, 201}
    assert 2 <= len(commits) <= 8
    assert direct.letters.messages == []


async def test_sizes_that_are_not_known_are_measured_for_a_few(engine: Engine) -> None:
    """What has to be measured counts as well."""
    async with connected(engine) as connection:
        await connection.execute("update products set answer_bytes_version = null, old_catalog_field = '{}'")
        standing = await read_standing(connection)
    commands = [DECLARING["catalogues"](number) for number in range(1, MANY + 1)]
    for number, fits in ((MANY, False), (MANY // 2, True), (1, True)):
        keys = declared(read(command) for command in commands[:number])
        async with unit_of_work.begin(engine) as uow:
            if fits:
                await uow.load(keys, standing)
                continue
            with pytest.raises(TooMuchAtOnceError):
                await uow.load(keys, standing)


async def test_a_lone_message_and_a_small_batch_are_not_weighed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message has to be decided whatever it loads; and a batch of ordinary size costs no statement more."""
    monkeypatch.setattr(load_bound, "_weigh", lambda _: "select 1 / 0")
    direct = Direct(engine)
    few = LOADED_AT_ONCE // load_bound.LARGEST_ROW
    for number in (1, few):
        records = [
            direct.record(*DECLARING["catalogues"](n), message_id=str(uuid.uuid4())) for n in range(1, number + 1)
        ]
        assert [envelope["statusCode"] for envelope, _, _ in await direct.decide(*records)] == [200] * number
