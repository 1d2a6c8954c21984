"""Create, update, archive, delete and import products; their versions and rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from contracts import messages
from contracts.envelope import Envelope, Warnings, created, deleted, partial, unchanged, updated
from contracts.errors import (
    BusinessRuleError,
    BusinessRuleViolationError,
    ValidationFailedError,
    VersionConflictError,
)
from contracts.products import (
    IMPORT_ACTION,
    MAX_VERSIONS,
    RESOURCE,
    VERSION_RESOURCE,
    AddProductVersion,
    ArchiveProduct,
    BadRow,
    CreateProduct,
    DeleteProduct,
    EndProductVersion,
    ImportProducts,
    ProductChange,
    RefusedRow,
    RestoreProduct,
    SetValidationRules,
    UpdateProduct,
)
from handlers.context import Context
from handlers.fields import GivenFields, are_same
from handlers.json_value import same_json
from handlers.product import (
    Item,
    Product,
    ProductVersion,
    Rule,
    mnemonic_taken,
    overlapped_by,
    product_not_found,
    product_result,
    product_rules_result,
    product_version_result,
    version_label_taken,
    version_not_found,
    version_overlaps,
)
from handlers.product_size import MAX_PRODUCT_BYTES, product_too_large, stamp_bytes
from handlers.result import Failure, Result, Success
from handlers.rules import RuleBook
from handlers.unit_of_work import UnitOfWork

_FIELDS: Final = GivenFields(Product)


def _new(command: CreateProduct, context: Context) -> Product:
    given = _FIELDS.all(command)
    return Product(id=context.new_id(), version=1, created_at=context.now, updated_at=context.now, **given)


def _touched(product: Product, context: Context, **changes: Any) -> Product:  # noqa: ANN401 - fields of a product
    """Make changes, and count them as one."""
    return replace(product, version=product.version + 1, updated_at=max(context.now, product.updated_at), **changes)


async def create_product(command: CreateProduct, uow: UnitOfWork, context: Context) -> Result:
    """201 the product; 409 when the mnemonic is taken."""
    if await uow.products.find(command.mnemonic) is not None:
        return Failure(mnemonic_taken(command.mnemonic))
    product = _new(command, context)
    await uow.products.save(product)
    return Success(created(RESOURCE, product.mnemonic, product_result(product)))


Changes = Callable[[Product], Mapping[str, Any] | Failure]
"""Says which fields of a product are changed, and to what; or why they cannot be."""


async def update_product(command: UpdateProduct, uow: UnitOfWork, context: Context) -> Result:
    """200; 404; 409 for another version; 400 beyond the size of a product; neutral when there is nothing to change."""
    return await _change(command, uow, context, lambda _: _FIELDS.set(command), grows=True)


async def _change(
    command: UpdateProduct | ProductChange, uow: UnitOfWork, context: Context, changes: Changes, *, grows: bool = False
) -> Result:
    """Change a product, as 404, 409 and neutral have it; what it `grows` by is bounded, and has to be declared."""
    product = await uow.products.find(command.mnemonic)
    if product is None:
        return Failure(product_not_found(command.mnemonic))
    if command.expected_version not in {None, product.version}:
        return Failure(
            VersionConflictError(
                f"{RESOURCE} '{product.mnemonic}' has another version",
                {"expected_version": command.expected_version, "current_version": product.version},
            )
        )
    given = changes(product)
    if isinstance(given, Failure):
        return given
    if are_same(product, given):
        return Success(unchanged(RESOURCE, product.mnemonic, product_result(product)))
    changed = _touched(product, context, **given)
    size = await uow.products.size_of(product) if grows else 0
    await uow.products.save(changed)
    done = Success(updated(RESOURCE, product.mnemonic, product_result(changed)))
    return await _unless_too_large(product, size, changed, uow, done) if grows else done


async def _unless_too_large(
    before: Product, size_before: int, after: Product, uow: UnitOfWork, done: Success
) -> Result:
    """Refuse what made a product larger than it may be; one that was larger already may become smaller.

    What every change writes, the version's number and the time, is not what makes it larger.
    """
    size = await uow.products.size_of(after)
    has_grown = size - stamp_bytes(after) > size_before - stamp_bytes(before)
    return Failure(product_too_large(after, size)) if size > MAX_PRODUCT_BYTES and has_grown else done


async def delete_product(command: DeleteProduct, uow: UnitOfWork, _: Context) -> Result:
    """200; 404; 400 while a placed order refers to it."""
    product = await uow.products.find(command.mnemonic)
    if product is None:
        return Failure(product_not_found(command.mnemonic))
    holds = await uow.products.count_holds(product)
    if holds > 0:
        return Failure(
            BusinessRuleViolationError(
                f"{RESOURCE} '{product.mnemonic}' cannot be deleted: placed orders refer to it",
                {"mnemonic": product.mnemonic, "placed_orders": holds},
            )
        )
    await uow.products.delete(product)
    return Success(deleted(RESOURCE, product.mnemonic))


async def archive_product(command: ArchiveProduct, uow: UnitOfWork, context: Context) -> Result:
    """200, from the broker's time on; 404; 409 for another version; neutral when it is archived already."""
    return await _change(command, uow, context, lambda product: {"archived_at": product.archived_at or context.now})


async def restore_product(command: RestoreProduct, uow: UnitOfWork, context: Context) -> Result:
    """200; 404; 409 for another version; neutral when it is not archived."""
    return await _change(command, uow, context, lambda _: {"archived_at": None})


async def add_product_version(command: AddProductVersion, uow: UnitOfWork, context: Context) -> Result:
    """201 the version; 404; 409 for a taken label, or days of another; 400 beyond 200 versions or the size."""
    product = await uow.products.find(command.mnemonic)
    if product is None:
        return Failure(product_not_found(command.mnemonic))
    others = await uow.products.versions_of(product)
    if any(other.label == command.version_label for other in others):
        return Failure(version_label_taken(product.mnemonic, command.version_label))
    version = ProductVersion(context.new_id(), command.version_label, command.start_date, command.end_date, context.now)
    overlapped = overlapped_by(version, others)
    if overlapped is not None:
        return Failure(version_overlaps(product.mnemonic, version.label, overlapped))
    if len(others) >= MAX_VERSIONS:
        return Failure(
            BusinessRuleViolationError(
                f"{RESOURCE} '{product.mnemonic}' has {MAX_VERSIONS} versions, the most it may have",
                {"mnemonic": product.mnemonic, "max_versions": MAX_VERSIONS},
            )
        )
    items = [Item(item.name, item.position, item.attributes) for item in command.items]
    changed = _touched(product, context)
    size = await uow.products.size_of(product)
    await uow.products.add_version(product, version, items)
    await uow.products.save(changed)
    done = Success(created(VERSION_RESOURCE, _named(product, version), product_version_result(version, items)))
    return await _unless_too_large(product, size, changed, uow, done)


async def end_product_version(command: EndProductVersion, uow: UnitOfWork, context: Context) -> Result:
    """200 the version; 404; 422 for an end before its start; 409 for days of another version; neutral."""
    product = await uow.products.find(command.mnemonic)
    if product is None:
        return Failure(product_not_found(command.mnemonic))
    versions = await uow.products.versions_of(product)
    version = next((one for one in versions if one.label == command.version_label), None)
    if version is None:
        return Failure(version_not_found(product.mnemonic, command.version_label))
    items = await uow.products.items_of(version)
    if command.end_date == version.end_date:
        return Success(unchanged(VERSION_RESOURCE, _named(product, version), product_version_result(version, items)))
    if command.end_date is not None and command.end_date < version.start_date:
        return Failure(
            ValidationFailedError(
                [{"field": "end_date", "message": "The end should not be before the start", "type": "date_range"}]
            )
        )
    ended = replace(version, end_date=command.end_date)
    overlapped = overlapped_by(ended, versions)
    if overlapped is not None:
        return Failure(version_overlaps(product.mnemonic, version.label, overlapped))
    changed = _touched(product, context)
    size = await uow.products.size_of(product)
    await uow.products.change_version(product, ended)
    await uow.products.save(changed)
    done = Success(updated(VERSION_RESOURCE, _named(product, ended), product_version_result(ended, items)))
    return await _unless_too_large(product, size, changed, uow, done)


def _named(product: Product, version: ProductVersion) -> str:
    return f"{product.mnemonic} {version.label}"


async def set_validation_rules(command: SetValidationRules, uow: UnitOfWork, context: Context) -> Result:
    """200 the rules; 404; 422 for a rule that is no schema we can evaluate; neutral when they are the same."""
    product = await uow.products.find(command.mnemonic)
    if product is None:
        return Failure(product_not_found(command.mnemonic))
    rules = _rules_of(command)
    found = await uow.rule_book.first_problem(rules)
    if found is not None:
        name = rules[found.place].name
        return Failure(
            BusinessRuleError(
                f"Rule '{name}' cannot be used: {found.reason}",
                {"mnemonic": product.mnemonic, "field": f"rules.{found.place}", "rule": name, "reason": found.reason},
            )
        )
    known = await uow.products.rules_of(product)
    if _same_rules(rules, known.rules):
        return Success(unchanged(RESOURCE, product.mnemonic, product_rules_result(product, rules)))
    changed = _touched(product, context)
    await uow.products.save(changed)
    await uow.products.replace_rules(changed, rules)
    return Success(updated(RESOURCE, product.mnemonic, product_rules_result(changed, rules)))


async def prepare_validation_rules(command: SetValidationRules, rule_book: RuleBook) -> None:
    """Read and count the rules, before the transaction; what was found is remembered for it."""
    await rule_book.first_problem(_rules_of(command))


def _rules_of(command: SetValidationRules) -> Sequence[Rule]:
    return [Rule(rule.name, rule.parameters, rule.start_date, rule.end_date) for rule in command.rules]


def _same_rules(ones: Sequence[Rule], others: Sequence[Rule]) -> bool:
    return len(ones) == len(others) and all(
        one == other and same_json(one.parameters, other.parameters) for one, other in zip(ones, others, strict=True)
    )


async def import_products(command: ImportProducts, uow: UnitOfWork, context: Context) -> Result:
    """200 with counts; a warning for each row that is no good or whose mnemonic is taken, be it by an earlier row."""
    warnings = []
    for number, row in enumerate(command.products, 1):
        if isinstance(row, BadRow):
            warnings.append(RefusedRow(number, row.error_code, row.reason))
        elif await uow.products.find(row.mnemonic) is not None:
            taken = mnemonic_taken(row.mnemonic)
            warnings.append(RefusedRow(number, taken.error_code, taken.message))
        else:
            await uow.products.save(_new(row, context))
    done = Warnings(len(command.products) - len(warnings), len(warnings), warnings)
    if warnings:
        return Success(partial(IMPORT_ACTION, done))
    return Success(Envelope(200, messages.partial_success(IMPORT_ACTION, 0), "success", done))
