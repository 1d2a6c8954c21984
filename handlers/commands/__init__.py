"""The use cases of commands: which function serves which kind."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from handlers.commands import customers, orders
from handlers.context import Context
from handlers.result import Result
from handlers.unit_of_work import UnitOfWork

UseCase = Callable[[Any, UnitOfWork, Context], Awaitable[Result]]

COMMANDS: Mapping[str, UseCase] = {
    "create_customer": customers.create_customer,
    "update_customer": customers.update_customer,
    "delete_customer": customers.delete_customer,
    "place_order": orders.place_order,
    "cancel_order": orders.cancel_order,
}
