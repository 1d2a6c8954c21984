# Generated from the contract by clients/python/generate.py: edit neither by hand.
"""The kinds of the contract, each version by itself."""

from collections.abc import Mapping
from typing import Any, Final

from catalog_client.generated import results
from catalog_client.requests import Kind, read_nothing

CREATE_CUSTOMER_V1: Final[Kind[results.CustomerResult]] = Kind(
    "create_customer",
    1,
    "commands",
    (
        "customer_id",
        "email",
    ),
    results.CustomerResult.read,
)
UPDATE_CUSTOMER_V1: Final[Kind[results.CustomerResult]] = Kind(
    "update_customer", 1, "commands", ("customer_id",), results.CustomerResult.read
)
DELETE_CUSTOMER_V1: Final[Kind[None]] = Kind("delete_customer", 1, "commands", ("customer_id",), read_nothing)
GET_CUSTOMER_V1: Final[Kind[results.CustomerResult]] = Kind(
    "get_customer", 1, "queries", (), results.CustomerResult.read
)
SEARCH_CUSTOMERS_V1: Final[Kind[results.PageOfCustomerResult]] = Kind(
    "search_customers", 1, "queries", (), results.PageOfCustomerResult.read
)
GET_CUSTOMER_SUMMARY_V1: Final[Kind[results.CustomerSummaryResult]] = Kind(
    "get_customer_summary", 1, "queries", (), results.CustomerSummaryResult.read
)
CUSTOMER_ANALYTICS_V1: Final[Kind[results.CustomerAnalyticsResult]] = Kind(
    "customer_analytics", 1, "queries", (), results.CustomerAnalyticsResult.read
)
CREATE_PRODUCT_V1: Final[Kind[results.ProductResult]] = Kind(
    "create_product", 1, "commands", ("mnemonic",), results.ProductResult.read
)
CREATE_PRODUCT_V2: Final[Kind[results.ProductResult]] = Kind(
    "create_product", 2, "commands", ("mnemonic",), results.ProductResult.read
)
UPDATE_PRODUCT_V1: Final[Kind[results.ProductResult]] = Kind(
    "update_product", 1, "commands", ("mnemonic",), results.ProductResult.read
)
DELETE_PRODUCT_V1: Final[Kind[None]] = Kind("delete_product", 1, "commands", ("mnemonic",), read_nothing)
ARCHIVE_PRODUCT_V1: Final[Kind[results.ProductResult]] = Kind(
    "archive_product", 1, "commands", ("mnemonic",), results.ProductResult.read
)
RESTORE_PRODUCT_V1: Final[Kind[results.ProductResult]] = Kind(
    "restore_product", 1, "commands", ("mnemonic",), results.ProductResult.read
)
ADD_PRODUCT_VERSION_V1: Final[Kind[results.ProductVersionResult]] = Kind(
    "add_product_version", 1, "commands", ("mnemonic",), results.ProductVersionResult.read
)
END_PRODUCT_VERSION_V1: Final[Kind[results.ProductVersionResult]] = Kind(
    "end_product_version", 1, "commands", ("mnemonic",), results.ProductVersionResult.read
)
SET_VALIDATION_RULES_V1: Final[Kind[results.ProductRulesResult]] = Kind(
    "set_validation_rules", 1, "commands", ("mnemonic",), results.ProductRulesResult.read
)
IMPORT_PRODUCTS_V1: Final[Kind[results.WarningsOfRefusedRow]] = Kind(
    "import_products", 1, "commands", (), results.WarningsOfRefusedRow.read
)
GET_PRODUCT_V1: Final[Kind[results.ProductDetailResult]] = Kind(
    "get_product", 1, "queries", (), results.ProductDetailResult.read
)
LIST_PRODUCTS_V1: Final[Kind[results.PageOfProductResult]] = Kind(
    "list_products", 1, "queries", (), results.PageOfProductResult.read
)
SEARCH_PRODUCTS_V1: Final[Kind[results.PageOfProductResult]] = Kind(
    "search_products", 1, "queries", (), results.PageOfProductResult.read
)
FIND_PRODUCTS_FOR_DATE_RANGE_V1: Final[Kind[results.PageOfProductResult]] = Kind(
    "find_products_for_date_range", 1, "queries", (), results.PageOfProductResult.read
)
VALIDATE_PRODUCT_DATA_V1: Final[Kind[results.ProductDataResult]] = Kind(
    "validate_product_data", 1, "queries", (), results.ProductDataResult.read
)
PLACE_ORDER_V1: Final[Kind[results.OrderResult]] = Kind(
    "place_order", 1, "commands", ("customer_id",), results.OrderResult.read
)
CANCEL_ORDER_V1: Final[Kind[results.OrderResult]] = Kind(
    "cancel_order", 1, "commands", ("customer_id",), results.OrderResult.read
)
GET_ORDER_V1: Final[Kind[results.OrderResult]] = Kind("get_order", 1, "queries", (), results.OrderResult.read)
GET_CUSTOMER_ORDERS_V1: Final[Kind[results.PageOfOrderResult]] = Kind(
    "get_customer_orders", 1, "queries", (), results.PageOfOrderResult.read
)
START_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "start_backfill", 1, "commands", (), results.BackfillResult.read
)
PAUSE_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "pause_backfill", 1, "commands", (), results.BackfillResult.read
)
RESUME_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "resume_backfill", 1, "commands", (), results.BackfillResult.read
)
CANCEL_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "cancel_backfill", 1, "commands", (), results.BackfillResult.read
)
SET_BACKFILL_RATE_V1: Final[Kind[results.BackfillResult]] = Kind(
    "set_backfill_rate", 1, "commands", (), results.BackfillResult.read
)
RETRY_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "retry_backfill", 1, "commands", (), results.BackfillResult.read
)
VERIFY_BACKFILL_V1: Final[Kind[results.BackfillResult]] = Kind(
    "verify_backfill", 1, "commands", (), results.BackfillResult.read
)
ADVANCE_PHASE_V1: Final[Kind[results.ChangeResult]] = Kind(
    "advance_phase", 1, "commands", (), results.ChangeResult.read
)
GET_BACKFILL_V1: Final[Kind[results.BackfillDetailResult]] = Kind(
    "get_backfill", 1, "queries", (), results.BackfillDetailResult.read
)
LIST_BACKFILLS_V1: Final[Kind[results.PageOfBackfillItem]] = Kind(
    "list_backfills", 1, "queries", (), results.PageOfBackfillItem.read
)
GET_OUTCOME_V1: Final[Kind[results.OutcomeResult]] = Kind("get_outcome", 1, "queries", (), results.OutcomeResult.read)

NEWEST: Final[Mapping[str, Kind[Any]]] = {
    "create_customer": CREATE_CUSTOMER_V1,
    "update_customer": UPDATE_CUSTOMER_V1,
    "delete_customer": DELETE_CUSTOMER_V1,
    "get_customer": GET_CUSTOMER_V1,
    "search_customers": SEARCH_CUSTOMERS_V1,
    "get_customer_summary": GET_CUSTOMER_SUMMARY_V1,
    "customer_analytics": CUSTOMER_ANALYTICS_V1,
    "create_product": CREATE_PRODUCT_V2,
    "update_product": UPDATE_PRODUCT_V1,
    "delete_product": DELETE_PRODUCT_V1,
    "archive_product": ARCHIVE_PRODUCT_V1,
    "restore_product": RESTORE_PRODUCT_V1,
    "add_product_version": ADD_PRODUCT_VERSION_V1,
    "end_product_version": END_PRODUCT_VERSION_V1,
    "set_validation_rules": SET_VALIDATION_RULES_V1,
    "import_products": IMPORT_PRODUCTS_V1,
    "get_product": GET_PRODUCT_V1,
    "list_products": LIST_PRODUCTS_V1,
    "search_products": SEARCH_PRODUCTS_V1,
    "find_products_for_date_range": FIND_PRODUCTS_FOR_DATE_RANGE_V1,
    "validate_product_data": VALIDATE_PRODUCT_DATA_V1,
    "place_order": PLACE_ORDER_V1,
    "cancel_order": CANCEL_ORDER_V1,
    "get_order": GET_ORDER_V1,
    "get_customer_orders": GET_CUSTOMER_ORDERS_V1,
    "start_backfill": START_BACKFILL_V1,
    "pause_backfill": PAUSE_BACKFILL_V1,
    "resume_backfill": RESUME_BACKFILL_V1,
    "cancel_backfill": CANCEL_BACKFILL_V1,
    "set_backfill_rate": SET_BACKFILL_RATE_V1,
    "retry_backfill": RETRY_BACKFILL_V1,
    "verify_backfill": VERIFY_BACKFILL_V1,
    "advance_phase": ADVANCE_PHASE_V1,
    "get_backfill": GET_BACKFILL_V1,
    "list_backfills": LIST_BACKFILLS_V1,
    "get_outcome": GET_OUTCOME_V1,
}
