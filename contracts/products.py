"""Products on the wire: their commands, queries and results."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, ValidationError, core_schema

from contracts.envelope import Page, Warnings, created, deleted, listed, partial, retrieved, updated
from contracts.errors import (
    BusinessRuleError,
    BusinessRuleViolationError,
    InvalidProductCodeError,
    OverlappingDateRangeError,
    ProductAlreadyExistsError,
    ProductNotFoundError,
    ProductVersionAlreadyExistsError,
    ProductVersionNotFoundError,
    ValidationFailedError,
    VersionConflictError,
)
from contracts.fields import (
    Attributes,
    BoundedPageNumber,
    Cursor,
    Identifier,
    Limit,
    Needle,
    Offset,
    PageSize,
    absent,
    since,
)
from contracts.kinds import (
    CREATED,
    DONE,
    MNEMONIC_ERROR,
    PARTIAL,
    UNCHANGED,
    Keys,
    Kind,
    Payload,
    Role,
    Version,
    refusal_of,
    upcast,
)
from contracts.text import JsonObject, Text
from contracts.values import value

RESOURCE: Final = "Product"
VERSION_RESOURCE: Final = "Product version"
IMPORT_ACTION: Final = "Product import"

MAX_VERSIONS: Final = 200
MAX_ITEMS: Final = 200
MAX_RULES: Final = 50
MAX_IMPORT: Final = 1000
_INT4: Final = 2**31

_MNEMONIC_PATTERN: Final = r"^[A-Z0-9_]{1,50}$"
_DAY_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class _MnemonicRules:
    """Metadata of a mnemonic: its form has an error type, and so an error_code, of its own; all of it in the core."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        form = core_schema.str_schema(pattern=_MNEMONIC_PATTERN, regex_engine="rust-regex")
        return core_schema.chain_schema(
            [
                core_schema.str_schema(strict=True, strip_whitespace=True),
                core_schema.custom_error_schema(
                    form,
                    custom_error_type=MNEMONIC_ERROR,
                    custom_error_message="A product's mnemonic has 1 to 50 characters of A-Z, 0-9 and _",
                ),
            ]
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": _MNEMONIC_PATTERN, "description": "A product's code"}


class _DayRules:
    """Metadata of a calendar day: ISO 8601 and nothing else (pydantic's own date takes seconds since 1970 as well)."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        form = core_schema.str_schema(pattern=_DAY_PATTERN, regex_engine="rust-regex")
        return core_schema.chain_schema(
            [
                core_schema.str_schema(strict=True),
                core_schema.custom_error_schema(
                    core_schema.chain_schema([form, core_schema.date_schema(strict=False)]),
                    custom_error_type="date",
                    custom_error_message="Input should be a date, YYYY-MM-DD",
                ),
            ]
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "date", "pattern": _DAY_PATTERN, "description": "A day, YYYY-MM-DD"}


def _not_before_start(end: date | None, info: ValidationInfo) -> date | None:
    start = info.data.get("start_date")
    if end is not None and start is not None and end < start:
        raise PydanticCustomError("date_range", "The end should not be before the start")
    return end


Mnemonic = Annotated[str, _MnemonicRules()]
"""A product's code. What has another form is answered by INVALID_PRODUCT_CODE wherever a product is named by it."""
Day = Annotated[date, _DayRules()]
LastDay = Annotated[
    Day | None, AfterValidator(_not_before_start), Field(description="Inclusive, not before `start_date`; null: no end")
]
"""The last day, inclusive, of what begins with the field `start_date` before it; null: without end."""
Overview = Annotated[str, Text(0, 1000)]
Category = Annotated[str, Text(1, 100)]
Tags = Annotated[list[Annotated[str, Text(1, 50)]], Field(max_length=20)]
Catalog = Annotated[dict[str, object], JsonObject(64 * 1024)]
VersionLabel = Annotated[str, Text(1, 50)]
ExpectedVersion = Annotated[int, Field(ge=1)]
RuleSchema = Annotated[dict[str, object], JsonObject(16 * 1024)]
"""A JSON Schema of the dialect 2020-12. Its bounds are those of `handlers.rules`."""
ProductData = Annotated[dict[str, object], JsonObject(16 * 1024)]


class CreateProductV1(Payload):
    """Create a product without category, tags and catalogue."""

    mnemonic: Mnemonic
    overview: Overview
    is_confidential: bool = False


class CreateProduct(Payload):
    """Create a product."""

    mnemonic: Mnemonic
    overview: Overview
    is_confidential: bool = False
    category: Category | None = None
    tags: Tags | None = None
    catalog: Catalog | None = None


class UpdateProduct(Payload):
    """Change the fields that are given, keep the others; null clears category, tags and catalogue.

    A product is at most 768 KiB as `get_product` shows it.
    """

    mnemonic: Mnemonic
    overview: Overview = absent()
    is_confidential: bool = absent()
    category: Category | None = None
    tags: Tags | None = None
    catalog: Catalog | None = None
    expected_version: ExpectedVersion | None = None


class DeleteProduct(Payload):
    """Delete a product with its versions and rules; refused while a placed order refers to it."""

    mnemonic: Mnemonic


class ProductChange(Payload):
    """Change a product, if it has the version that is expected."""

    mnemonic: Mnemonic
    expected_version: ExpectedVersion | None = None


class ArchiveProduct(ProductChange):
    """Take a product off sale: no order of it is placed any more; all else goes on, and its mnemonic stays taken."""


class RestoreProduct(ProductChange):
    """Put an archived product on sale again."""


class VersionItem(Payload):
    """An item of a version; items are listed by position."""

    name: Annotated[str, Text(1, 100)]
    position: Annotated[int, Field(ge=-_INT4, lt=_INT4)]
    attributes: Attributes | None = None


class AddProductVersion(Payload):
    """Add a version, in force from its first to its last day (inclusive), which no other version may share.

    A product is at most 768 KiB as `get_product` shows it, with all its versions.
    """

    mnemonic: Mnemonic
    version_label: VersionLabel
    start_date: Day
    end_date: LastDay = None
    items: Annotated[list[VersionItem], Field(max_length=MAX_ITEMS)]


class EndProductVersion(Payload):
    """Set the last day of a version; null re-opens it."""

    mnemonic: Mnemonic
    version_label: VersionLabel
    end_date: Day | None


class ValidationRule(Payload):
    """A rule for what orders say of the product, in force from its first to its last day."""

    name: Annotated[str, Text(1, 100)]
    parameters: RuleSchema
    start_date: Day
    end_date: LastDay = None


class SetValidationRules(Payload):
    """Replace the rules of a product.

    A rule's `parameters` are a JSON Schema of the dialect 2020-12 that refers to nothing outside itself. All rules of a
    product together may need at most 20,000 evaluations of keywords for a line's attributes of 2 KiB.
    """

    mnemonic: Mnemonic
    rules: Annotated[list[ValidationRule], Field(max_length=MAX_RULES)]


@value(frozen=True)
class BadRow:
    """A row of an import that is no good product."""

    error_code: str
    reason: str


_MAX_REASONS: Final = 3
_MAX_REASON: Final = 300


def _read_row(row: object, read: core_schema.ValidatorFunctionWrapHandler) -> CreateProduct | BadRow:
    if not isinstance(row, dict):
        raise PydanticCustomError("import_row", "Input should be an object")
    try:
        product: CreateProduct = read(row)
    except ValidationError as error:
        return _bad_row(refusal_of(error))
    return product


def _bad_row(error: ValidationFailedError | InvalidProductCodeError) -> BadRow:
    found = error.details.get("validation_errors")
    if not isinstance(found, Sequence):
        return BadRow(error.error_code, error.message)
    reasons = [f"{one['field']}: {one['message']}" for one in found[:_MAX_REASONS]]
    return BadRow(error.error_code, "; ".join(reasons)[:_MAX_REASON])


class _RowRules:
    """Metadata of a row: what is wrong inside an object costs the row, what is no object the import."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_read_row, handler.generate_schema(CreateProduct))


class ImportProducts(Payload):
    """Create up to 1,000 products at once; a row that is no good is told in a warning, the others are imported."""

    products: Annotated[
        list[Annotated[CreateProduct | BadRow, _RowRules()]], Field(min_length=1, max_length=MAX_IMPORT)
    ]


def _one_of_both(product_id: str | None, info: ValidationInfo) -> str | None:
    # A mnemonic that was no good has been told already; then it is not in the data.
    if "mnemonic" in info.data and (info.data["mnemonic"] is None) == (product_id is None):
        raise PydanticCustomError("one_of_both", "Either mnemonic or product_id should be given")
    return product_id


class GetProduct(Payload):
    """Ask for one product with its versions and their items, by mnemonic or by id: exactly one of them is given."""

    mnemonic: Mnemonic | None = None
    product_id: Annotated[Identifier | None, AfterValidator(_one_of_both)] = Field(None, validate_default=True)


class ListProducts(Payload):
    """Ask for a page of products, newest first: of all, of a category, of the archived ones or of the others.

    A cursor leads further than pages do.
    """

    page_size: PageSize = 10
    page: BoundedPageNumber = 1
    cursor: Cursor | None = None
    category: Category | None = None
    archived: Annotated[bool | None, Field(description="True: the archived ones; false: the others; null: all")] = None


class SearchProducts(Payload):
    r"""Search products by a part of their mnemonic, newest first; `%`, `_`, `\` are ordinary characters."""

    mnemonic_contains: Needle | None = None
    limit: Limit = 50
    offset: Offset = 0
    cursor: Cursor | None = None


class FindProductsForDateRange(Payload):
    """Ask for the products that have a version in force on any day of the range, both ends included; newest first."""

    start_date: Day
    end_date: Annotated[Day, AfterValidator(_not_before_start), Field(description="Not before `start_date`")]
    page_size: PageSize = 10
    page: BoundedPageNumber = 1
    cursor: Cursor | None = None


class ValidateProductData(Payload):
    """Ask which rules of a product that are in force on a day (today unless given) the data meets."""

    mnemonic: Mnemonic
    data: ProductData
    on_date: Day | None = None


@value(frozen=True)
class ProductResult:
    """A product as every envelope shows it. `version` counts up with each change, also of its versions and rules."""

    id: str
    mnemonic: str
    overview: str
    is_confidential: bool
    category: str | None
    tags: Sequence[str]
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: Annotated[datetime | None, since("1.1.0", "Since when it is not sold; null: it is sold")]
    catalog: dict[str, object]


@value(frozen=True)
class ItemResult:
    """An item of a version."""

    name: str
    position: int
    attributes: dict[str, object] | None


@value(frozen=True)
class ProductVersionResult:
    """A version, in force from its first to its last day; without a last day until it is ended."""

    version_label: str
    start_date: date
    end_date: date | None
    items: Sequence[ItemResult]
    created_at: datetime


@value(frozen=True)
class ProductDetailResult(ProductResult):
    """A product with its versions by first day, and their items by position."""

    versions: Sequence[ProductVersionResult]


@value(frozen=True)
class RuleResult:
    """A rule of a product."""

    name: str
    parameters: object
    start_date: date
    end_date: date | None


@value(frozen=True)
class ProductRulesResult:
    """The rules of a product, and the product's version that they came with."""

    mnemonic: str
    version: int
    rules: Sequence[RuleResult]


@value(frozen=True)
class RefusedRow:
    """A row that was not imported; rows count from 1."""

    row: int
    error_code: str
    reason: str


@value(frozen=True)
class ViolationResult:
    """Where the data breaks a rule (a dotted path, empty for the whole), and how."""

    path: str
    reason: str


@value(frozen=True)
class RuleVerdictResult:
    """What a rule says of the data; `problem` is why it could not be evaluated, where it could not."""

    name: str
    holds: bool
    violations: Sequence[ViolationResult]
    problem: str | None


@value(frozen=True)
class ProductDataResult:
    """What the rules in force on a day say of the data; valid when all of them hold."""

    mnemonic: str
    on_date: date
    is_valid: bool
    rules: Sequence[RuleVerdictResult]


def _changes(command: CreateProduct | ProductChange) -> Keys:
    return Keys(products=(command.mnemonic,))


def _grows(command: UpdateProduct | ProductChange) -> Keys:
    return Keys(products=(command.mnemonic,), products_sized=(command.mnemonic,))


def _changes_version(command: AddProductVersion | EndProductVersion) -> Keys:
    return Keys(
        products=(command.mnemonic,),
        products_sized=(command.mnemonic,),
        product_versions=((command.mnemonic, command.version_label),),
    )


def _imports(command: ImportProducts) -> Keys:
    return Keys(products=tuple({row.mnemonic for row in command.products if isinstance(row, CreateProduct)}))


MNEMONIC: Final = "BANKING_DATA"
_AT: Final = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_BANKING: Final = ProductResult(
    "0198c7a5-3c00-7000-8000-00000000ba4c",
    MNEMONIC,
    "Accounts and payments of the last ten years",
    is_confidential=False,
    category="FINANCE",
    tags=["accounts", "payments"],
    catalog={"format": "parquet"},
    version=1,
    created_at=_AT,
    updated_at=_AT,
    archived_at=None,
)
_SPRING: Final = ProductVersionResult(
    "2026-H1", date(2026, 1, 1), date(2026, 6, 30), [ItemResult("accounts", 1, {"rows": 1200})], _AT
)
_SEATS: Final = RuleResult(
    "seats",
    {"properties": {"seats": {"type": "integer", "minimum": 1}}, "required": ["seats"]},
    date(2026, 1, 1),
    end_date=None,
)
_OLD_MNEMONIC: Final = "BANKING_DATA_OF_2023"
_OLD: Final = replace(
    _BANKING,
    id="0198c7a5-3c00-7000-8000-00000000201d",
    mnemonic=_OLD_MNEMONIC,
    overview="Accounts of 2023",
    category=None,
    tags=[],
    catalog={},
    version=3,
)
_BANKING_IN_DETAIL: Final = ProductDetailResult(**asdict(_BANKING), versions=[_SPRING])
_ONE_PAGE: Final = Page([_BANKING], 1, 1, 10, has_more=False, next_cursor=None)

COMMANDS = (
    Kind(
        name="create_product",
        description="Create a product; its mnemonic must be no other's",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="create",
        versions=(
            Version(
                1,
                CreateProductV1,
                examples=({"mnemonic": _OLD_MNEMONIC, "overview": _OLD.overview},),
                upcast=upcast(CreateProductV1, CreateProduct),
                deprecated_on=date(2024, 6, 1),
                sunset_on=date(2024, 12, 1),
                alternative="create_product version 2",
            ),
            Version(
                2,
                CreateProduct,
                examples=(
                    {
                        "mnemonic": MNEMONIC,
                        "overview": _BANKING.overview,
                        "category": "FINANCE",
                        "tags": ["accounts", "payments"],
                        "catalog": {"format": "parquet"},
                    },
                    {"mnemonic": "BANKING_TRIAL", "overview": "For a trial, to be deleted again"},
                ),
            ),
        ),
        key=("mnemonic",),
        result=ProductResult,
        answers=(CREATED,),
        reply=created(RESOURCE, MNEMONIC, _BANKING),
        errors=(InvalidProductCodeError, ProductAlreadyExistsError),
        keys=_changes,
    ),
    Kind(
        name="update_product",
        description="Change a product's fields; what is absent is kept",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="update",
        versions=(
            Version(
                1, UpdateProduct, examples=({"mnemonic": MNEMONIC, "overview": "Accounts and payments since 2016"},)
            ),
        ),
        key=("mnemonic",),
        result=ProductResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, MNEMONIC, replace(_BANKING, overview="Accounts and payments since 2016", version=2)),
        errors=(InvalidProductCodeError, ProductNotFoundError, VersionConflictError, BusinessRuleViolationError),
        needs=("create_product",),
        keys=_grows,
    ),
    Kind(
        name="delete_product",
        description="Delete a product with its versions and rules; refused while a placed order refers to it",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="delete",
        versions=(Version(1, DeleteProduct, examples=({"mnemonic": "BANKING_TRIAL"},)),),
        key=("mnemonic",),
        result=None,
        reply=deleted(RESOURCE, "BANKING_TRIAL"),
        errors=(InvalidProductCodeError, ProductNotFoundError, BusinessRuleViolationError),
        needs=("create_product",),
        keys=lambda command: Keys(products=(command.mnemonic,), products_deleted=(command.mnemonic,)),
    ),
    Kind(
        name="archive_product",
        description="Take a product off sale: orders of it are refused until it is restored; all else goes on",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="archive",
        versions=(Version(1, ArchiveProduct, examples=({"mnemonic": _OLD_MNEMONIC},)),),
        key=("mnemonic",),
        result=ProductResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, _OLD_MNEMONIC, replace(_OLD, archived_at=_AT, version=2)),
        errors=(InvalidProductCodeError, ProductNotFoundError, VersionConflictError),
        needs=("create_product",),
        keys=_changes,
    ),
    Kind(
        name="restore_product",
        description="Put an archived product on sale again",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="restore",
        versions=(Version(1, RestoreProduct, examples=({"mnemonic": _OLD_MNEMONIC},)),),
        key=("mnemonic",),
        result=ProductResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, _OLD_MNEMONIC, _OLD),
        errors=(InvalidProductCodeError, ProductNotFoundError, VersionConflictError),
        needs=("archive_product",),
        keys=_changes,
    ),
    Kind(
        name="add_product_version",
        description="Add a version to a product; no two of its versions share a day",
        topic="commands",
        role=Role.ADMIN,
        resource=VERSION_RESOURCE,
        action="create",
        versions=(
            Version(
                1,
                AddProductVersion,
                examples=(
                    {
                        "mnemonic": MNEMONIC,
                        "version_label": "2026-H1",
                        "start_date": "2026-01-01",
                        "end_date": "2026-06-30",
                        "items": [{"name": "accounts", "position": 1, "attributes": {"rows": 1200}}],
                    },
                ),
            ),
        ),
        key=("mnemonic",),
        result=ProductVersionResult,
        answers=(CREATED,),
        reply=created(VERSION_RESOURCE, f"{MNEMONIC} 2026-H1", _SPRING),
        errors=(
            InvalidProductCodeError,
            ProductNotFoundError,
            ProductVersionAlreadyExistsError,
            OverlappingDateRangeError,
            BusinessRuleViolationError,
        ),
        needs=("create_product",),
        keys=_changes_version,
    ),
    Kind(
        name="end_product_version",
        description="Set the last day of a product's version, or, with null, let it go on without end",
        topic="commands",
        role=Role.ADMIN,
        resource=VERSION_RESOURCE,
        action="update",
        versions=(
            Version(
                1,
                EndProductVersion,
                examples=({"mnemonic": MNEMONIC, "version_label": "2026-H1", "end_date": "2026-05-31"},),
            ),
        ),
        key=("mnemonic",),
        result=ProductVersionResult,
        answers=(DONE, UNCHANGED),
        reply=updated(VERSION_RESOURCE, f"{MNEMONIC} 2026-H1", replace(_SPRING, end_date=date(2026, 5, 31))),
        errors=(
            InvalidProductCodeError,
            ProductNotFoundError,
            ProductVersionNotFoundError,
            OverlappingDateRangeError,
            BusinessRuleViolationError,
        ),
        needs=("add_product_version",),
        keys=_changes_version,
    ),
    Kind(
        name="set_validation_rules",
        description="Replace the rules that the lines of a product's orders must meet",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="update",
        versions=(
            Version(
                1,
                SetValidationRules,
                examples=(
                    {
                        "mnemonic": MNEMONIC,
                        "rules": [{"name": "seats", "parameters": _SEATS.parameters, "start_date": "2026-01-01"}],
                    },
                ),
            ),
        ),
        key=("mnemonic",),
        result=ProductRulesResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, MNEMONIC, ProductRulesResult(MNEMONIC, 2, [_SEATS])),
        errors=(InvalidProductCodeError, ProductNotFoundError, BusinessRuleError),
        needs=("create_product",),
        keys=lambda command: Keys(products=(command.mnemonic,), product_rules=(command.mnemonic,)),
    ),
    Kind(
        name="import_products",
        description="Create up to 1,000 products at once; what is wrong with a row costs that row",
        topic="commands",
        role=Role.ADMIN,
        resource=RESOURCE,
        action="import",
        versions=(
            Version(
                1,
                ImportProducts,
                examples=(
                    {
                        "products": [
                            {"mnemonic": "WEATHER", "overview": "Hourly readings", "category": "ENVIRONMENT"},
                            {"mnemonic": "WEATHER", "overview": "Told in a warning: the row before has the mnemonic"},
                        ]
                    },
                ),
            ),
        ),
        key=(),
        result=Warnings[RefusedRow],
        answers=(DONE, PARTIAL),
        reply=partial(
            IMPORT_ACTION,
            Warnings(
                1,
                1,
                [RefusedRow(2, "PRODUCT_ALREADY_EXISTS", "Product with mnemonic 'WEATHER' already exists")],
            ),
        ),
        errors=(),
        keys=_imports,
    ),
)

QUERIES = (
    Kind(
        name="get_product",
        description="One product with its versions and their items",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetProduct, examples=({"mnemonic": MNEMONIC},)),),
        key=(),
        result=ProductDetailResult,
        reply=retrieved(RESOURCE, _BANKING_IN_DETAIL),
        errors=(InvalidProductCodeError, ProductNotFoundError),
        needs=("create_product",),
    ),
    Kind(
        name="list_products",
        description="A page of products, newest first, without versions: all, a category's, archived or not",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="list",
        versions=(Version(1, ListProducts, examples=({"category": "FINANCE", "page_size": 10},)),),
        key=(),
        result=Page[ProductResult],
        reply=listed(RESOURCE, _ONE_PAGE),
        errors=(),
    ),
    Kind(
        name="search_products",
        description="A page of the products whose mnemonic holds this part, newest first",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="search",
        versions=(Version(1, SearchProducts, examples=({"mnemonic_contains": "BANK", "limit": 10},)),),
        key=(),
        result=Page[ProductResult],
        reply=listed(RESOURCE, _ONE_PAGE),
        errors=(),
    ),
    Kind(
        name="find_products_for_date_range",
        description="A page of the products that have a version in force on any day of the range, newest first",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="list",
        versions=(
            Version(1, FindProductsForDateRange, examples=({"start_date": "2026-03-01", "end_date": "2026-03-31"},)),
        ),
        key=(),
        result=Page[ProductResult],
        reply=listed(RESOURCE, _ONE_PAGE),
        errors=(),
    ),
    Kind(
        name="validate_product_data",
        description="Which of a product's rules hold for these attributes of a line, and why the others do not",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(
            Version(
                1,
                ValidateProductData,
                examples=({"mnemonic": MNEMONIC, "data": {"seats": 5}, "on_date": "2026-01-31"},),
            ),
        ),
        key=(),
        result=ProductDataResult,
        reply=retrieved(
            RESOURCE,
            ProductDataResult(
                MNEMONIC,
                date(2026, 1, 31),
                is_valid=True,
                rules=[RuleVerdictResult("seats", holds=True, violations=[], problem=None)],
            ),
        ),
        errors=(InvalidProductCodeError, ProductNotFoundError),
        needs=("create_product",),
    ),
)
