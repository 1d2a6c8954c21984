"""Products in memory and in Postgres are one thing to use cases and queries: one suite for both."""

import random
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest

from contracts.products import CreateProduct
from persistence.engine import PoolSettings, create_engine
from tests.in_memory.unit_of_work import Answer, Asking, Catalogue, InMemoryCatalogue
from tests.integration.postgres_catalogue import PostgresCatalogue


@pytest.fixture(params=["memory", "postgres"])
async def catalogue(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Catalogue]:
    """An empty catalogue, of both kinds in turn."""
    if request.param == "memory":
        yield InMemoryCatalogue()
        return
    engine = create_engine(database_url, PoolSettings(), "tests")
    yield PostgresCatalogue(engine)
    await engine.dispose()


CUSTOMER_ID = "11111111-1111-7111-8111-111111111111"
CUSTOMER = ("create_customer", {"name": "N", "email": "n@example.com", "customer_id": CUSTOMER_ID})


def create(mnemonic: str, **more: object) -> Asking:
    """Make the command that creates a product."""
    return "create_product", {"mnemonic": mnemonic, "overview": "x"} | more


def update(mnemonic: str, **changes: object) -> Asking:
    """Make the command that changes a product."""
    return "update_product", {"mnemonic": mnemonic} | changes


def delete(mnemonic: str) -> Asking:
    """Make the command that deletes a product."""
    return "delete_product", {"mnemonic": mnemonic}


def archive(mnemonic: str) -> Asking:
    """Make the command that archives a product."""
    return "archive_product", {"mnemonic": mnemonic}


def restore(mnemonic: str) -> Asking:
    """Make the command that restores a product."""
    return "restore_product", {"mnemonic": mnemonic}


def add(mnemonic: str, label: str, start: str, end: str | None = None, items: int = 0) -> Asking:
    """Make the command that adds a version."""
    listed = [{"name": f"item {n}", "position": -n, "attributes": {"n": n}} for n in range(items)]
    payload = {"mnemonic": mnemonic, "version_label": label, "start_date": start, "end_date": end, "items": listed}
    return "add_product_version", payload


def end(mnemonic: str, label: str, day: str | None) -> Asking:
    """Make the command that sets the last day of a version."""
    return "end_product_version", {"mnemonic": mnemonic, "version_label": label, "end_date": day}


def rule(mnemonic: str, *required: str) -> Asking:
    """Make the command that sets a rule for each of the required fields."""
    rules = [
        {"name": f"needs {one}", "parameters": {"required": [one]}, "start_date": "2020-01-01"} for one in required
    ]
    return "set_validation_rules", {"mnemonic": mnemonic, "rules": rules}


def order(*mnemonics: str, **attributes: object) -> Asking:
    """Make the command that orders one of each product."""
    line = {"quantity": 1, "unit_price": "1.00", "attributes": attributes}
    return "place_order", {"customer_id": CUSTOMER_ID, "lines": [line | {"mnemonic": one} for one in mnemonics]}


def statuses(answers: list[Answer]) -> list[int]:
    """Take the status codes out of answers."""
    return [answer["statusCode"] for answer in answers]


async def shown(catalogue: Catalogue, mnemonic: str) -> Any:  # noqa: ANN401 - data of an envelope
    """Get a product; None where there is none."""
    answer = await catalogue.ask("get_product", {"mnemonic": mnemonic})
    return answer["data"] if answer["statusCode"] == 200 else None


async def listed(catalogue: Catalogue, kind: str = "list_products", **query: object) -> tuple[list[str], Any, Any]:
    """List mnemonics; with total_count and has_more."""
    data = (await catalogue.ask(kind, query))["data"]
    return [one["mnemonic"] for one in data["items"]], data["total_count"], data["has_more"]


async def test_what_is_saved_is_found(catalogue: Catalogue) -> None:
    """Every field comes back as it was given, in the same batch and in the next."""
    fields = {
        "is_confidential": True,
        "category": "Ü",
        "tags": ["a", "ö"],
        "catalog": {"deep": [{"x": 1.5, "y": None}], "é": "\U0001f600"},
    }
    assert {"mnemonic", "overview", *fields} == set(CreateProduct.model_fields)
    (made,) = await catalogue.apply(create("A", **fields))
    assert {name: made["data"][name] for name in fields} == fields
    assert await shown(catalogue, "A") == made["data"] | {"versions": []}
    (same,) = await catalogue.apply(update("A", **fields))
    assert (same["type"], same["data"]) == ("neutral", made["data"])
    _, changed = await catalogue.apply(create("B"), update("B", **fields))
    assert {name: changed["data"][name] for name in fields} == fields
    listed_now = (await catalogue.ask("list_products", {}))["data"]["items"]
    assert listed_now == [changed["data"], made["data"]]


async def test_later_messages_of_a_batch_see_earlier_ones(catalogue: Catalogue) -> None:
    """Create, change, version, end, rule, order and delete of one product, all in one batch."""
    answers = await catalogue.apply(
        CUSTOMER,
        create("A"),
        create("A"),
        update("A", overview="y", expected_version=1),
        add("A", "1", "2025-01-01", items=2),
        add("A", "2", "2025-06-01"),
        end("A", "1", "2025-05-31"),
        add("A", "2", "2025-06-01"),
        rule("A", "colour"),
        order("A"),
        order("A", colour="red"),
        delete("A"),
    )
    assert statuses(answers) == [201, 201, 409, 200, 201, 409, 200, 201, 200, 400, 201, 400]
    product = await shown(catalogue, "A")
    assert product["version"] == 6
    assert [(one["version_label"], one["end_date"], len(one["items"])) for one in product["versions"]] == [
        ("1", "2025-05-31", 2),
        ("2", None, 0),
    ]
    assert [item["position"] for item in product["versions"][0]["items"]] == [-1, 0]


async def test_delete_and_create_in_one_batch(catalogue: Catalogue) -> None:
    """A mnemonic that is freed and taken at once belongs to the new product, without anything of the old one's."""
    await catalogue.apply(create("A", category="OLD"), add("A", "1", "2025-01-01", items=1), rule("A", "colour"))
    old = await shown(catalogue, "A")
    answers = await catalogue.apply(
        delete("A"), create("A", category="NEW"), add("A", "1", "2025-02-01"), update("A", overview="newer")
    )
    assert statuses(answers) == [200, 201, 201, 200]
    new = await shown(catalogue, "A")
    assert new["id"] != old["id"]
    assert (new["category"], new["version"], [one["start_date"] for one in new["versions"]]) == (
        "NEW",
        3,
        ["2025-02-01"],
    )
    assert (await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {}}))["data"]["rules"] == []
    assert (await catalogue.ask("get_product", {"product_id": old["id"]}))["statusCode"] == 404
    assert await listed(catalogue) == (["A"], 1, False)


async def test_born_and_gone_in_one_batch(catalogue: Catalogue) -> None:
    """What a batch creates and deletes leaves nothing."""
    answers = await catalogue.apply(create("A"), add("A", "1", "2025-01-01", items=1), rule("A", "x"), delete("A"))
    assert statuses(answers) == [201, 201, 200, 200]
    assert await listed(catalogue) == ([], 0, False)
    assert statuses(await catalogue.apply(create("A"))) == [201]


async def test_a_failure_leaves_no_trace(catalogue: Catalogue) -> None:
    """Whatever a message did before its refusal is taken back, and its neighbours keep what they did."""
    answers = await catalogue.apply(
        create("A"),
        update("A", overview="first", expected_version=5),
        add("A", "1", "2025-01-01"),
        add("A", "2", "2025-03-01"),
        end("A", "1", "1999-01-01"),
        rule("A", "x"),
        (
            "set_validation_rules",
            {"mnemonic": "A", "rules": [{"name": "r", "parameters": {"type": 7}, "start_date": "2025-01-01"}]},
        ),
    )
    assert statuses(answers) == [201, 409, 201, 409, 422, 200, 422]
    product = await shown(catalogue, "A")
    assert (product["overview"], product["version"], len(product["versions"])) == ("x", 3, 1)
    answer = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {}})
    assert [one["name"] for one in answer["data"]["rules"]] == ["needs x"]


async def test_dates_move_within_one_batch(catalogue: Catalogue) -> None:
    """Ends that move in turn never meet each other on the way into the store."""
    await catalogue.apply(create("A"), add("A", "1", "2025-01-01", "2025-03-31"), add("A", "2", "2025-04-01"))
    answers = await catalogue.apply(
        end("A", "1", "2025-01-31"),
        add("A", "1b", "2025-02-01", "2025-03-31"),
        end("A", "2", "2025-04-30"),
        end("A", "1b", "2025-02-28"),
        add("A", "3", "2025-05-01"),
        end("A", "2", None),
        add("A", "1c", "2025-03-01", "2025-03-01"),
    )
    assert statuses(answers) == [200, 201, 200, 200, 201, 409, 201]
    assert [(one["version_label"], one["end_date"]) for one in (await shown(catalogue, "A"))["versions"]] == [
        ("1", "2025-01-31"),
        ("1b", "2025-02-28"),
        ("1c", "2025-03-01"),
        ("2", "2025-04-30"),
        ("3", None),
    ]


async def test_holds(catalogue: Catalogue) -> None:
    """Placed orders hold their products, cancelled ones do not, in the same batch and in later ones."""
    answers = await catalogue.apply(CUSTOMER, create("A"), create("B"), order("A", "B", "A"), order("A"))
    orders = [answer["data"]["id"] for answer in answers[3:]]
    assert statuses(answers) == [201, 201, 201, 201, 201]

    def cancel(order_id: str) -> Asking:
        return "cancel_order", {"customer_id": CUSTOMER_ID, "order_id": order_id}

    answers = await catalogue.apply(delete("A"), cancel(orders[0]), delete("A"), delete("B"))
    assert statuses(answers) == [400, 200, 400, 200]
    assert [answers[n]["data"]["details"]["placed_orders"] for n in (0, 2)] == [2, 1]
    assert statuses(await catalogue.apply(cancel(orders[1]), delete("A"))) == [200, 200]


async def test_import_meets_what_is_there(catalogue: Catalogue) -> None:
    """An import sees what its batch made before it, and what it makes is seen after it."""
    rows = [{"mnemonic": one, "overview": "imported"} for one in ("A", "B", "B", "C")]
    _, imported, _, again = await catalogue.apply(
        create("A"), ("import_products", {"products": rows}), delete("C"), create("C")
    )
    assert imported["data"]["processed_count"] == 2
    assert [one["row"] for one in imported["data"]["warnings"]] == [1, 3]
    assert again["statusCode"] == 201
    assert await listed(catalogue) == (["C", "B", "A"], 3, False)


async def test_pages(catalogue: Catalogue) -> None:
    """Newest first, ties by id; by number, by category; the count is of all that is listed."""
    await catalogue.apply(*(create(f"P_{n:02}", category="ODD" if n % 2 else "EVEN") for n in range(12)))
    assert await listed(catalogue, page_size=5) == ([f"P_{n:02}" for n in (11, 10, 9, 8, 7)], 12, True)
    assert await listed(catalogue, page=3, page_size=5) == (["P_01", "P_00"], 12, False)
    assert await listed(catalogue, page=4, page_size=5) == ([], 12, False)
    assert await listed(catalogue, category="ODD", page_size=4) == (["P_11", "P_09", "P_07", "P_05"], 6, True)
    assert await listed(catalogue, category="NONE") == ([], 0, False)


async def test_ties_by_id(catalogue: Catalogue) -> None:
    """Products of one moment are listed by id, the greatest first, also across pages and cursors."""
    await catalogue.apply(
        ("import_products", {"products": [{"mnemonic": f"T_{n}", "overview": "x"} for n in range(5)]})
    )
    assert (await listed(catalogue))[0] == ["T_4", "T_3", "T_2", "T_1", "T_0"]
    seen, cursor = [], None
    while True:
        page = (await catalogue.ask("search_products", {"limit": 2} | ({"cursor": cursor} if cursor else {})))["data"]
        assert page["total_count"] == 5
        seen += [one["mnemonic"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["T_4", "T_3", "T_2", "T_1", "T_0"]


async def test_search(catalogue: Catalogue) -> None:
    """Any part of a mnemonic is found, whatever its case; `%`, `_` and a backslash are ordinary characters."""
    await catalogue.apply(create("BANKING_DATA"), create("BANKINGXDATA"), create("RIVERBANK"))

    async def search(needle: str, **more: object) -> tuple[list[str], Any, Any]:
        return await listed(catalogue, "search_products", mnemonic_contains=needle, **more)

    assert await search("BANK") == (["RIVERBANK", "BANKINGXDATA", "BANKING_DATA"], 3, False)
    assert await search("bank", limit=1, offset=1) == (["BANKINGXDATA"], 3, True)
    assert await search("G_D") == (["BANKING_DATA"], 1, False)
    assert await search("_") == (["BANKING_DATA"], 1, False)
    for nothing in ("%", "\\", "B%K", "ß", "BANKING__DATA"):
        assert await search(nothing) == ([], 0, False)


async def test_find_by_days(catalogue: Catalogue) -> None:
    """Products with a version in force on any day of the range, both ends included; each product once."""
    await catalogue.apply(
        create("A"),
        create("B"),
        create("C"),
        add("A", "1", "2025-01-01", "2025-01-31"),
        add("A", "2", "2025-02-01", "2025-02-28"),
        add("B", "1", "2025-02-28"),
    )

    async def find(first: str, last: str, **more: object) -> tuple[list[str], Any, Any]:
        return await listed(catalogue, "find_products_for_date_range", start_date=first, end_date=last, **more)

    assert await find("2024-01-01", "2024-12-31") == ([], 0, False)
    assert await find("2024-01-01", "2025-01-01") == (["A"], 1, False)
    assert await find("2025-01-31", "2025-02-01") == (["A"], 1, False)
    assert await find("2025-02-28", "2025-02-28") == (["B", "A"], 2, False)
    assert await find("0001-01-01", "9999-12-31", page_size=1) == (["B"], 2, True)
    assert await find("0001-01-01", "9999-12-31", page_size=1, page=2) == (["A"], 2, False)
    assert await find("9999-12-31", "9999-12-31") == (["B"], 1, False)


async def test_the_archive_is_kept(catalogue: Catalogue) -> None:
    """What is archived is so in the next batch, whatever changes beside; in one batch the last word counts."""
    made, archived = await catalogue.apply(create("A"), archive("A"))
    assert archived["data"]["archived_at"] is not None
    again, sold, _ = await catalogue.apply(archive("A"), order("A"), update("A", overview="y", catalog={"a": 1}))
    assert (again["type"], again["data"], sold["statusCode"]) == ("neutral", archived["data"], 404)
    assert (await shown(catalogue, "A"))["archived_at"] == archived["data"]["archived_at"]
    _, _, refused, restored, placed = await catalogue.apply(
        CUSTOMER, create("B"), order("B", "A"), restore("A"), order("A")
    )
    assert (refused["data"]["details"], placed["statusCode"]) == ({"mnemonic": "A"}, 201)
    assert (restored["data"]["archived_at"], restored["data"]["version"]) == (None, 4)
    assert (await shown(catalogue, "A"))["id"] == made["data"]["id"]


async def test_lists_by_archive(catalogue: Catalogue) -> None:
    """Pages and cursors of one kind pass the other by, count exactly to a thousand, and follow each change."""
    rows = [{"mnemonic": f"P_{n}", "overview": "x", "category": "CD"[n % 2]} for n in range(12)]
    await catalogue.apply(("import_products", {"products": rows}), *(archive(f"P_{n}") for n in range(0, 12, 3)))
    archived = [f"P_{n}" for n in (9, 6, 3, 0)]
    others = [f"P_{n}" for n in range(11, -1, -1) if n % 3]
    everything = (await listed(catalogue, page_size=100))[0]
    assert sorted(everything) == sorted(archived + others)
    for is_archived, names in ((True, archived), (False, others)):
        assert (await listed(catalogue, archived=is_archived, page_size=100))[1:] == (len(names), False)
        seen, query = [], {"archived": is_archived, "page_size": 3}
        while query:
            data = (await catalogue.ask("list_products", query))["data"]
            seen += [one["mnemonic"] for one in data["items"]]
            assert data["total_count"] == len(names)
            query = data["has_more"] and query | {"cursor": data["next_cursor"]}
        assert seen == [one for one in everything if one in names]
        for number in (1, 2, 3):
            numbered = (await listed(catalogue, archived=is_archived, page_size=3, page=number))[0]
            assert numbered == seen[3 * number - 3 : 3 * number]
        by_category = await listed(catalogue, archived=is_archived, category="C")
        assert by_category[0] == [one for one in seen if int(one[2:]) % 2 == 0]
        assert by_category[1] == len(by_category[0])
    await catalogue.apply(restore("P_0"), archive("P_1"), delete("P_3"))
    assert set((await listed(catalogue, archived=True))[0]) == {"P_1", "P_6", "P_9"}


async def test_filtered_lists_are_counted_to_a_thousand(catalogue: Catalogue) -> None:
    """Up to 1,000 the count of a filtered list is exact, beyond it null; the count of all is always exact."""
    rows = [{"mnemonic": f"P_{n}", "overview": "x", "category": "C"} for n in range(1000)]
    await catalogue.apply(("import_products", {"products": rows}))
    assert (await listed(catalogue, category="C"))[1:] == (1000, True)
    await catalogue.apply(create("ONE_MORE", category="C"))
    assert (await listed(catalogue, category="C"))[1:] == (None, True)
    assert (await listed(catalogue, archived=False))[1:] == (None, True)
    assert (await listed(catalogue, archived=True))[1:] == (0, False)
    assert (await listed(catalogue, "search_products", mnemonic_contains="P_"))[1:] == (1000, True)
    assert (await listed(catalogue))[1:] == (1001, True)


@pytest.mark.parametrize("seed", range(6))
async def test_random_batches(database_url: str, seed: int) -> None:
    """The same random batches bring both to the same answers, and to the same state after each."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    real, model = PostgresCatalogue(engine), InMemoryCatalogue()
    chance = random.Random(seed)
    orders: list[str] = []
    for catalogue in (real, model):
        await catalogue.apply(CUSTOMER)
    for _ in range(12):
        batch = [_any_command(chance, orders) for _ in range(chance.randint(1, 12))]
        answers = await real.apply(*batch)
        assert answers == await model.apply(*batch), batch
        orders += [
            answer["data"]["id"]
            for (kind, _), answer in zip(batch, answers, strict=True)
            if kind == "place_order" and answer["statusCode"] == 201
        ]
        queries: list[Asking] = [
            *(("get_product", {"mnemonic": one}) for one in NAMES),
            *(("validate_product_data", {"mnemonic": one, "data": {"x": 1}}) for one in NAMES),
            ("list_products", {"page_size": 2}),
            ("list_products", {"category": "C"}),
            ("list_products", {"archived": True}),
            ("list_products", {"archived": False, "category": "C"}),
            ("find_products_for_date_range", {"start_date": "2025-01-10", "end_date": "2025-01-12"}),
        ]
        for query in queries:
            assert await real.ask(*query) == await model.ask(*query), (batch, query)
    await engine.dispose()


NAMES = ("A", "B", "C")


def _any_command(chance: random.Random, orders: list[str]) -> Asking:
    one = chance.choice(NAMES)
    day = date(2025, 1, 1) + timedelta(days=chance.randrange(30))
    last = chance.choice([None, (day + timedelta(days=chance.randrange(-1, 10))).isoformat()])
    label = chance.choice("12345")
    commands: list[Asking] = [
        create(one, category=chance.choice(["C", None]), catalog={"n": chance.randrange(3)}),
        create(one),
        update(one, overview=chance.choice("xyz"), expected_version=chance.choice([None, 1, 2])),
        update(one, catalog=chance.choice([None, {"n": 1}, {"n": True}]), tags=chance.choice([None, ["t"]])),
        delete(one),
        archive(one),
        restore(one),
        add(one, label, day.isoformat(), last, items=chance.randrange(3)),
        add(one, label, day.isoformat(), last),
        end(one, label, last),
        rule(one, *chance.sample("xyz", chance.randrange(3))),
        order(*chance.sample(NAMES, chance.randint(1, 2)), **dict.fromkeys(chance.sample("xyz", 2), 1)),
        ("import_products", {"products": [{"mnemonic": name, "overview": "i"} for name in ("A", "C", "bad")]}),
    ]
    if orders:
        commands.append(("cancel_order", {"customer_id": CUSTOMER_ID, "order_id": chance.choice(orders)}))
    return chance.choice(commands)
