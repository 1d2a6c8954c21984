"""The use cases of commands: which function serves which kind."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from handlers.commands import backfills, customers, orders, products
from handlers.context import Context
from handlers.result import Result
from handlers.rules import RuleBook
from handlers.unit_of_work import UnitOfWork

UseCase = Callable[[Any, UnitOfWork, Context], Awaitable[Result]]
Preparation = Callable[[Any, RuleBook], Awaitable[None]]
"""What a use case needs much CPU for and nothing of the database: done before the transaction, and remembered."""

COMMANDS: Mapping[str, UseCase] = {
    "create_customer": customers.create_customer,
    "update_customer": customers.update_customer,
    "delete_customer": customers.delete_customer,
    "create_product": products.create_product,
    "update_product": products.update_product,
    "delete_product": products.delete_product,
    "archive_product": products.archive_product,
    "restore_product": products.restore_product,
    "add_product_version": products.add_product_version,
    "end_product_version": products.end_product_version,
    "set_validation_rules": products.set_validation_rules,
    "import_products": products.import_products,
    "place_order": orders.place_order,
    "cancel_order": orders.cancel_order,
    "start_backfill": backfills.start_backfill,
    "pause_backfill": backfills.pause_backfill,
    "resume_backfill": backfills.resume_backfill,
    "cancel_backfill": backfills.cancel_backfill,
    "set_backfill_rate": backfills.set_backfill_rate,
    "retry_backfill": backfills.retry_backfill,
    "verify_backfill": backfills.verify_backfill,
    "advance_phase": backfills.advance_phase,
}

PREPARATIONS: Mapping[str, Preparation] = {"set_validation_rules": products.prepare_validation_rules}
