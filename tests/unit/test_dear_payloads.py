"""Judging a payload costs little more than reading it, wherever what is wrong with it stands; and says the same."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.at_rest import LARGE_BYTES
from contracts.codec import MAX_BODY_BYTES
from contracts.errors import CatalogError
from contracts.kinds import Kind, Payload, Version
from contracts.registry import KINDS
from tests.unit.test_dear_bodies import PIECE, cost

_ROOM: Final = MAX_BODY_BYTES - 512


def filled(item: bytes) -> bytes:
    """Make a list of so many equal items that it fills a body."""
    return b"[" + b",".join([item] * (_ROOM // (len(item) + 1))) + b"]"


VALUES: Final = {
    "lists of 29 levels": filled(b"[" * 29 + b"2e-6" + b"]" * 29),
    "objects of 58 levels": filled(b'{"":' * 58 + b"1" + b"}" * 58),
    "both in turns": filled(b'[{"":' * 28 + b"1.5" + b"}]" * 28),
    "pairs of lists": filled(b"[[]]"),
    "keys that all differ": b"{" + b",".join(b'"%d":[]' % number for number in range(23_000)) + b"}",
}
ATTRIBUTES: Final = b'{"a":%b}' % (b"[" + b",".join([b"[" * 28 + b"]" * 28] * 34) + b"]")
"""Just within what a line may say of itself: 2 KiB, 32 levels."""
PLACES: Final[Mapping[str, tuple[str, int, bytes]]] = {
    "an unknown field": ("create_customer", 1, b'{"name":"N","email":"n@example.com","zz":%b}'),
    "an unknown field, and nothing else": ("add_product_version", 1, b'{"zz":%b}'),
    "a text": ("create_customer", 1, b'{"name":%b,"email":"n@example.com"}'),
    "a number, others missing": ("update_customer", 1, b'{"expected_version":%b}'),
    "preferences": ("create_customer", 1, b'{"name":"N","preferences":{"a":%b}}'),
    "tags": ("create_product", 2, b'{"overview":"x","tags":%b}'),
    "items": ("add_product_version", 1, b'{"items":%b}'),
    "an item that lacks everything": ("add_product_version", 1, b'{"items":[{"zz":%b}]}'),
    "an item's attributes": ("add_product_version", 1, b'{"items":[{"attributes":{"a":%b}}]}'),
    "a rule": ("set_validation_rules", 1, b'{"rules":[{"parameters":%b}]}'),
    "a row": ("import_products", 1, b'{"products":[{"catalog":{"a":%b}}]}'),
    "an unknown field of a query": ("list_products", 1, b'{"zz":%b}'),
    "a query's text": ("search_customers", 1, b'{"name_contains":%b}'),
    "a query's data, mnemonic missing": ("validate_product_data", 1, b'{"data":{"a":%b}}'),
}


def judged(kind: Kind, version: Version, payload: bytes) -> Payload | Sequence[object]:
    """Read a payload; the answer of a refused one."""
    try:
        return kind.read(version, payload)
    except CatalogError as error:
        return [error.error_code, error.message, error.details]


def version_of(name: str, number: int) -> tuple[Kind, Version]:
    """Find a version of a kind."""
    version = KINDS[name].version(number)
    assert version is not None
    return KINDS[name], version


@pytest.mark.parametrize("place", PLACES)
def test_what_is_wrong_with_a_payload_is_found_in_a_short_piece(place: str) -> None:
    """A payload of the greatest size, most of which stands where it does not belong, is refused within 50 ms."""
    name, number, frame = PLACES[place]
    kind, version = version_of(name, number)
    dear = {}
    for what, value in VALUES.items():
        answers: list[Payload | Sequence[object]] = []
        dear[what] = cost(partial(_answer, answers, kind, version, frame % value))
        assert name == "import_products" or not isinstance(answers[0], Payload)
    assert {what: turns for what, turns in dear.items() if turns >= PIECE} == {}


def _answer(answers: list[Payload | Sequence[object]], kind: Kind, version: Version, payload: bytes) -> None:
    answers.append(judged(kind, version, payload))


@pytest.mark.parametrize("lacks", [b'"quantity":1,', b""])
def test_lines_that_say_all_they_may_are_read_in_a_short_piece(lacks: bytes) -> None:
    """An order of a hundred lines with all that attributes may be, good or each with fields missing: within 50 ms."""
    line = b'{"mnemonic":"P",%b"unit_price":"1","attributes":%b}' % (lacks, ATTRIBUTES)
    payload = b'{"customer_id":"00000000-0000-4000-8000-000000000000","lines":[%b]}' % b",".join([line] * 100)
    kind, version = version_of("place_order", 1)
    assert 190_000 < len(payload) < MAX_BODY_BYTES
    assert isinstance(judged(kind, version, payload), Payload) is bool(lacks)
    assert cost(lambda: judged(kind, version, payload)) < PIECE


# What stands in the fields of a payload, good and bad: each field is given any of them.
_TEXTS: Final = [
    *("P1", "x", "", " P1 ", "\x00", "e\u0301" * 40, "x" * 300, "n@example.com", "1.00", "-1", "placed", "shipped"),
    *("2020-01-01", "2020-02-30", "9999-12-31", "00000000-0000-4000-8000-00000000000A"),
]
_SCALARS: Final = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.0, 1.5, -0.0, 1e300, 1e-300, 2**31, 2**53 - 1, *_TEXTS]
)
_ANY: Final = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "name"]), inner, max_size=3),
    max_leaves=6,
)
_FIELDS: Final = sorted(
    {name for kind in KINDS.values() for version in kind.versions for name in version.model.model_fields}
    | {"position", "attributes", "quantity", "unit_price", "parameters", "zz"}
)
_INNER: Final = st.dictionaries(st.sampled_from(_FIELDS), _ANY, max_size=6)
_VERSIONS: Final = st.sampled_from([(kind, version) for kind in KINDS.values() for version in kind.versions])


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Kind, Version, dict[str, Any]]:
    """Make a payload of some kind, mostly of its own fields."""
    kind, version = draw(_VERSIONS)
    names = st.sampled_from([*version.model.model_fields, "zz"])
    within = st.lists(_INNER, max_size=3) | st.lists(_ANY, min_size=18, max_size=23)
    payload = draw(st.dictionaries(names, _ANY | within, max_size=7))
    return kind, version, payload


@given(payloads())
def test_a_large_payload_is_judged_as_a_small_one(drawn: tuple[Kind, Version, dict[str, Any]]) -> None:
    """White space makes a payload large, and changes nothing of what is said of it, nor of what is made of it."""
    kind, version, payload = drawn
    small = orjson.dumps(payload)
    assert len(small) < LARGE_BYTES
    assert judged(kind, version, small + b" " * LARGE_BYTES) == judged(kind, version, small)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("create_product", {"mnemonic": "P", "overview": "", "tags": {}}),
        ("add_product_version", {"mnemonic": "P", "version_label": "v", "start_date": "2020-01-01", "items": [1]}),
        ("place_order", {"customer_id": "00000000-0000-4000-8000-000000000000", "lines": [[]]}),
        ("set_validation_rules", {"mnemonic": "P", "rules": ["x"]}),
        ("import_products", {"products": "x"}),
        ("import_products", {"products": [1]}),
        ("import_products", {"products": [{"mnemonic": "P", "overview": "", "tags": 1}]}),
        ("get_customer_orders", {"customer_id": "00000000-0000-4000-8000-000000000000", "status": "placed"}),
        ("get_customer_orders", {"customer_id": "00000000-0000-4000-8000-000000000000", "status": "shipped"}),
        ("get_customer_orders", {"customer_id": "00000000-0000-4000-8000-000000000000", "status": 1}),
    ],
    ids=[
        "tags",
        "an item",
        "a line",
        "a rule",
        "rows",
        "a row",
        "a row's tags",
        "a good status",
        "a bad status",
        "a status that is no text",
    ],
)
def test_a_large_payload_is_told_of_in_the_words_of_json(name: str, payload: dict[str, Any]) -> None:
    """Arrays and objects are called so, however large the payload is; an order's status is taken as a text."""
    kind = KINDS[name]
    small = orjson.dumps(payload)
    assert judged(kind, kind.newest, small + b" " * LARGE_BYTES) == judged(kind, kind.newest, small)
