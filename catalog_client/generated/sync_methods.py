# Generated from the contract by clients/python/generate.py: edit neither by hand.
"""The methods of the client for those without an event loop."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Literal
from uuid import UUID

from catalog_client.generated import kinds, results
from catalog_client.generated.parts import CreateProduct, OrderLine, ValidationRule, VersionItem
from catalog_client.replies import Reply
from catalog_client.requests import Request
from catalog_client.surface import SyncAsking, SyncIterating, SyncRawAsking, SyncSending, Timeout
from catalog_client.unset import UNSET, Unset


class SyncCalls(SyncAsking):
    """A method for each kind."""

    def create_customer(
        self,
        *,
        name: str,
        email: str,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        customer_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.CustomerResult:
        """Create a customer, active from the start; the e-mail address must be no living customer's.

        Create a customer; without a `customer_id` the workers choose one.

        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels
        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerAlreadyExists, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.CREATE_CUSTOMER_V1,
                {"name": name, "email": email, "preferences": preferences, "customer_id": customer_id},
            ),
            message_id,
            timeout,
            key,
        )

    def update_customer(
        self,
        *,
        customer_id: UUID | str,
        name: str | Unset = UNSET,
        email: str | Unset = UNSET,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        is_active: bool | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.CustomerResult:
        """Change what is known of a customer; one that is made inactive places no orders.

        Change the fields that are given, keep the others; null preferences clear them.

        - customer_id: A UUID; kept and answered in lower case
        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels

        Raise CustomerNotFound, CustomerAlreadyExists, VersionConflict, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.UPDATE_CUSTOMER_V1,
                {
                    "customer_id": customer_id,
                    "name": name,
                    "email": email,
                    "preferences": preferences,
                    "is_active": is_active,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_customer(
        self,
        *,
        customer_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> None:
        """Erase a customer's name, e-mail address and preferences for good; the orders keep the bare id.

        Erase a customer's personal data for good.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.DELETE_CUSTOMER_V1, {"customer_id": customer_id}), message_id, timeout, key)

    def get_customer(
        self, *, customer_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.CustomerResult:
        """One living customer.

        Ask for one customer.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.GET_CUSTOMER_V1, {"customer_id": customer_id}), None, timeout, key)

    def search_customers(
        self,
        *,
        name_contains: str | None | Unset = UNSET,
        email_contains: str | None | Unset = UNSET,
        is_active: bool | None | Unset = UNSET,
        limit: int | Unset = UNSET,
        offset: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.PageOfCustomerResult:
        """A page of the living customers whose name and e-mail address hold these parts, newest first.

        Search living customers, newest first, without regard to case; every character is an ordinary one.

        - name_contains: 1 to 254 characters
        - email_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        - offset: 0 to 10000; otherwise 0
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._data(
            Request(
                kinds.SEARCH_CUSTOMERS_V1,
                {
                    "name_contains": name_contains,
                    "email_contains": email_contains,
                    "is_active": is_active,
                    "limit": limit,
                    "offset": offset,
                    "cursor": cursor,
                },
            ),
            None,
            timeout,
            key,
        )

    def get_customer_summary(
        self, *, customer_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.CustomerSummaryResult:
        """The figures of one living customer's orders, never older than what was answered before.

        Ask for a customer's read model.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.GET_CUSTOMER_SUMMARY_V1, {"customer_id": customer_id}), None, timeout, key)

    def customer_analytics(
        self, *, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.CustomerAnalyticsResult:
        """The figures of all customers and their placed orders, as of the UTC day of the question.

        Ask for the figures over all customers.
        """
        return self._data(Request(kinds.CUSTOMER_ANALYTICS_V1, {}), None, timeout, key)

    def create_product_v1(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductResult:
        """Create a product; its mnemonic must be no other's.

        Create a product without category, tags and catalogue.

        Deprecated since 2024-06-01, sunset 2024-12-01: create_product version 2.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False

        Raise InvalidProductCode, ProductAlreadyExists, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.CREATE_PRODUCT_V1,
                {"mnemonic": mnemonic, "overview": overview, "is_confidential": is_confidential},
            ),
            message_id,
            timeout,
            key,
        )

    def create_product(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductResult:
        """Create a product; its mnemonic must be no other's.

        Create a product.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels

        Raise InvalidProductCode, ProductAlreadyExists, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.CREATE_PRODUCT_V2,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def update_product(
        self,
        *,
        mnemonic: str,
        overview: str | Unset = UNSET,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductResult:
        """Change a product's fields; what is absent is kept.

        Change the fields that are given, keep the others; null clears category, tags and catalogue.
            A product is at most 768 KiB as `get_product` shows it.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels

        Raise InvalidProductCode, ProductNotFound, VersionConflict, BusinessRuleViolation, or what any request
        may meet.
        """
        return self._data(
            Request(
                kinds.UPDATE_PRODUCT_V1,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_product(
        self, *, mnemonic: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> None:
        """Delete a product with its versions and rules; refused while a placed order refers to it.

        Delete a product with its versions and rules; refused while a placed order refers to it.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, BusinessRuleViolation, or what any request may meet.
        """
        return self._data(Request(kinds.DELETE_PRODUCT_V1, {"mnemonic": mnemonic}), message_id, timeout, key)

    def archive_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductResult:
        """Take a product off sale: orders of it are refused until it is restored; all else goes on.

        Take a product off sale: no order of it is placed any more; all else goes on, and its mnemonic stays
        taken.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, VersionConflict, or what any request may meet.
        """
        return self._data(
            Request(kinds.ARCHIVE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def restore_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductResult:
        """Put an archived product on sale again.

        Put an archived product on sale again.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, VersionConflict, or what any request may meet.
        """
        return self._data(
            Request(kinds.RESTORE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def add_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        start_date: date | str,
        items: Sequence[VersionItem],
        end_date: date | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductVersionResult:
        """Add a version to a product; no two of its versions share a day.

        Add a version, in force from its first to its last day (inclusive), which no other version may share.
            A product is at most 768 KiB as `get_product` shows it, with all its versions.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - start_date: A day, YYYY-MM-DD
        - items: 0 to 200 of them
        - end_date: Inclusive, not before `start_date`; null: no end

        Raise InvalidProductCode, ProductNotFound, ProductVersionAlreadyExists, OverlappingDateRange,
        BusinessRuleViolation, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.ADD_PRODUCT_VERSION_V1,
                {
                    "mnemonic": mnemonic,
                    "version_label": version_label,
                    "start_date": start_date,
                    "items": items,
                    "end_date": end_date,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def end_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        end_date: date | str | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductVersionResult:
        """Set the last day of a product's version, or, with null, let it go on without end.

        Set the last day of a version; null re-opens it.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - end_date: A day, YYYY-MM-DD

        Raise InvalidProductCode, ProductNotFound, ProductVersionNotFound, OverlappingDateRange,
        BusinessRuleViolation, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.END_PRODUCT_VERSION_V1,
                {"mnemonic": mnemonic, "version_label": version_label, "end_date": end_date},
            ),
            message_id,
            timeout,
            key,
        )

    def set_validation_rules(
        self,
        *,
        mnemonic: str,
        rules: Sequence[ValidationRule],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductRulesResult:
        """Replace the rules that the lines of a product's orders must meet.

        Replace the rules of a product.
            A rule's `parameters` are a JSON Schema of the dialect 2020-12 that refers to nothing outside
        itself. All rules of a
            product together may need at most 20,000 evaluations of keywords for a line's attributes of 2 KiB.

        - mnemonic: A product's code
        - rules: 0 to 50 of them

        Raise InvalidProductCode, ProductNotFound, BusinessRuleError, or what any request may meet.
        """
        return self._data(
            Request(kinds.SET_VALIDATION_RULES_V1, {"mnemonic": mnemonic, "rules": rules}), message_id, timeout, key
        )

    def import_products(
        self,
        *,
        products: Sequence[CreateProduct],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.WarningsOfRefusedRow:
        """Create up to 1,000 products at once; what is wrong with a row costs that row.

        Create up to 1,000 products at once; a row that is no good is told in a warning, the others are
        imported.

        - products: 1 to 1000 of them
        """
        return self._data(Request(kinds.IMPORT_PRODUCTS_V1, {"products": products}), message_id, timeout, key)

    def get_product(
        self,
        *,
        mnemonic: str | None | Unset = UNSET,
        product_id: UUID | str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductDetailResult:
        """One product with its versions and their items.

        Ask for one product with its versions and their items, by mnemonic or by id: exactly one of them is
        given.

        - mnemonic: A product's code
        - product_id: A UUID; kept and answered in lower case

        Raise InvalidProductCode, ProductNotFound, or what any request may meet.
        """
        return self._data(
            Request(kinds.GET_PRODUCT_V1, {"mnemonic": mnemonic, "product_id": product_id}), None, timeout, key
        )

    def list_products(
        self,
        *,
        page_size: int | Unset = UNSET,
        page: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        category: str | None | Unset = UNSET,
        archived: bool | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.PageOfProductResult:
        """A page of products, newest first, without versions: all, a category's, archived or not.

        Ask for a page of products, newest first: of all, of a category, of the archived ones or of the others.
            A cursor leads further than pages do.

        - page_size: 1 to 100; otherwise 10
        - page: page × page_size at most 10,000; further on, use the cursor; 1 to 10000; otherwise 1
        - cursor: `next_cursor` of the page before, with the same filters
        - category: 1 to 100 characters
        - archived: True: the archived ones; false: the others; null: all
        """
        return self._data(
            Request(
                kinds.LIST_PRODUCTS_V1,
                {"page_size": page_size, "page": page, "cursor": cursor, "category": category, "archived": archived},
            ),
            None,
            timeout,
            key,
        )

    def search_products(
        self,
        *,
        mnemonic_contains: str | None | Unset = UNSET,
        limit: int | Unset = UNSET,
        offset: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.PageOfProductResult:
        """A page of the products whose mnemonic holds this part, newest first.

        Search products by a part of their mnemonic, newest first; `%`, `_`, `\\` are ordinary characters.

        - mnemonic_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        - offset: 0 to 10000; otherwise 0
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._data(
            Request(
                kinds.SEARCH_PRODUCTS_V1,
                {"mnemonic_contains": mnemonic_contains, "limit": limit, "offset": offset, "cursor": cursor},
            ),
            None,
            timeout,
            key,
        )

    def find_products_for_date_range(
        self,
        *,
        start_date: date | str,
        end_date: date | str,
        page_size: int | Unset = UNSET,
        page: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.PageOfProductResult:
        """A page of the products that have a version in force on any day of the range, newest first.

        Ask for the products that have a version in force on any day of the range, both ends included; newest
        first.

        - start_date: A day, YYYY-MM-DD
        - end_date: Not before `start_date`
        - page_size: 1 to 100; otherwise 10
        - page: page × page_size at most 10,000; further on, use the cursor; 1 to 10000; otherwise 1
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._data(
            Request(
                kinds.FIND_PRODUCTS_FOR_DATE_RANGE_V1,
                {
                    "start_date": start_date,
                    "end_date": end_date,
                    "page_size": page_size,
                    "page": page,
                    "cursor": cursor,
                },
            ),
            None,
            timeout,
            key,
        )

    def validate_product_data(
        self,
        *,
        mnemonic: str,
        data: Mapping[str, Any],
        on_date: date | str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ProductDataResult:
        """Which of a product's rules hold for these attributes of a line, and why the others do not.

        Ask which rules of a product that are in force on a day (today unless given) the data meets.

        - mnemonic: A product's code
        - data: At most 16 KiB in canonical form (RFC 8785), 32 levels
        - on_date: A day, YYYY-MM-DD

        Raise InvalidProductCode, ProductNotFound, or what any request may meet.
        """
        return self._data(
            Request(kinds.VALIDATE_PRODUCT_DATA_V1, {"mnemonic": mnemonic, "data": data, "on_date": on_date}),
            None,
            timeout,
            key,
        )

    def place_order(
        self,
        *,
        customer_id: UUID | str,
        lines: Sequence[OrderLine],
        order_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.OrderResult:
        """Order products for an active customer; each line must meet its product's rules of the day.

        Order products for a customer; without an `order_id` the workers choose one. The total is never the
        caller's.

        - customer_id: A UUID; kept and answered in lower case
        - lines: They add up to at most 9,999,999,999.99; 1 to 100 of them
        - order_id: A UUID; kept and answered in lower case

        Raise InvalidProductCode, CustomerNotFound, ProductNotFound, OrderAlreadyExists, BusinessRuleViolation,
        BusinessRuleError, or what any request may meet.
        """
        return self._data(
            Request(kinds.PLACE_ORDER_V1, {"customer_id": customer_id, "lines": lines, "order_id": order_id}),
            message_id,
            timeout,
            key,
        )

    def cancel_order(
        self,
        *,
        customer_id: UUID | str,
        order_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.OrderResult:
        """Take a customer's order back; works for a deleted customer's order, too.

        Take a customer's order back.

        - customer_id: A UUID; kept and answered in lower case
        - order_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, OrderNotFound, or what any request may meet.
        """
        return self._data(
            Request(kinds.CANCEL_ORDER_V1, {"customer_id": customer_id, "order_id": order_id}), message_id, timeout, key
        )

    def get_order(
        self, *, order_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.OrderResult:
        """One order.

        Ask for one order.

        - order_id: A UUID; kept and answered in lower case

        Raise OrderNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.GET_ORDER_V1, {"order_id": order_id}), None, timeout, key)

    def get_customer_orders(
        self,
        *,
        customer_id: UUID | str,
        page: int | Unset = UNSET,
        page_size: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        status: Literal["placed", "cancelled"] | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.PageOfOrderResult:
        """A page of a living customer's orders, newest first.

        Ask for a customer's orders, newest first, cancelled ones too unless one status is asked for.

        - customer_id: A UUID; kept and answered in lower case
        - page: 1 to 10000000; otherwise 1
        - page_size: 1 to 100; otherwise 10
        - cursor: `next_cursor` of the page before, with the same filters

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._data(
            Request(
                kinds.GET_CUSTOMER_ORDERS_V1,
                {"customer_id": customer_id, "page": page, "page_size": page_size, "cursor": cursor, "status": status},
            ),
            None,
            timeout,
            key,
        )

    def start_backfill(
        self,
        *,
        name: str,
        dry_run: bool | Unset = UNSET,
        reverse: bool | Unset = UNSET,
        rate: float | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.BackfillResult:
        """Ask for a run of a backfill, or for a dry one; a backfill worker takes it up.

        Ask for a run; with `dry_run` for a plan, an estimate, and one chunk that is rolled back.

        - dry_run: otherwise False
        - reverse: otherwise False
        - rate: 0.001 to 1000000000.0

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(
            Request(kinds.START_BACKFILL_V1, {"name": name, "dry_run": dry_run, "reverse": reverse, "rate": rate}),
            message_id,
            timeout,
            key,
        )

    def pause_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillResult:
        """Let a run begin no more chunks; those in flight end within 2 s, or are rolled back.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.PAUSE_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def resume_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillResult:
        """Let a paused run go on.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.RESUME_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def cancel_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillResult:
        """End a run for good; what was committed stays.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.CANCEL_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def set_backfill_rate(
        self,
        *,
        name: str,
        rows_per_s: float | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.BackfillResult:
        """Cap the rate of the active run, all workers together, or lift the cap.

        Cap the rate of the active run; null lifts the cap.

        - rows_per_s: 0.001 to 1000000000.0

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(
            Request(kinds.SET_BACKFILL_RATE_V1, {"name": name, "rows_per_s": rows_per_s}), message_id, timeout, key
        )

    def retry_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillResult:
        """Set a failed run going again, or one that ended with rows put aside.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.RETRY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def verify_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillResult:
        """Ask for a verify of the last run, once that has ended, in whatever way.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.VERIFY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def advance_phase(
        self,
        *,
        change: str,
        to: Literal["expanded", "dual_write", "backfilled", "reading_new", "contracted"],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> results.ChangeResult:
        """Ask for one step of a zero-downtime change, forth or back; a backfill worker takes it.

        Ask for one step of a change, forth or back.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._data(Request(kinds.ADVANCE_PHASE_V1, {"change": change, "to": to}), message_id, timeout, key)

    def get_backfill(
        self, *, name: str, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.BackfillDetailResult:
        """The last run of a backfill with its verify, and the change of the same name.

        Name a backfill.

        Raise BackfillNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.GET_BACKFILL_V1, {"name": name}), None, timeout, key)

    def list_backfills(self, *, timeout: Timeout = UNSET, key: str | None = None) -> results.PageOfBackfillItem:
        """Every backfill with its last run, by name, on one page.

        Ask for every backfill with the state of its last run.
        """
        return self._data(Request(kinds.LIST_BACKFILLS_V1, {}), None, timeout, key)

    def get_outcome(
        self, *, message_id: str, timeout: Timeout = UNSET, key: str | None = None
    ) -> results.OutcomeResult:
        """What answered the caller's own command of this message_id: after a time-out it tells.

        Ask for the stored envelope of an earlier command of the same caller.

        Raise OutcomeNotFound, or what any request may meet.
        """
        return self._data(Request(kinds.GET_OUTCOME_V1, {"message_id": message_id}), None, timeout, key)


class SyncRawCalls(SyncRawAsking):
    """The same methods; each returns its reply with all that came with it."""

    def create_customer(
        self,
        *,
        name: str,
        email: str,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        customer_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.CustomerResult]:
        """Create a customer, active from the start; the e-mail address must be no living customer's.

        Create a customer; without a `customer_id` the workers choose one.

        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels
        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerAlreadyExists, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.CREATE_CUSTOMER_V1,
                {"name": name, "email": email, "preferences": preferences, "customer_id": customer_id},
            ),
            message_id,
            timeout,
            key,
        )

    def update_customer(
        self,
        *,
        customer_id: UUID | str,
        name: str | Unset = UNSET,
        email: str | Unset = UNSET,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        is_active: bool | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.CustomerResult]:
        """Change what is known of a customer; one that is made inactive places no orders.

        Change the fields that are given, keep the others; null preferences clear them.

        - customer_id: A UUID; kept and answered in lower case
        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels

        Raise CustomerNotFound, CustomerAlreadyExists, VersionConflict, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.UPDATE_CUSTOMER_V1,
                {
                    "customer_id": customer_id,
                    "name": name,
                    "email": email,
                    "preferences": preferences,
                    "is_active": is_active,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_customer(
        self,
        *,
        customer_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[None]:
        """Erase a customer's name, e-mail address and preferences for good; the orders keep the bare id.

        Erase a customer's personal data for good.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.DELETE_CUSTOMER_V1, {"customer_id": customer_id}), message_id, timeout, key)

    def get_customer(
        self, *, customer_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.CustomerResult]:
        """One living customer.

        Ask for one customer.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.GET_CUSTOMER_V1, {"customer_id": customer_id}), None, timeout, key)

    def search_customers(
        self,
        *,
        name_contains: str | None | Unset = UNSET,
        email_contains: str | None | Unset = UNSET,
        is_active: bool | None | Unset = UNSET,
        limit: int | Unset = UNSET,
        offset: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.PageOfCustomerResult]:
        """A page of the living customers whose name and e-mail address hold these parts, newest first.

        Search living customers, newest first, without regard to case; every character is an ordinary one.

        - name_contains: 1 to 254 characters
        - email_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        - offset: 0 to 10000; otherwise 0
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._reply(
            Request(
                kinds.SEARCH_CUSTOMERS_V1,
                {
                    "name_contains": name_contains,
                    "email_contains": email_contains,
                    "is_active": is_active,
                    "limit": limit,
                    "offset": offset,
                    "cursor": cursor,
                },
            ),
            None,
            timeout,
            key,
        )

    def get_customer_summary(
        self, *, customer_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.CustomerSummaryResult]:
        """The figures of one living customer's orders, never older than what was answered before.

        Ask for a customer's read model.

        - customer_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.GET_CUSTOMER_SUMMARY_V1, {"customer_id": customer_id}), None, timeout, key)

    def customer_analytics(
        self, *, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.CustomerAnalyticsResult]:
        """The figures of all customers and their placed orders, as of the UTC day of the question.

        Ask for the figures over all customers.
        """
        return self._reply(Request(kinds.CUSTOMER_ANALYTICS_V1, {}), None, timeout, key)

    def create_product_v1(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductResult]:
        """Create a product; its mnemonic must be no other's.

        Create a product without category, tags and catalogue.

        Deprecated since 2024-06-01, sunset 2024-12-01: create_product version 2.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False

        Raise InvalidProductCode, ProductAlreadyExists, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.CREATE_PRODUCT_V1,
                {"mnemonic": mnemonic, "overview": overview, "is_confidential": is_confidential},
            ),
            message_id,
            timeout,
            key,
        )

    def create_product(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductResult]:
        """Create a product; its mnemonic must be no other's.

        Create a product.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels

        Raise InvalidProductCode, ProductAlreadyExists, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.CREATE_PRODUCT_V2,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def update_product(
        self,
        *,
        mnemonic: str,
        overview: str | Unset = UNSET,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductResult]:
        """Change a product's fields; what is absent is kept.

        Change the fields that are given, keep the others; null clears category, tags and catalogue.
            A product is at most 768 KiB as `get_product` shows it.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels

        Raise InvalidProductCode, ProductNotFound, VersionConflict, BusinessRuleViolation, or what any request
        may meet.
        """
        return self._reply(
            Request(
                kinds.UPDATE_PRODUCT_V1,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_product(
        self, *, mnemonic: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[None]:
        """Delete a product with its versions and rules; refused while a placed order refers to it.

        Delete a product with its versions and rules; refused while a placed order refers to it.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, BusinessRuleViolation, or what any request may meet.
        """
        return self._reply(Request(kinds.DELETE_PRODUCT_V1, {"mnemonic": mnemonic}), message_id, timeout, key)

    def archive_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductResult]:
        """Take a product off sale: orders of it are refused until it is restored; all else goes on.

        Take a product off sale: no order of it is placed any more; all else goes on, and its mnemonic stays
        taken.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, VersionConflict, or what any request may meet.
        """
        return self._reply(
            Request(kinds.ARCHIVE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def restore_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductResult]:
        """Put an archived product on sale again.

        Put an archived product on sale again.

        - mnemonic: A product's code

        Raise InvalidProductCode, ProductNotFound, VersionConflict, or what any request may meet.
        """
        return self._reply(
            Request(kinds.RESTORE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def add_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        start_date: date | str,
        items: Sequence[VersionItem],
        end_date: date | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductVersionResult]:
        """Add a version to a product; no two of its versions share a day.

        Add a version, in force from its first to its last day (inclusive), which no other version may share.
            A product is at most 768 KiB as `get_product` shows it, with all its versions.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - start_date: A day, YYYY-MM-DD
        - items: 0 to 200 of them
        - end_date: Inclusive, not before `start_date`; null: no end

        Raise InvalidProductCode, ProductNotFound, ProductVersionAlreadyExists, OverlappingDateRange,
        BusinessRuleViolation, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.ADD_PRODUCT_VERSION_V1,
                {
                    "mnemonic": mnemonic,
                    "version_label": version_label,
                    "start_date": start_date,
                    "items": items,
                    "end_date": end_date,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def end_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        end_date: date | str | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductVersionResult]:
        """Set the last day of a product's version, or, with null, let it go on without end.

        Set the last day of a version; null re-opens it.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - end_date: A day, YYYY-MM-DD

        Raise InvalidProductCode, ProductNotFound, ProductVersionNotFound, OverlappingDateRange,
        BusinessRuleViolation, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.END_PRODUCT_VERSION_V1,
                {"mnemonic": mnemonic, "version_label": version_label, "end_date": end_date},
            ),
            message_id,
            timeout,
            key,
        )

    def set_validation_rules(
        self,
        *,
        mnemonic: str,
        rules: Sequence[ValidationRule],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductRulesResult]:
        """Replace the rules that the lines of a product's orders must meet.

        Replace the rules of a product.
            A rule's `parameters` are a JSON Schema of the dialect 2020-12 that refers to nothing outside
        itself. All rules of a
            product together may need at most 20,000 evaluations of keywords for a line's attributes of 2 KiB.

        - mnemonic: A product's code
        - rules: 0 to 50 of them

        Raise InvalidProductCode, ProductNotFound, BusinessRuleError, or what any request may meet.
        """
        return self._reply(
            Request(kinds.SET_VALIDATION_RULES_V1, {"mnemonic": mnemonic, "rules": rules}), message_id, timeout, key
        )

    def import_products(
        self,
        *,
        products: Sequence[CreateProduct],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.WarningsOfRefusedRow]:
        """Create up to 1,000 products at once; what is wrong with a row costs that row.

        Create up to 1,000 products at once; a row that is no good is told in a warning, the others are
        imported.

        - products: 1 to 1000 of them
        """
        return self._reply(Request(kinds.IMPORT_PRODUCTS_V1, {"products": products}), message_id, timeout, key)

    def get_product(
        self,
        *,
        mnemonic: str | None | Unset = UNSET,
        product_id: UUID | str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductDetailResult]:
        """One product with its versions and their items.

        Ask for one product with its versions and their items, by mnemonic or by id: exactly one of them is
        given.

        - mnemonic: A product's code
        - product_id: A UUID; kept and answered in lower case

        Raise InvalidProductCode, ProductNotFound, or what any request may meet.
        """
        return self._reply(
            Request(kinds.GET_PRODUCT_V1, {"mnemonic": mnemonic, "product_id": product_id}), None, timeout, key
        )

    def list_products(
        self,
        *,
        page_size: int | Unset = UNSET,
        page: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        category: str | None | Unset = UNSET,
        archived: bool | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.PageOfProductResult]:
        """A page of products, newest first, without versions: all, a category's, archived or not.

        Ask for a page of products, newest first: of all, of a category, of the archived ones or of the others.
            A cursor leads further than pages do.

        - page_size: 1 to 100; otherwise 10
        - page: page × page_size at most 10,000; further on, use the cursor; 1 to 10000; otherwise 1
        - cursor: `next_cursor` of the page before, with the same filters
        - category: 1 to 100 characters
        - archived: True: the archived ones; false: the others; null: all
        """
        return self._reply(
            Request(
                kinds.LIST_PRODUCTS_V1,
                {"page_size": page_size, "page": page, "cursor": cursor, "category": category, "archived": archived},
            ),
            None,
            timeout,
            key,
        )

    def search_products(
        self,
        *,
        mnemonic_contains: str | None | Unset = UNSET,
        limit: int | Unset = UNSET,
        offset: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.PageOfProductResult]:
        """A page of the products whose mnemonic holds this part, newest first.

        Search products by a part of their mnemonic, newest first; `%`, `_`, `\\` are ordinary characters.

        - mnemonic_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        - offset: 0 to 10000; otherwise 0
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._reply(
            Request(
                kinds.SEARCH_PRODUCTS_V1,
                {"mnemonic_contains": mnemonic_contains, "limit": limit, "offset": offset, "cursor": cursor},
            ),
            None,
            timeout,
            key,
        )

    def find_products_for_date_range(
        self,
        *,
        start_date: date | str,
        end_date: date | str,
        page_size: int | Unset = UNSET,
        page: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.PageOfProductResult]:
        """A page of the products that have a version in force on any day of the range, newest first.

        Ask for the products that have a version in force on any day of the range, both ends included; newest
        first.

        - start_date: A day, YYYY-MM-DD
        - end_date: Not before `start_date`
        - page_size: 1 to 100; otherwise 10
        - page: page × page_size at most 10,000; further on, use the cursor; 1 to 10000; otherwise 1
        - cursor: `next_cursor` of the page before, with the same filters
        """
        return self._reply(
            Request(
                kinds.FIND_PRODUCTS_FOR_DATE_RANGE_V1,
                {
                    "start_date": start_date,
                    "end_date": end_date,
                    "page_size": page_size,
                    "page": page,
                    "cursor": cursor,
                },
            ),
            None,
            timeout,
            key,
        )

    def validate_product_data(
        self,
        *,
        mnemonic: str,
        data: Mapping[str, Any],
        on_date: date | str | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ProductDataResult]:
        """Which of a product's rules hold for these attributes of a line, and why the others do not.

        Ask which rules of a product that are in force on a day (today unless given) the data meets.

        - mnemonic: A product's code
        - data: At most 16 KiB in canonical form (RFC 8785), 32 levels
        - on_date: A day, YYYY-MM-DD

        Raise InvalidProductCode, ProductNotFound, or what any request may meet.
        """
        return self._reply(
            Request(kinds.VALIDATE_PRODUCT_DATA_V1, {"mnemonic": mnemonic, "data": data, "on_date": on_date}),
            None,
            timeout,
            key,
        )

    def place_order(
        self,
        *,
        customer_id: UUID | str,
        lines: Sequence[OrderLine],
        order_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.OrderResult]:
        """Order products for an active customer; each line must meet its product's rules of the day.

        Order products for a customer; without an `order_id` the workers choose one. The total is never the
        caller's.

        - customer_id: A UUID; kept and answered in lower case
        - lines: They add up to at most 9,999,999,999.99; 1 to 100 of them
        - order_id: A UUID; kept and answered in lower case

        Raise InvalidProductCode, CustomerNotFound, ProductNotFound, OrderAlreadyExists, BusinessRuleViolation,
        BusinessRuleError, or what any request may meet.
        """
        return self._reply(
            Request(kinds.PLACE_ORDER_V1, {"customer_id": customer_id, "lines": lines, "order_id": order_id}),
            message_id,
            timeout,
            key,
        )

    def cancel_order(
        self,
        *,
        customer_id: UUID | str,
        order_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.OrderResult]:
        """Take a customer's order back; works for a deleted customer's order, too.

        Take a customer's order back.

        - customer_id: A UUID; kept and answered in lower case
        - order_id: A UUID; kept and answered in lower case

        Raise CustomerNotFound, OrderNotFound, or what any request may meet.
        """
        return self._reply(
            Request(kinds.CANCEL_ORDER_V1, {"customer_id": customer_id, "order_id": order_id}), message_id, timeout, key
        )

    def get_order(
        self, *, order_id: UUID | str, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.OrderResult]:
        """One order.

        Ask for one order.

        - order_id: A UUID; kept and answered in lower case

        Raise OrderNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.GET_ORDER_V1, {"order_id": order_id}), None, timeout, key)

    def get_customer_orders(
        self,
        *,
        customer_id: UUID | str,
        page: int | Unset = UNSET,
        page_size: int | Unset = UNSET,
        cursor: str | None | Unset = UNSET,
        status: Literal["placed", "cancelled"] | None | Unset = UNSET,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.PageOfOrderResult]:
        """A page of a living customer's orders, newest first.

        Ask for a customer's orders, newest first, cancelled ones too unless one status is asked for.

        - customer_id: A UUID; kept and answered in lower case
        - page: 1 to 10000000; otherwise 1
        - page_size: 1 to 100; otherwise 10
        - cursor: `next_cursor` of the page before, with the same filters

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._reply(
            Request(
                kinds.GET_CUSTOMER_ORDERS_V1,
                {"customer_id": customer_id, "page": page, "page_size": page_size, "cursor": cursor, "status": status},
            ),
            None,
            timeout,
            key,
        )

    def start_backfill(
        self,
        *,
        name: str,
        dry_run: bool | Unset = UNSET,
        reverse: bool | Unset = UNSET,
        rate: float | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.BackfillResult]:
        """Ask for a run of a backfill, or for a dry one; a backfill worker takes it up.

        Ask for a run; with `dry_run` for a plan, an estimate, and one chunk that is rolled back.

        - dry_run: otherwise False
        - reverse: otherwise False
        - rate: 0.001 to 1000000000.0

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(
            Request(kinds.START_BACKFILL_V1, {"name": name, "dry_run": dry_run, "reverse": reverse, "rate": rate}),
            message_id,
            timeout,
            key,
        )

    def pause_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillResult]:
        """Let a run begin no more chunks; those in flight end within 2 s, or are rolled back.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.PAUSE_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def resume_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillResult]:
        """Let a paused run go on.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.RESUME_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def cancel_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillResult]:
        """End a run for good; what was committed stays.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.CANCEL_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def set_backfill_rate(
        self,
        *,
        name: str,
        rows_per_s: float | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.BackfillResult]:
        """Cap the rate of the active run, all workers together, or lift the cap.

        Cap the rate of the active run; null lifts the cap.

        - rows_per_s: 0.001 to 1000000000.0

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(
            Request(kinds.SET_BACKFILL_RATE_V1, {"name": name, "rows_per_s": rows_per_s}), message_id, timeout, key
        )

    def retry_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillResult]:
        """Set a failed run going again, or one that ended with rows put aside.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.RETRY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def verify_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillResult]:
        """Ask for a verify of the last run, once that has ended, in whatever way.

        Name a backfill.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.VERIFY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def advance_phase(
        self,
        *,
        change: str,
        to: Literal["expanded", "dual_write", "backfilled", "reading_new", "contracted"],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[results.ChangeResult]:
        """Ask for one step of a zero-downtime change, forth or back; a backfill worker takes it.

        Ask for one step of a change, forth or back.

        Raise BackfillNotFound, IllegalTransition, or what any request may meet.
        """
        return self._reply(Request(kinds.ADVANCE_PHASE_V1, {"change": change, "to": to}), message_id, timeout, key)

    def get_backfill(
        self, *, name: str, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.BackfillDetailResult]:
        """The last run of a backfill with its verify, and the change of the same name.

        Name a backfill.

        Raise BackfillNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.GET_BACKFILL_V1, {"name": name}), None, timeout, key)

    def list_backfills(self, *, timeout: Timeout = UNSET, key: str | None = None) -> Reply[results.PageOfBackfillItem]:
        """Every backfill with its last run, by name, on one page.

        Ask for every backfill with the state of its last run.
        """
        return self._reply(Request(kinds.LIST_BACKFILLS_V1, {}), None, timeout, key)

    def get_outcome(
        self, *, message_id: str, timeout: Timeout = UNSET, key: str | None = None
    ) -> Reply[results.OutcomeResult]:
        """What answered the caller's own command of this message_id: after a time-out it tells.

        Ask for the stored envelope of an earlier command of the same caller.

        Raise OutcomeNotFound, or what any request may meet.
        """
        return self._reply(Request(kinds.GET_OUTCOME_V1, {"message_id": message_id}), None, timeout, key)


class SyncSends(SyncSending):
    """The commands, without an answer; each returns its message_id."""

    def create_customer(
        self,
        *,
        name: str,
        email: str,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        customer_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Create a customer, active from the start; the e-mail address must be no living customer's.

        Create a customer; without a `customer_id` the workers choose one.

        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels
        - customer_id: A UUID; kept and answered in lower case
        """
        return self._sent(
            Request(
                kinds.CREATE_CUSTOMER_V1,
                {"name": name, "email": email, "preferences": preferences, "customer_id": customer_id},
            ),
            message_id,
            timeout,
            key,
        )

    def update_customer(
        self,
        *,
        customer_id: UUID | str,
        name: str | Unset = UNSET,
        email: str | Unset = UNSET,
        preferences: Mapping[str, Any] | None | Unset = UNSET,
        is_active: bool | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Change what is known of a customer; one that is made inactive places no orders.

        Change the fields that are given, keep the others; null preferences clear them.

        - customer_id: A UUID; kept and answered in lower case
        - name: 1 to 200 characters
        - email: An e-mail address, in letters of any script; 0 to 254 characters
        - preferences: At most 16 KiB in canonical form (RFC 8785), 32 levels
        """
        return self._sent(
            Request(
                kinds.UPDATE_CUSTOMER_V1,
                {
                    "customer_id": customer_id,
                    "name": name,
                    "email": email,
                    "preferences": preferences,
                    "is_active": is_active,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_customer(
        self,
        *,
        customer_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Erase a customer's name, e-mail address and preferences for good; the orders keep the bare id.

        Erase a customer's personal data for good.

        - customer_id: A UUID; kept and answered in lower case
        """
        return self._sent(Request(kinds.DELETE_CUSTOMER_V1, {"customer_id": customer_id}), message_id, timeout, key)

    def create_product_v1(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Create a product; its mnemonic must be no other's.

        Create a product without category, tags and catalogue.

        Deprecated since 2024-06-01, sunset 2024-12-01: create_product version 2.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False
        """
        return self._sent(
            Request(
                kinds.CREATE_PRODUCT_V1,
                {"mnemonic": mnemonic, "overview": overview, "is_confidential": is_confidential},
            ),
            message_id,
            timeout,
            key,
        )

    def create_product(
        self,
        *,
        mnemonic: str,
        overview: str,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Create a product; its mnemonic must be no other's.

        Create a product.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - is_confidential: otherwise False
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels
        """
        return self._sent(
            Request(
                kinds.CREATE_PRODUCT_V2,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def update_product(
        self,
        *,
        mnemonic: str,
        overview: str | Unset = UNSET,
        is_confidential: bool | Unset = UNSET,
        category: str | None | Unset = UNSET,
        tags: Sequence[str] | None | Unset = UNSET,
        catalog: Mapping[str, Any] | None | Unset = UNSET,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Change a product's fields; what is absent is kept.

        Change the fields that are given, keep the others; null clears category, tags and catalogue.
            A product is at most 768 KiB as `get_product` shows it.

        - mnemonic: A product's code
        - overview: 0 to 1000 characters
        - category: 1 to 100 characters
        - tags: 0 to 20 of them
        - catalog: At most 64 KiB in canonical form (RFC 8785), 32 levels
        """
        return self._sent(
            Request(
                kinds.UPDATE_PRODUCT_V1,
                {
                    "mnemonic": mnemonic,
                    "overview": overview,
                    "is_confidential": is_confidential,
                    "category": category,
                    "tags": tags,
                    "catalog": catalog,
                    "expected_version": expected_version,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def delete_product(
        self, *, mnemonic: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """Delete a product with its versions and rules; refused while a placed order refers to it.

        Delete a product with its versions and rules; refused while a placed order refers to it.

        - mnemonic: A product's code
        """
        return self._sent(Request(kinds.DELETE_PRODUCT_V1, {"mnemonic": mnemonic}), message_id, timeout, key)

    def archive_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Take a product off sale: orders of it are refused until it is restored; all else goes on.

        Take a product off sale: no order of it is placed any more; all else goes on, and its mnemonic stays
        taken.

        - mnemonic: A product's code
        """
        return self._sent(
            Request(kinds.ARCHIVE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def restore_product(
        self,
        *,
        mnemonic: str,
        expected_version: int | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Put an archived product on sale again.

        Put an archived product on sale again.

        - mnemonic: A product's code
        """
        return self._sent(
            Request(kinds.RESTORE_PRODUCT_V1, {"mnemonic": mnemonic, "expected_version": expected_version}),
            message_id,
            timeout,
            key,
        )

    def add_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        start_date: date | str,
        items: Sequence[VersionItem],
        end_date: date | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Add a version to a product; no two of its versions share a day.

        Add a version, in force from its first to its last day (inclusive), which no other version may share.
            A product is at most 768 KiB as `get_product` shows it, with all its versions.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - start_date: A day, YYYY-MM-DD
        - items: 0 to 200 of them
        - end_date: Inclusive, not before `start_date`; null: no end
        """
        return self._sent(
            Request(
                kinds.ADD_PRODUCT_VERSION_V1,
                {
                    "mnemonic": mnemonic,
                    "version_label": version_label,
                    "start_date": start_date,
                    "items": items,
                    "end_date": end_date,
                },
            ),
            message_id,
            timeout,
            key,
        )

    def end_product_version(
        self,
        *,
        mnemonic: str,
        version_label: str,
        end_date: date | str | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Set the last day of a product's version, or, with null, let it go on without end.

        Set the last day of a version; null re-opens it.

        - mnemonic: A product's code
        - version_label: 1 to 50 characters
        - end_date: A day, YYYY-MM-DD
        """
        return self._sent(
            Request(
                kinds.END_PRODUCT_VERSION_V1,
                {"mnemonic": mnemonic, "version_label": version_label, "end_date": end_date},
            ),
            message_id,
            timeout,
            key,
        )

    def set_validation_rules(
        self,
        *,
        mnemonic: str,
        rules: Sequence[ValidationRule],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Replace the rules that the lines of a product's orders must meet.

        Replace the rules of a product.
            A rule's `parameters` are a JSON Schema of the dialect 2020-12 that refers to nothing outside
        itself. All rules of a
            product together may need at most 20,000 evaluations of keywords for a line's attributes of 2 KiB.

        - mnemonic: A product's code
        - rules: 0 to 50 of them
        """
        return self._sent(
            Request(kinds.SET_VALIDATION_RULES_V1, {"mnemonic": mnemonic, "rules": rules}), message_id, timeout, key
        )

    def import_products(
        self,
        *,
        products: Sequence[CreateProduct],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Create up to 1,000 products at once; what is wrong with a row costs that row.

        Create up to 1,000 products at once; a row that is no good is told in a warning, the others are
        imported.

        - products: 1 to 1000 of them
        """
        return self._sent(Request(kinds.IMPORT_PRODUCTS_V1, {"products": products}), message_id, timeout, key)

    def place_order(
        self,
        *,
        customer_id: UUID | str,
        lines: Sequence[OrderLine],
        order_id: UUID | str | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Order products for an active customer; each line must meet its product's rules of the day.

        Order products for a customer; without an `order_id` the workers choose one. The total is never the
        caller's.

        - customer_id: A UUID; kept and answered in lower case
        - lines: They add up to at most 9,999,999,999.99; 1 to 100 of them
        - order_id: A UUID; kept and answered in lower case
        """
        return self._sent(
            Request(kinds.PLACE_ORDER_V1, {"customer_id": customer_id, "lines": lines, "order_id": order_id}),
            message_id,
            timeout,
            key,
        )

    def cancel_order(
        self,
        *,
        customer_id: UUID | str,
        order_id: UUID | str,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Take a customer's order back; works for a deleted customer's order, too.

        Take a customer's order back.

        - customer_id: A UUID; kept and answered in lower case
        - order_id: A UUID; kept and answered in lower case
        """
        return self._sent(
            Request(kinds.CANCEL_ORDER_V1, {"customer_id": customer_id, "order_id": order_id}), message_id, timeout, key
        )

    def start_backfill(
        self,
        *,
        name: str,
        dry_run: bool | Unset = UNSET,
        reverse: bool | Unset = UNSET,
        rate: float | None | Unset = UNSET,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Ask for a run of a backfill, or for a dry one; a backfill worker takes it up.

        Ask for a run; with `dry_run` for a plan, an estimate, and one chunk that is rolled back.

        - dry_run: otherwise False
        - reverse: otherwise False
        - rate: 0.001 to 1000000000.0
        """
        return self._sent(
            Request(kinds.START_BACKFILL_V1, {"name": name, "dry_run": dry_run, "reverse": reverse, "rate": rate}),
            message_id,
            timeout,
            key,
        )

    def pause_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """Let a run begin no more chunks; those in flight end within 2 s, or are rolled back.

        Name a backfill.
        """
        return self._sent(Request(kinds.PAUSE_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def resume_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """Let a paused run go on.

        Name a backfill.
        """
        return self._sent(Request(kinds.RESUME_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def cancel_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """End a run for good; what was committed stays.

        Name a backfill.
        """
        return self._sent(Request(kinds.CANCEL_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def set_backfill_rate(
        self,
        *,
        name: str,
        rows_per_s: float | None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Cap the rate of the active run, all workers together, or lift the cap.

        Cap the rate of the active run; null lifts the cap.

        - rows_per_s: 0.001 to 1000000000.0
        """
        return self._sent(
            Request(kinds.SET_BACKFILL_RATE_V1, {"name": name, "rows_per_s": rows_per_s}), message_id, timeout, key
        )

    def retry_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """Set a failed run going again, or one that ended with rows put aside.

        Name a backfill.
        """
        return self._sent(Request(kinds.RETRY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def verify_backfill(
        self, *, name: str, message_id: str | None = None, timeout: Timeout = UNSET, key: str | None = None
    ) -> str:
        """Ask for a verify of the last run, once that has ended, in whatever way.

        Name a backfill.
        """
        return self._sent(Request(kinds.VERIFY_BACKFILL_V1, {"name": name}), message_id, timeout, key)

    def advance_phase(
        self,
        *,
        change: str,
        to: Literal["expanded", "dual_write", "backfilled", "reading_new", "contracted"],
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> str:
        """Ask for one step of a zero-downtime change, forth or back; a backfill worker takes it.

        Ask for one step of a change, forth or back.
        """
        return self._sent(Request(kinds.ADVANCE_PHASE_V1, {"change": change, "to": to}), message_id, timeout, key)


class SyncIterates(SyncIterating):
    """The lists, item by item, page after page."""

    def search_customers(
        self,
        *,
        name_contains: str | None | Unset = UNSET,
        email_contains: str | None | Unset = UNSET,
        is_active: bool | None | Unset = UNSET,
        limit: int | Unset = UNSET,
        timeout: Timeout = UNSET,
    ) -> Iterator[results.CustomerResult]:
        """A page of the living customers whose name and e-mail address hold these parts, newest first.

        Search living customers, newest first, without regard to case; every character is an ordinary one.

        - name_contains: 1 to 254 characters
        - email_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        """
        return self._items(
            kinds.SEARCH_CUSTOMERS_V1,
            {"name_contains": name_contains, "email_contains": email_contains, "is_active": is_active, "limit": limit},
            timeout,
        )

    def list_products(
        self,
        *,
        page_size: int | Unset = UNSET,
        category: str | None | Unset = UNSET,
        archived: bool | None | Unset = UNSET,
        timeout: Timeout = UNSET,
    ) -> Iterator[results.ProductResult]:
        """A page of products, newest first, without versions: all, a category's, archived or not.

        Ask for a page of products, newest first: of all, of a category, of the archived ones or of the others.
            A cursor leads further than pages do.

        - page_size: 1 to 100; otherwise 10
        - category: 1 to 100 characters
        - archived: True: the archived ones; false: the others; null: all
        """
        return self._items(
            kinds.LIST_PRODUCTS_V1, {"page_size": page_size, "category": category, "archived": archived}, timeout
        )

    def search_products(
        self, *, mnemonic_contains: str | None | Unset = UNSET, limit: int | Unset = UNSET, timeout: Timeout = UNSET
    ) -> Iterator[results.ProductResult]:
        """A page of the products whose mnemonic holds this part, newest first.

        Search products by a part of their mnemonic, newest first; `%`, `_`, `\\` are ordinary characters.

        - mnemonic_contains: 1 to 254 characters
        - limit: 1 to 100; otherwise 50
        """
        return self._items(kinds.SEARCH_PRODUCTS_V1, {"mnemonic_contains": mnemonic_contains, "limit": limit}, timeout)

    def find_products_for_date_range(
        self, *, start_date: date | str, end_date: date | str, page_size: int | Unset = UNSET, timeout: Timeout = UNSET
    ) -> Iterator[results.ProductResult]:
        """A page of the products that have a version in force on any day of the range, newest first.

        Ask for the products that have a version in force on any day of the range, both ends included; newest
        first.

        - start_date: A day, YYYY-MM-DD
        - end_date: Not before `start_date`
        - page_size: 1 to 100; otherwise 10
        """
        return self._items(
            kinds.FIND_PRODUCTS_FOR_DATE_RANGE_V1,
            {"start_date": start_date, "end_date": end_date, "page_size": page_size},
            timeout,
        )

    def get_customer_orders(
        self,
        *,
        customer_id: UUID | str,
        page_size: int | Unset = UNSET,
        status: Literal["placed", "cancelled"] | None | Unset = UNSET,
        timeout: Timeout = UNSET,
    ) -> Iterator[results.OrderResult]:
        """A page of a living customer's orders, newest first.

        Ask for a customer's orders, newest first, cancelled ones too unless one status is asked for.

        - customer_id: A UUID; kept and answered in lower case
        - page_size: 1 to 100; otherwise 10

        Raise CustomerNotFound, or what any request may meet.
        """
        return self._items(
            kinds.GET_CUSTOMER_ORDERS_V1,
            {"customer_id": customer_id, "page_size": page_size, "status": status},
            timeout,
        )
