"""Products on the wire: their commands, queries and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, ValidationError, core_schema

from contracts.envelope import Page, Warnings
from contracts.errors import InvalidProductCodeError, ValidationFailedError
from contracts.fields import Attributes, BoundedPageNumber, Identifier, Limit, Needle, Offset, PageSize, absent
from contracts.kinds import MNEMONIC_ERROR, Keys, Kind, Payload, Role, Version, refusal_of
from contracts.text import JsonObject, Text

RESOURCE: Final = "Product"
VERSION_RESOURCE: Final = "Product version"

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
        return {"type": "string", "pattern": _MNEMONIC_PATTERN}


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
        return {"type": "string", "format": "date"}


def _not_before_start(end: date | None, info: ValidationInfo) -> date | None:
    start = info.data.get("start_date")
    if end is not None and start is not None and end < start:
        raise PydanticCustomError("date_range", "The end should not be before the start")
    return end


Mnemonic = Annotated[str, _MnemonicRules()]
"""A product's code. What has another form is answered by INVALID_PRODUCT_CODE wherever a product is named by it."""
Day = Annotated[date, _DayRules()]
LastDay = Annotated[Day | None, AfterValidator(_not_before_start)]
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


def _to_v2(command: CreateProductV1) -> CreateProduct:
    return CreateProduct(mnemonic=command.mnemonic, overview=command.overview, is_confidential=command.is_confidential)


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
    """Replace the rules of a product."""

    mnemonic: Mnemonic
    rules: Annotated[list[ValidationRule], Field(max_length=MAX_RULES)]


@dataclass(frozen=True, slots=True)
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
    """Ask for one product with its versions and their items, by mnemonic or by id."""

    mnemonic: Mnemonic | None = None
    product_id: Annotated[Identifier | None, AfterValidator(_one_of_both)] = Field(None, validate_default=True)


class ListProducts(Payload):
    """Ask for a page of all products, or of a category, newest first. A cursor leads further than pages do."""

    page_size: PageSize = 10
    page: BoundedPageNumber = 1
    cursor: str | None = None
    category: Category | None = None


class SearchProducts(Payload):
    r"""Search products by a part of their mnemonic, newest first; `%`, `_`, `\` are ordinary characters."""

    mnemonic_contains: Needle | None = None
    limit: Limit = 50
    offset: Offset = 0
    cursor: str | None = None


class FindProductsForDateRange(Payload):
    """Ask for the products that have a version in force on any day of the range, both ends included; newest first."""

    start_date: Day
    end_date: Annotated[Day, AfterValidator(_not_before_start)]
    page_size: PageSize = 10
    page: BoundedPageNumber = 1
    cursor: str | None = None


class ValidateProductData(Payload):
    """Ask which rules of a product that are in force on a day (today unless given) the data meets."""

    mnemonic: Mnemonic
    data: ProductData
    on_date: Day | None = None


@dataclass(frozen=True, slots=True)
class ProductResult:
    """A product as every envelope shows it. `version` counts up with each change, also of its versions and rules."""

    id: str
    mnemonic: str
    overview: str
    is_confidential: bool
    category: str | None
    tags: Sequence[str]
    catalog: dict[str, object]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ItemResult:
    """An item of a version."""

    name: str
    position: int
    attributes: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class ProductVersionResult:
    """A version, in force from its first to its last day; without a last day until it is ended."""

    version_label: str
    start_date: date
    end_date: date | None
    items: Sequence[ItemResult]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProductDetailResult(ProductResult):
    """A product with its versions by first day, and their items by position."""

    versions: Sequence[ProductVersionResult]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """A rule of a product."""

    name: str
    parameters: object
    start_date: date
    end_date: date | None


@dataclass(frozen=True, slots=True)
class ProductRulesResult:
    """The rules of a product, and the product's version that they came with."""

    mnemonic: str
    version: int
    rules: Sequence[RuleResult]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was not imported; rows count from 1."""

    row: int
    error_code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ViolationResult:
    """Where the data breaks a rule (a dotted path, empty for the whole), and how."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class RuleVerdictResult:
    """What a rule says of the data; `problem` is why it could not be evaluated, where it could not."""

    name: str
    holds: bool
    violations: Sequence[ViolationResult]
    problem: str | None


@dataclass(frozen=True, slots=True)
class ProductDataResult:
    """What the rules in force on a day say of the data; valid when all of them hold."""

    mnemonic: str
    on_date: date
    is_valid: bool
    rules: Sequence[RuleVerdictResult]


def _creates(command: CreateProduct) -> Keys:
    return Keys(products=(command.mnemonic,))


def _updates(command: UpdateProduct) -> Keys:
    return Keys(products=(command.mnemonic,), products_sized=(command.mnemonic,))


def _changes_version(command: AddProductVersion | EndProductVersion) -> Keys:
    return Keys(
        products=(command.mnemonic,),
        products_sized=(command.mnemonic,),
        product_versions=((command.mnemonic, command.version_label),),
    )


def _imports(command: ImportProducts) -> Keys:
    return Keys(products=tuple({row.mnemonic for row in command.products if isinstance(row, CreateProduct)}))


COMMANDS = (
    Kind(
        "create_product",
        "commands",
        Role.ADMIN,
        RESOURCE,
        "create",
        (
            Version(
                1,
                CreateProductV1,
                upcast=_to_v2,
                deprecated_on=date(2024, 6, 1),
                sunset_on=date(2024, 12, 1),
                alternative="create_product version 2",
            ),
            Version(2, CreateProduct),
        ),
        result=ProductResult,
        keys=_creates,
    ),
    Kind(
        "update_product",
        "commands",
        Role.ADMIN,
        RESOURCE,
        "update",
        (Version(1, UpdateProduct),),
        result=ProductResult,
        keys=_updates,
    ),
    Kind(
        "delete_product",
        "commands",
        Role.ADMIN,
        RESOURCE,
        "delete",
        (Version(1, DeleteProduct),),
        keys=lambda command: Keys(products=(command.mnemonic,), products_deleted=(command.mnemonic,)),
    ),
    Kind(
        "add_product_version",
        "commands",
        Role.ADMIN,
        VERSION_RESOURCE,
        "create",
        (Version(1, AddProductVersion),),
        result=ProductVersionResult,
        keys=_changes_version,
    ),
    Kind(
        "end_product_version",
        "commands",
        Role.ADMIN,
        VERSION_RESOURCE,
        "update",
        (Version(1, EndProductVersion),),
        result=ProductVersionResult,
        keys=_changes_version,
    ),
    Kind(
        "set_validation_rules",
        "commands",
        Role.ADMIN,
        RESOURCE,
        "update",
        (Version(1, SetValidationRules),),
        result=ProductRulesResult,
        keys=lambda command: Keys(products=(command.mnemonic,), product_rules=(command.mnemonic,)),
    ),
    Kind(
        "import_products",
        "commands",
        Role.ADMIN,
        RESOURCE,
        "import",
        (Version(1, ImportProducts),),
        result=Warnings,
        keys=_imports,
    ),
)

QUERIES = (
    Kind(
        "get_product", "queries", Role.READER, RESOURCE, "read", (Version(1, GetProduct),), result=ProductDetailResult
    ),
    Kind("list_products", "queries", Role.READER, RESOURCE, "list", (Version(1, ListProducts),), result=Page),
    Kind("search_products", "queries", Role.READER, RESOURCE, "search", (Version(1, SearchProducts),), result=Page),
    Kind(
        "find_products_for_date_range",
        "queries",
        Role.READER,
        RESOURCE,
        "list",
        (Version(1, FindProductsForDateRange),),
        result=Page,
    ),
    Kind(
        "validate_product_data",
        "queries",
        Role.READER,
        RESOURCE,
        "read",
        (Version(1, ValidateProductData),),
        result=ProductDataResult,
    ),
)
