"""Workers of an older release beside ours, on one database and one Redis, as while a release is rolled out."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.benchmarks.sides import BASE, checkout
from tests.forked import ROOT
from tests.servers import Servers
from tests.system import System

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs git's history: it has the release before"),
]

ADA: Final = str(uuid.uuid4())
TOO_LATE: Final = {"error_code": "BUSINESS_RULE_VIOLATION", "details": {"mnemonic": "BOOK"}}


@pytest.fixture(scope="module")
def release_before() -> Iterator[Path]:
    """Its checkout."""
    with checkout(BASE) as folder:
        yield folder


@pytest.fixture
async def both(
    stack: Servers, database_url: str, tmp_path: Path, release_before: Path
) -> AsyncIterator[tuple[System, System]]:
    """Our workers and those of the release before; topics of their own tell whom a request is for."""
    async with (
        System(stack, database_url, logs=tmp_path) as ours,
        System(stack, database_url, logs=tmp_path, root=release_before, forks=False, judges=False) as theirs,
    ):
        await asyncio.gather(
            *(
                one.start(role, WORKER_NAME=f"{name} {role}")
                for name, one in (("ours", ours), ("theirs", theirs))
                for role in ("commands", "queries")
            )
        )
        yield ours, theirs
        assert await ours.dead_letters() == await theirs.dead_letters() == []


def order(*mnemonics: str) -> dict[str, Any]:
    """Order one of each."""
    line = {"quantity": 1, "unit_price": "1.00"}
    return {"customer_id": ADA, "lines": [line | {"mnemonic": one} for one in mnemonics]}


async def test_the_archive(both: tuple[System, System]) -> None:
    """They keep what we archive, through all their changes, but sell it; we never show it as they have cached it."""
    ours, theirs = both
    book = {"mnemonic": "BOOK"}
    await theirs.command("create_customer", {"name": "Ada", "email": "ada@example.com", "customer_id": ADA})
    for mnemonic in ("BOOK", "SONG", "TOY"):
        made = await theirs.command("create_product", {"mnemonic": mnemonic, "overview": "theirs"}, version=2)
        assert (made.envelope["statusCode"], "archived_at" in made.envelope["data"]) == (201, False)

    # What they have shown is not what we show.
    assert "archived_at" not in (await theirs.query("get_product", book)).envelope["data"]
    assert (await ours.query("get_product", book)).envelope["data"]["archived_at"] is None
    archived = (await ours.command("archive_product", book)).envelope["data"]
    assert archived["version"] == 2
    for _ in range(2):  # each of both may have cached it meanwhile
        assert (await theirs.query("get_product", book)).envelope["data"]["version"] == 2
        assert (await ours.query("get_product", book)).envelope["data"] == archived | {"versions": []}

    # They do not know of it, and sell; their changes leave it as it is.
    assert (await theirs.command("archive_product", book)).envelope["data"]["error_code"] == "UNKNOWN_KIND"
    refused = (await theirs.query("list_products", {"archived": True})).envelope
    assert (refused["statusCode"], refused["data"]["error_code"]) == (422, "VALIDATION_FAILED")
    changes: list[tuple[str, dict[str, Any]]] = [
        ("update_product", book | {"overview": "changed", "catalog": {"a": 1}}),
        ("add_product_version", book | {"version_label": "1", "start_date": "2026-01-01", "items": []}),
        ("set_validation_rules", book | {"rules": []}),
        ("update_product", book | {"overview": "again", "expected_version": 4}),
        ("place_order", order("BOOK", "SONG")),
    ]
    done = [(await theirs.command(*change)).envelope["statusCode"] for change in changes]
    assert done == [200, 201, 200, 200, 201]
    assert (await ours.command("place_order", order("SONG", "BOOK"))).envelope["data"] == TOO_LATE
    shown = (await ours.query("get_product", book)).envelope["data"]
    assert (shown["archived_at"], shown["overview"], shown["version"]) == (archived["archived_at"], "again", 5)
    assert [row[0] for row in await ours.fetch("select mnemonic from products where archived_at is not null")] == [
        "BOOK"
    ]

    # What they delete and make anew is for sale, and so is what we restore.
    await ours.command("archive_product", {"mnemonic": "TOY"})
    await theirs.command("delete_product", {"mnemonic": "TOY"})
    await theirs.command("create_product", {"mnemonic": "TOY", "overview": "anew"}, version=2)
    assert (await ours.command("place_order", order("TOY"))).envelope["statusCode"] == 201
    restored = (await ours.command("restore_product", book)).envelope["data"]
    assert (restored["archived_at"], restored["version"]) == (None, 6)
    assert (await theirs.command("place_order", order("BOOK"))).envelope["statusCode"] == 201
