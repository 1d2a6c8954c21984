"""The database against the replies: what callers were told is what is stored, and what is kept beside it follows."""

from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg
import orjson

from tests import read_models
from tests.system import System
from workers.verify.ledger import Deviation, Ledger


class Inspector:
    """Looks once everything is answered, before the run's customers are deleted. Nothing may be written meanwhile."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def __call__(self, ledger: Ledger, run: str) -> list[Deviation]:
        """Name everything in which the database and the replies of a run differ."""
        connection = await asyncpg.connect(self._system.database_url)
        try:
            outcomes = {
                row["message_id"]: bytes(row["envelope"])
                for row in await connection.fetch(
                    "select message_id, envelope from outcomes where message_id like $1 and envelope is not null",
                    f"v-{run}-%",
                )
            }
            keys = sorted({sent.key for sent in ledger._sent.values()})
            customers = {
                row["id"]: (row["version"], row["name"])
                for row in await connection.fetch(
                    "select id::text, version, name from customers where id = any($1::text[]::uuid[])", keys
                )
            }
            orders = {
                row["id"]: row["status"]
                for row in await connection.fetch(
                    "select id::text, status from orders where customer_id = any($1::text[]::uuid[])", keys
                )
            }
            differences = await read_models.differences(connection)
        finally:
            await connection.close()
        return [
            *_outcomes(ledger, outcomes),
            *_customers(ledger, customers),
            *_orders(ledger, orders),
            *(
                Deviation("changed", "", f"{what} is kept as {kept}, but it is {found}")
                for what, kept, found in differences
            ),
        ]


def _outcomes(ledger: Ledger, outcomes: Mapping[str, bytes]) -> Iterator[Deviation]:
    """Each stored answer is the stored outcome, byte for byte, and no outcome is without its answer."""
    for sent in ledger._sent.values():
        stored = outcomes.get(sent.message_id)
        if stored is not None and sent.stored != {stored}:
            yield Deviation("lost", sent.message_id, f"{sent.kind}: its outcome is stored, its answers are others")
        if stored is None and sent.stored:
            yield Deviation("wrong", sent.message_id, f"{sent.kind}: answered by an outcome that is not stored")
    for message_id in outcomes.keys() - {sent.message_id for sent in ledger._sent.values()}:
        yield Deviation("wrong", message_id, "an outcome that nobody asked for")


def _customers(ledger: Ledger, customers: Mapping[str, tuple[int, str]]) -> Iterator[Deviation]:
    """A customer is as the newest of its replies says."""
    told: dict[str, tuple[int, str]] = {}
    for data in _successes(ledger, "create_customer", "update_customer"):
        told[data["id"]] = max((data["version"], data["name"]), told.get(data["id"], (0, "")))
    for customer_id in sorted(told.keys() | customers.keys()):
        if told.get(customer_id) != customers.get(customer_id):
            detail = f"told as {told.get(customer_id)}, stored as {customers.get(customer_id)}"
            yield Deviation("doubled", "", f"customer {customer_id}: {detail}")


def _orders(ledger: Ledger, orders: Mapping[str, str]) -> Iterator[Deviation]:
    """An order is there if its creation was answered so, and cancelled if that was."""
    told: dict[str, str] = {}
    for kind in ("place_order", "cancel_order"):
        told |= {data["id"]: data["status"] for data in _successes(ledger, kind)}
    for order_id in sorted(told.keys() | orders.keys()):
        if told.get(order_id) != orders.get(order_id):
            detail = f"told as {told.get(order_id)}, stored as {orders.get(order_id)}"
            yield Deviation("doubled", "", f"order {order_id}: {detail}")


def _successes(ledger: Ledger, *kinds: str) -> Iterator[dict[str, Any]]:
    for sent in ledger._sent.values():
        for body in sent.stored if sent.kind in kinds else ():
            envelope = orjson.loads(body)
            if envelope["type"] in {"success", "neutral"}:
                yield envelope["data"]
