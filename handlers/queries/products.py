"""Get, list, search products; check data against their rules."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Final

import orjson

from contracts.envelope import Page, listed, retrieved
from contracts.errors import ValidationFailedError
from contracts.products import (
    RESOURCE,
    FindProductsForDateRange,
    GetProduct,
    ListProducts,
    ProductDataResult,
    RuleVerdictResult,
    SearchProducts,
    ValidateProductData,
    ViolationResult,
)
from handlers.context import Context
from handlers.page import page_of, read_cursor
from handlers.product import (
    PRODUCT_SPACE,
    ProductDetail,
    ProductPage,
    ProductSearch,
    product_detail_result,
    product_id_not_found,
    product_not_found,
    product_result,
)
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success
from handlers.rules import MAX_STEPS, StepBudget, Verdict

STEPS_AT_ONCE: Final = 2 * MAX_STEPS
"""Of all queries that are answered together: about 0.2 s, at the very worst 1.5 s."""


async def get_products(asked: Sequence[Asked[GetProduct]], readers: Readers) -> Sequence[Result]:
    """200 the product with its versions; 404. By mnemonic from the cache, by id in a constant number of statements."""

    async def load(mnemonics: Sequence[str]) -> Mapping[str, bytes]:
        found = await readers.primary_products.get_many(mnemonics)
        return {mnemonic: _encoded(detail) for mnemonic, detail in found.items()}

    mnemonics = {one.query.mnemonic for one in asked if one.query.mnemonic is not None}
    ids = {one.query.product_id for one in asked if one.query.product_id is not None}
    shown = await readers.cache.get_many(PRODUCT_SPACE, sorted(mnemonics), load) if mnemonics else {}
    by_id = await readers.products.get_many_by_id(sorted(ids)) if ids else {}
    return [_answer(one.query, shown, by_id) for one in asked]


def _encoded(detail: ProductDetail) -> bytes:
    return orjson.dumps(product_detail_result(detail), option=orjson.OPT_UTC_Z)


def _answer(query: GetProduct, shown: Mapping[str, bytes], by_id: Mapping[str, ProductDetail]) -> Result:
    if query.mnemonic is not None:
        body = shown.get(query.mnemonic)
        if body is None:
            return Failure(product_not_found(query.mnemonic))
        return Success(retrieved(RESOURCE, orjson.Fragment(body)))
    product_id = query.product_id or ""
    detail = by_id.get(product_id)
    if detail is None:
        return Failure(product_id_not_found(product_id))
    return Success(retrieved(RESOURCE, product_detail_result(detail)))


async def list_products(query: ListProducts, readers: Readers, _: Context) -> Result:
    """200 a page of products, newest first."""
    return await _page(ProductPage(query.page, query.page_size, category=query.category), readers)


async def find_products_for_date_range(query: FindProductsForDateRange, readers: Readers, _: Context) -> Result:
    """200 a page of the products that have a version in force on any day of the range, newest first."""
    return await _page(ProductPage(query.page, query.page_size, days=(query.start_date, query.end_date)), readers)


async def _page(wanted: ProductPage, readers: Readers) -> Result:
    """Answer with a numbered page: there are no cursors."""
    found = await readers.products.list_page(wanted)
    page = Page(
        [product_result(product) for product in found.items],
        found.total_count,
        wanted.page,
        wanted.page_size,
        found.has_more,
        None,
    )
    return Success(listed(RESOURCE, page))


async def search_products(query: SearchProducts, readers: Readers, _: Context) -> Result:
    """200 a page of products, newest first; 422 for a cursor that is not of this search. Case does not matter."""
    needle = query.mnemonic_contains
    if needle is not None and needle.isascii():
        needle = needle.upper()
    filters = ["products", needle]
    try:
        after = read_cursor(query.cursor, filters) if query.cursor is not None else None
    except ValidationFailedError as error:
        return Failure(error)
    found = await readers.products.search(ProductSearch(needle, query.limit, 0 if after else query.offset, after))
    page = page_of(
        found,
        product_result,
        lambda product: (product.created_at, product.id),
        filters,
        page_size=query.limit,
        page=None if after else query.offset // query.limit + 1,
    )
    return Success(listed(RESOURCE, page))


async def validate_product_data(asked: Sequence[Asked[ValidateProductData]], readers: Readers) -> Sequence[Result]:
    """200 with what each rule in force says; 404. One statement for all.

    So many queries are answered at once as `STEPS_AT_ONCE` suffice for: nothing else is done meanwhile.
    """
    steps_left = STEPS_AT_ONCE
    rules = await readers.products.rules_of(sorted({one.query.mnemonic for one in asked}))
    answers: list[Result] = []
    for one in asked:
        mnemonic = one.query.mnemonic
        known = rules.get(mnemonic)
        if known is None:
            answers.append(Failure(product_not_found(mnemonic)))
            continue
        on = one.query.on_date or one.context.now.astimezone(UTC).date()
        budget = StepBudget()
        verdicts = readers.rule_book.check(known, one.query.data, on, budget)
        result = ProductDataResult(
            mnemonic, on, all(verdict.holds for verdict in verdicts), [_verdict_result(verdict) for verdict in verdicts]
        )
        answers.append(Success(retrieved(RESOURCE, result)))
        steps_left -= MAX_STEPS - budget.left
        if steps_left <= 0:
            break
    return answers


def _verdict_result(verdict: Verdict) -> RuleVerdictResult:
    return RuleVerdictResult(
        verdict.rule,
        verdict.holds,
        [ViolationResult(violation.path, violation.reason) for violation in verdict.violations],
        verdict.problem,
    )
