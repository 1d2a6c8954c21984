"""Get, list, search products; check data against their rules."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date
from enum import Enum
from typing import Final

import orjson

from contracts.envelope import retrieved
from contracts.errors import QueryTooExpensiveError
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
from handlers.page import After, Found, TooMuch, answer_pages, read_cursor, show_page
from handlers.product import (
    PRODUCT_SPACE,
    OversizedProduct,
    Product,
    ProductPage,
    ProductSearch,
    Shown,
    is_whole,
    product_detail_result,
    product_id_not_found,
    product_not_found,
    product_result,
)
from handlers.product_size import MAX_SHOWN_BYTES, product_not_shown
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success
from handlers.rules import Spending, TooExpensiveError, Verdict

ANSWERED_AT_ONCE: Final = 16 * 1024 * 1024
"""How many bytes of products are answered together, the first apart; the others are asked for again."""


class _Later(Enum):
    """That a product is there, and was not loaded since others before it are enough at once."""

    LATER = "later"


RULES_AT_ONCE_S: Final = 0.5
"""CPU time for the rules of all queries that are answered together, about: the last one is answered in full."""


async def get_products(asked: Sequence[Asked[GetProduct]], readers: Readers) -> Sequence[Result]:
    """200 the product with its versions; 404; 413 for one of before that is too large to be sent.

    By mnemonic from the cache, by id in a constant number of statements. The first ones are answered where all of them
    would be too much to be loaded at once.
    """
    shelf = _Shelf(readers)
    await shelf.take([one.query for one in asked])
    answers: list[Result] = []
    answered_bytes = 0
    for one in asked:
        body = shelf.look(one.query)
        while body is _Later.LATER and not answers:  # the first is always answered
            await shelf.take([one.query])
            body = shelf.look(one.query)
        if body is _Later.LATER or answered_bytes > ANSWERED_AT_ONCE:
            break
        answers.append(_answer(one.query, body))
        answered_bytes += len(body) if isinstance(body, bytes) else 0
    return answers


class _Shelf:
    """The products that a batch of queries asks for, as JSON."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._by_mnemonic: dict[str, bytes | OversizedProduct | _Later] = {}
        self._by_id: dict[str, bytes | OversizedProduct | _Later | None] = {}

    async def take(self, queries: Sequence[GetProduct]) -> None:
        """Load as much of what is asked for, in its order, as may be loaded at once."""
        mnemonics = list(dict.fromkeys(query.mnemonic for query in queries if query.mnemonic is not None))
        ids = list(dict.fromkeys(query.product_id for query in queries if query.product_id is not None))
        if mnemonics:
            for mnemonic in mnemonics:
                self._by_mnemonic.pop(mnemonic, None)
            cached = await self._readers.cache.get_many(PRODUCT_SPACE, mnemonics, self._load, is_whole)
            for mnemonic, body in cached.items():
                self._by_mnemonic[mnemonic] = body if body is not None else _Later.LATER
        if ids:
            found = await self._readers.products.get_many_by_id(ids)
            self._by_id.update({one: _shown(found[one]) if one in found else None for one in ids})

    async def _load(self, mnemonics: Sequence[str]) -> Mapping[str, bytes]:
        """Load what is not cached; what is too large to be sent, or to be loaded now, is not kept."""
        found = {name: _shown(one) for name, one in (await self._readers.primary_products.get_many(mnemonics)).items()}
        self._by_mnemonic.update(found)
        return {name: body for name, body in found.items() if isinstance(body, bytes)}

    def look(self, query: GetProduct) -> "bytes | OversizedProduct | _Later | None":
        """Return what is asked for; None where there is none."""
        if query.mnemonic is not None:
            return self._by_mnemonic.get(query.mnemonic)
        return self._by_id.get(query.product_id or "")


def _shown(detail: Shown) -> "bytes | OversizedProduct | _Later":
    if detail is None:
        return _Later.LATER
    if isinstance(detail, OversizedProduct):
        return detail
    body = orjson.dumps(product_detail_result(detail), option=orjson.OPT_UTC_Z)
    product = detail.product
    return body if len(body) <= MAX_SHOWN_BYTES else OversizedProduct(product.id, product.mnemonic, len(body))


def _answer(query: GetProduct, body: bytes | OversizedProduct | None) -> Result:
    if isinstance(body, bytes):
        return Success(retrieved(RESOURCE, orjson.Fragment(body)))
    if body is not None:
        return Failure(product_not_shown(body.mnemonic, body.bytes))
    if query.mnemonic is not None:
        return Failure(product_not_found(query.mnemonic))
    return Failure(product_id_not_found(query.product_id or ""))


async def list_products(asked: Sequence[Asked[ListProducts]], readers: Readers) -> Sequence[Result | None]:
    """200 a page of products, newest first; 422 for a cursor that is not of this list."""
    return await answer_pages([one.query for one in asked], _list_of, readers.products.list_pages, _show_list)


def _list_of(query: ListProducts) -> ProductPage:
    after = _after(query, _list_filters(query))
    return ProductPage(query.page, query.page_size, query.category, query.archived, None, after)


def _list_filters(query: ListProducts) -> object:
    # Without `archived` as ever: the cursors of the release before lead on.
    return ["list_products", query.category, *([] if query.archived is None else [query.archived])]


def _show_list(query: ListProducts, found: Found[Product] | TooMuch) -> Result:
    return _show(query, found, _list_filters(query))


async def find_products_for_date_range(
    asked: Sequence[Asked[FindProductsForDateRange]], readers: Readers
) -> Sequence[Result | None]:
    """200 a page of the products that have a version in force on any day of the range, newest first; 422."""
    return await answer_pages([one.query for one in asked], _range_of, readers.products.list_pages, _show_range)


def _range_of(query: FindProductsForDateRange) -> ProductPage:
    after = _after(query, _range_filters(query))
    return ProductPage(query.page, query.page_size, None, None, (query.start_date, query.end_date), after)


def _range_filters(query: FindProductsForDateRange) -> object:
    return ["find_products_for_date_range", query.start_date, query.end_date]


def _show_range(query: FindProductsForDateRange, found: Found[Product] | TooMuch) -> Result:
    return _show(query, found, _range_filters(query))


def _after(query: ListProducts | FindProductsForDateRange | SearchProducts, filters: object) -> After | None:
    return read_cursor(query.cursor, filters) if query.cursor is not None else None


def _show(query: ListProducts | FindProductsForDateRange, found: Found[Product] | TooMuch, filters: object) -> Result:
    page = query.page if query.cursor is None else None
    return show_page(RESOURCE, found, product_result, filters, page_size=query.page_size, page=page)


async def search_products(asked: Sequence[Asked[SearchProducts]], readers: Readers) -> Sequence[Result | None]:
    """200 a page of products, newest first; 422 for a cursor that is not of this search. Case does not matter."""
    return await answer_pages([one.query for one in asked], _search_of, readers.products.search, _show_search)


def _search_of(query: SearchProducts) -> ProductSearch:
    after = _after(query, _search_filters(query))
    return ProductSearch(_needle(query), query.limit, 0 if after else query.offset, after)


def _needle(query: SearchProducts) -> str | None:
    needle = query.mnemonic_contains
    return needle.upper() if needle is not None and needle.isascii() else needle


def _search_filters(query: SearchProducts) -> object:
    return ["products", _needle(query)]


def _show_search(query: SearchProducts, found: Found[Product] | TooMuch) -> Result:
    page = query.offset // query.limit + 1 if query.cursor is None else None
    return show_page(RESOURCE, found, product_result, _search_filters(query), page_size=query.limit, page=page)


async def validate_product_data(asked: Sequence[Asked[ValidateProductData]], readers: Readers) -> Sequence[Result]:
    """200 with what each rule in force says; 404; 422 where that takes too long. One statement for all.

    So many queries are answered at once as `RULES_AT_ONCE_S` suffices for.
    """
    left_s = RULES_AT_ONCE_S
    rules = await readers.products.rules_of(sorted({one.query.mnemonic for one in asked}))
    answers: list[Result] = []
    for one in asked:
        mnemonic = one.query.mnemonic
        known = rules.get(mnemonic)
        if known is None:
            answers.append(Failure(product_not_found(mnemonic)))
            continue
        on = day_of(one)
        spending = Spending()
        try:
            verdicts = await readers.rule_book.check(known, one.query.data, on, spending)
        except TooExpensiveError as error:
            answers.append(Failure(_too_expensive(mnemonic, error)))
        else:
            holds = all(verdict.holds for verdict in verdicts)
            result = ProductDataResult(mnemonic, on, holds, [_verdict_result(verdict) for verdict in verdicts])
            answers.append(Success(retrieved(RESOURCE, result)))
        left_s -= spending.spent_s
        if left_s <= 0:
            break
    return answers


def day_of(asked: Asked[ValidateProductData]) -> date:
    """Say on which day data are checked: the one that is asked for, or that on which the broker stamped the query."""
    return asked.query.on_date or asked.context.now.astimezone(UTC).date()


def _too_expensive(mnemonic: str, error: TooExpensiveError) -> QueryTooExpensiveError:
    return QueryTooExpensiveError(
        f"Rule '{error.rule}' of product '{mnemonic}' could not be evaluated: {error.reason}; ask with less data",
        {"mnemonic": mnemonic, "field": "data", "rule": error.rule, "reason": error.reason},
    )


def _verdict_result(verdict: Verdict) -> RuleVerdictResult:
    return RuleVerdictResult(
        verdict.rule,
        verdict.holds,
        [ViolationResult(violation.path, violation.reason) for violation in verdict.violations],
        verdict.problem,
    )
