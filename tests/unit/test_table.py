"""A table's columns are declared once: what is selected, read, written and erased follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import orjson
import pytest

from contracts.envelope import Envelope
from contracts.orders import OrderStatus
from contracts.products import CreateProduct, ProductDetailResult, ProductResult, UpdateProduct
from handlers.fields import GivenFields, are_same, shown_as
from handlers.order import Order, OrderLine
from handlers.product import Product, ProductDetail, is_whole, product_detail_result, product_result
from handlers.product_size import change_bytes, head_bytes
from persistence.customers import CUSTOMERS
from persistence.orders import ORDERS
from persistence.product_tables import PRODUCTS
from persistence.table import Column, Table

AT: Final = datetime(2026, 1, 31, 9, 30, 0, 123, tzinfo=UTC)


@dataclass(frozen=True)
class Thing:
    """A row with a field of every way to be read and written."""

    words: tuple[str, ...]
    id: str
    name: str
    data: dict[str, object] | None
    day: date | None
    at: datetime
    amount: Decimal
    shade: str = "dark"

    @property
    def name_key(self) -> str:
        """What follows from another field."""
        return self.name.lower()


THINGS: Final = Table(
    "things",
    Thing,
    (
        Column("id", "uuid"),
        Column("name", "text", erased="null"),
        Column("data", "jsonb", erased="'{}'"),
        Column("day", "date"),
        Column("made_at", "timestamptz", changes=False, field="at"),
        Column("amount", "numeric"),
        Column("words", "jsonb", read=lambda text: tuple(orjson.loads(text))),
    ),
    also_read=(Column("shade", "text", read=str.upper),),
    also_written=(Column("name_key", "text", erased="null"),),
)
THING: Final = Thing(("a", "b"), "1", "Ada", {"n": 1}, date(1, 1, 1), AT, Decimal("0.10"), "LIGHT")
ROW: Final[Mapping[str, Any]] = {
    "shade": "light",
    "amount": Decimal("0.10"),
    "day": date(1, 1, 1),
    "made_at": AT,
    "words": '["a","b"]',
    "name": "Ada",
    "data": '{"n":1}',
    "id": "1",
    "other": None,
}


def test_a_row_is_read_by_name() -> None:
    """Whatever the order of columns and fields; as JSON too; a null column is None, of whatever type."""
    assert THINGS.read(ROW) == THING
    assert THINGS.read({**ROW, "data": None, "day": None}) == replace(THING, data=None, day=None)
    shown = ["1", "Ada", {"n": 1}, "0001-01-01", "2026-01-31T09:30:00.000123", Decimal("0.10"), ("a", "b"), "LIGHT"]
    assert THINGS.read_json(shown) == THING
    assert THINGS.read_json([*shown[:3], None, *shown[4:]]) == replace(THING, day=None)


def test_what_follows_from_the_columns() -> None:
    """What is selected, with an expression where one stands instead; inserted, updated, erased: by name and type."""
    assert THINGS.selected("t", shade="lower(t.hue)") == (
        "t.id::text, t.name, t.data::text as data, t.day, t.made_at, t.amount, t.words::text as words,"
        " lower(t.hue) as shade"
    )
    assert THINGS.json_array("t", "1") == (
        "json_build_array(t.id, t.name, t.data, t.day, t.made_at at time zone 'UTC', t.amount, t.words, t.shade, 1)"
    )
    assert THINGS.inserted == {
        "id": "uuid",
        "name": "text",
        "data": "jsonb",
        "day": "date",
        "made_at": "timestamptz",
        "amount": "numeric",
        "words": "jsonb",
        "name_key": "text",
    }
    assert THINGS.updated == {name: kind for name, kind in THINGS.inserted.items() if name != "made_at"}
    assert THINGS.erased == "name = null, data = '{}', name_key = null"


def test_rows_are_written_by_column() -> None:
    """JSON as its text, none as null; of no rows nothing."""
    other = replace(THING, id="2", data=None, words=())
    assert dict(zip(THINGS.inserted, THINGS.to_insert([THING, other]), strict=True)) == {
        "id": ["1", "2"],
        "name": ["Ada", "Ada"],
        "data": ['{"n":1}', None],
        "day": [date(1, 1, 1)] * 2,
        "made_at": [AT, AT],
        "amount": [Decimal("0.10")] * 2,
        "words": ['["a","b"]', "[]"],
        "name_key": ["ada", "ada"],
    }
    assert len(THINGS.to_update([THING])) == len(THINGS.updated)
    assert THINGS.to_insert([]) == [[]] * 8


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (("id", "text"), "words"),
        (("id", "name", "data", "day", "at", "amount", "words", "shade", "colour"), "colour"),
        (("id", "name", "data", "day", "at", "amount", "words"), "shade"),
        (("id", "name", "data", "day", "at", "amount", "words", "shade", "id"), "things"),
        ((), "amount"),
    ],
)
def test_columns_and_fields_belong_together(columns: tuple[str, ...], named: str) -> None:
    """A field without a column, a column without a field and one that stands twice are told when it is declared."""
    with pytest.raises(TypeError, match=named):
        Table("things", Thing, [Column(name, "text") for name in columns])


PRODUCT: Final = Product("1", "A", "o", is_confidential=True, version=2, created_at=AT, updated_at=AT)


def without(name: str, **values: Any) -> bytes:  # noqa: ANN401 - fields of a product
    """Show a product as a release did that did not know this field."""
    shown = orjson.loads(orjson.dumps(product_detail_result(ProductDetail(replace(PRODUCT, **values), ()))))
    return orjson.dumps({key: value for key, value in shown.items() if key != name})


@pytest.mark.parametrize("name", [one.name for one in fields(ProductResult) if one.name != "catalog"])
def test_what_a_release_before_showed_is_known_for_it(name: str) -> None:
    """Of whatever field it lacks, also where callers gave such a name; a new field stands before `catalog`."""
    said = f'"{name}":'
    values = {
        "catalog": {name: {name: said}},
        "tags": (said, '"catalog":', "catalog"),
        "overview": said,
        "category": name,
    }
    kept = {key: value for key, value in values.items() if key != name}
    assert is_whole(without("", **kept))
    assert not is_whole(without(name, **kept))
    in_versions = without(name).replace(b'"versions":[]', b'"versions":[{%b:null}]' % said[:-1].encode())
    assert not is_whole(in_versions)


def test_a_result_shows_every_field_of_its_name() -> None:
    """In the order of the result; what is made of the value and of what stands beside it is at its place."""

    @dataclass
    class Shown:
        day: date | None
        label: str
        id: str
        count: int

    show = shown_as(Shown, label=lambda thing, _: thing.name * 2, count=lambda _, count: count)
    assert show(THING, 7) == Shown(THING.day, "AdaAda", "1", 7)
    assert {one.name for one in fields(product_result(PRODUCT))} <= {one.name for one in fields(Product)}
    assert {one.name for one in fields(ProductDetailResult)} == {one.name for one in fields(Product)} | {"versions"}


GIVEN: Final = GivenFields(Product)
UPDATES: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "nothing": ({}, {}),
    "a text": ({"overview": "x"}, {"overview": "x"}),
    "null clears": ({"category": None, "tags": None, "catalog": None}, {"category": None, "tags": (), "catalog": {}}),
    "a list": ({"tags": ["b", "a"]}, {"tags": ("b", "a")}),
    "what is no field of the product": ({"expected_version": 3, "is_confidential": False}, {"is_confidential": False}),
    "an object": ({"catalog": {"a": [1]}}, {"catalog": {"a": [1]}}),
}


@pytest.mark.parametrize(("payload", "changes"), UPDATES.values(), ids=UPDATES)
def test_what_a_command_gives(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Only what was sent, as it is kept."""
    assert GIVEN.set(UpdateProduct(mnemonic="A", **payload)) == {"mnemonic": "A", **changes}


def test_what_a_command_creates() -> None:
    """All it has, whether sent or not; defaults are new ones each time."""
    command = CreateProduct(mnemonic="A", overview="o", tags=["x"])
    expected = {
        "mnemonic": "A",
        "overview": "o",
        "is_confidential": False,
        "category": None,
        "tags": ("x",),
        "catalog": {},
    }
    given = GIVEN.all(command)
    assert given.keys() == CreateProduct.model_fields.keys()
    assert {name: given[name] for name in expected} == expected
    given["catalog"]["a"] = 1
    assert GIVEN.all(command)["catalog"] == {}


SAME: Final[Mapping[str, tuple[Mapping[str, object], bool]]] = {
    "nothing given": ({}, True),
    "equal": ({"overview": "o", "tags": ()}, True),
    "another text": ({"overview": "p"}, False),
    "true is not 1": ({"catalog": {"a": True}}, False),
    "in another order": ({"catalog": {"b": 2, "a": 1}}, True),
    "one of two": ({"overview": "o", "is_confidential": False}, False),
}


@pytest.mark.parametrize(("given", "same"), SAME.values(), ids=SAME)
def test_what_changes_nothing(given: Mapping[str, object], same: bool) -> None:
    """As JSON compares."""
    assert are_same(replace(PRODUCT, catalog={"a": 1, "b": 2} if "catalog" in given else {}), given) is same


CHANGED: Final[Mapping[str, Callable[[Product], Product]]] = {
    "overview": lambda one: replace(one, overview="é" * 9),
    "label": lambda one: replace(one, is_confidential=False),
    "category": lambda one: replace(one, category="C"),
    "tags": lambda one: replace(one, tags=("a", '"')),
    "catalogue": lambda one: replace(one, catalog={"a": 1.5}),
    "version": lambda one: replace(one, version=12_345),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_size_is_that_of_what_is_shown(change: Callable[[Product], Product]) -> None:
    """Of every field, new and changed."""
    after = change(PRODUCT)

    def shown(one: Product) -> int:
        return len(Envelope(200, "", "success", product_detail_result(ProductDetail(one, ()))).encode())

    assert head_bytes(after) - head_bytes(PRODUCT) == change_bytes(PRODUCT, after) == shown(after) - shown(PRODUCT)
    bare = len(orjson.dumps(product_detail_result(ProductDetail(after, ())), option=orjson.OPT_UTC_Z))
    assert head_bytes(after) == bare


def test_a_product_is_written_by_its_declaration() -> None:
    """What may change is updated, what may not is not; the catalogue is a matter of the phase."""
    assert set(PRODUCTS.inserted) == {one.name for one in fields(Product)} - {"catalog"}
    assert set(PRODUCTS.inserted) - set(PRODUCTS.updated) == {"mnemonic", "created_at"}


def test_what_is_personal_is_erased() -> None:
    """Every column of a customer but these: a new one is erased with the customer, or is named here."""
    kept = {"id", "version", "created_at", "updated_at"}
    erased = {assignment.split(" = ")[0] for assignment in CUSTOMERS.erased.split(", ")}
    assert erased == set(CUSTOMERS.inserted) - kept
    assert PRODUCTS.erased == ORDERS.erased == ""


def test_an_order_is_kept_as_it_was_placed() -> None:
    """Only its status changes; lines survive as JSON, amounts to the last digit; its catalogue follows from it."""
    line = OrderLine("p", "A", 2, Decimal("0.10"), {"a": "x"})
    order = Order("1", "c", OrderStatus.PLACED, (line, replace(line, attributes=None)), Decimal("0.40"), "C", AT)
    written = dict(zip(ORDERS.inserted, [column[0] for column in ORDERS.to_insert([order])], strict=True))
    assert ORDERS.read(written) == order
    assert orjson.loads(str(written["catalog"])) == {"category": "C"}
    assert orjson.loads(str(written["lines"]))[0]["unit_price"] == "0.10"
    assert set(ORDERS.updated) == {"id", "status", "cancelled_at"}
