"""Create, update, delete customers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from contracts.customers import RESOURCE, CreateCustomer, DeleteCustomer, UpdateCustomer
from contracts.envelope import created, deleted, unchanged, updated
from contracts.errors import VersionConflictError
from contracts.text import fold_key
from handlers.context import Context
from handlers.customer import Customer, customer_id_taken, customer_not_found, customer_result, email_taken
from handlers.fields import GivenFields, are_same
from handlers.result import Failure, Result, Success
from handlers.unit_of_work import UnitOfWork

_FIELDS: Final = GivenFields(Customer)
_IMPERSONAL: Final = frozenset({"customer_id", "is_active", "expected_version"})
"""What a request may say of a customer that is not personal data."""


async def create_customer(command: CreateCustomer, uow: UnitOfWork, context: Context) -> Result:
    """201 the customer; 409 when the e-mail or the given id is taken (a deleted id stays taken)."""
    holder = await uow.customers.find_by_email(fold_key(command.email))
    if command.customer_id is not None and await uow.customers.is_id_taken(command.customer_id):
        owner = await uow.customers.find_by_id(command.customer_id)
        return Failure(customer_id_taken(command.customer_id), _spoken_of(owner, holder))
    if holder is not None:
        return Failure(email_taken(), subjects=(holder.id,))
    customer = Customer(
        id=command.customer_id or context.new_id(),
        is_active=True,
        version=1,
        created_at=context.now,
        updated_at=context.now,
        **_FIELDS.all(command),
    )
    await uow.customers.save(customer)
    return Success(created(RESOURCE, customer.id, customer_result(customer)), subjects=(customer.id,))


async def update_customer(command: UpdateCustomer, uow: UnitOfWork, context: Context) -> Result:
    """200; 404; 409 for another version or a taken e-mail; neutral when there is nothing to change."""
    customer = await uow.customers.find_by_id(command.customer_id)
    given = _FIELDS.set(command)
    holder = await uow.customers.find_by_email(fold_key(command.email)) if "email" in given else None
    subjects = _spoken_of(customer, holder)
    if customer is None:
        return Failure(customer_not_found(command.customer_id), subjects)
    if command.expected_version is not None and command.expected_version != customer.version:
        return Failure(
            VersionConflictError(
                f"{RESOURCE} '{customer.id}' has another version",
                {"expected_version": command.expected_version, "current_version": customer.version},
            ),
            subjects if _holds_personal_data(command) else (),
        )
    if are_same(customer, given):
        return Success(unchanged(RESOURCE, customer.id, customer_result(customer)), subjects)
    changed = replace(customer, version=customer.version + 1, updated_at=max(context.now, customer.updated_at), **given)
    if holder is not None and holder.id != customer.id and changed.email_key != customer.email_key:
        return Failure(email_taken(), subjects)
    await uow.customers.save(changed)
    return Success(updated(RESOURCE, customer.id, customer_result(changed)), subjects)


def _holds_personal_data(command: UpdateCustomer) -> bool:
    """Tell whether the request says more of a customer than its id."""
    return any(getattr(command, name) for name in command.model_fields_set - _IMPERSONAL)


def _spoken_of(named: Customer | None, holder: Customer | None) -> Sequence[str]:
    """Tell whose data a request may hold: that of the customer it names, and of the one who has its e-mail."""
    return list(dict.fromkeys(one.id for one in (named, holder) if one is not None))


async def delete_customer(command: DeleteCustomer, uow: UnitOfWork, _: Context) -> Result:
    """200; 404. The personal data is erased for good, from every table; the e-mail is free again."""
    customer = await uow.customers.find_by_id(command.customer_id)
    if customer is None:
        return Failure(customer_not_found(command.customer_id))
    await uow.customers.delete(customer)
    return Success(deleted(RESOURCE, customer.id), erases=(customer.id,))
