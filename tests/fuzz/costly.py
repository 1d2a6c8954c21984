"""Messages that cost much: what may be sent by anybody, or by a caller inside its limits, to starve the others.

Everything follows from the seed. `python -m tests.fuzz.calibrate --at CHECKOUT` tells what each family costs the
workers of another commit, as multiples of a plain creation.
"""

import json
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CODECS: Final = (None, "gzip", "snappy", "lz4", "zstd")
KIB: Final = 1024
MIB: Final = 1024 * KIB

ADMIN: Final = ("catalog_admin",)
READER: Final = ("catalog_reader",)

PRODUCT: Final = "COSTLY"
"""A product as large as one may be."""
RULED: Final = "RULED"
"""A product whose rules may need as much as rules may."""
ORDERED: Final = 200
"""Orders of 100 lines by one customer."""
CUSTOMERS: Final = {"short": 20_000, "long": 200_000}

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Costly:
    """One message: what family it is of, where it goes, how it is packed."""

    family: str
    side: str
    value: bytes
    codec: str | None = None
    roles: Sequence[str] | None = None
    """Of its token; None: it has none."""
    headers: Headers = ()
    """Beside those that every message has."""
    empty_before: int = 0
    """So many empty records stand before it in its batch."""


Bodies = Mapping[str, Any]


def body(kind: str, payload: object, version: int = 1) -> bytes:
    """Make a request's body."""
    return json.dumps({"kind": kind, "version": version, "payload": payload}, ensure_ascii=False).encode()


class Fuzzer:
    """Makes costly messages without end; `customer` has `ORDERED` orders."""

    def __init__(self, seed: int, customer: str) -> None:
        self.random = random.Random(seed)
        self._customer = customer
        self._number = 0
        self.families: dict[str, Callable[[], Costly]] = {
            "zeros": self._zeros,
            "spaces": self._spaces,
            "many headers": self._many_headers,
            "long headers": self._long_headers,
            "empty records": self._empty_records,
            "dear numbers": self._dear_numbers,
            "dear keys": self._dear_keys,
            "deep": self._deep,
            "broken at its end": self._broken_at_its_end,
            "stranger's dear body": self._strangers,
            "rules that multiply": self._rules_that_multiply,
            "patterns": self._patterns,
            "order with rules": self._order_with_rules,
            "checked data": self._checked_data,
            "rare letter": self._rare_letter,
            "far page": self._far_page,
            "large product": self._large_product,
            "broad list": self._broad_list,
            "import": self._import,
            "large version": self._large_version,
        }

    def next(self) -> Costly:
        """Make one of any family."""
        return self.families[self.random.choice(list(self.families))]()

    # Bytes -----------------------------------------------------------------------------------------------------------
    def _codec(self) -> str:
        return self.random.choice([codec for codec in CODECS if codec])

    def _zeros(self) -> Costly:
        size = self.random.choice([1, 4, 16, 48]) * MIB
        return Costly("zeros", self._side(), bytes(size), self.random.choice(["gzip", "zstd", "lz4"]), ADMIN)

    def _spaces(self) -> Costly:
        padding = b" " * (self.random.choice([1, 2, 8]) * MIB)
        return Costly("spaces", self._side(), body("get_customer", {}) + padding, self._codec(), ADMIN)

    def _many_headers(self) -> Costly:
        number = self.random.choice([101, 5_000, 100_000, 400_000])
        name, value = self.random.choice([("", None), ("", b""), ("x", None), ("x", b"y")])
        return Costly(
            "many headers", self._side(), self._padded(), self.random.choice(["gzip", "zstd"]), ADMIN,
            [(name, value)] * number,
        )  # fmt: skip

    def _long_headers(self) -> Costly:
        size = self.random.choice([20 * KIB, 500 * KIB, 20 * MIB])
        long = ("x" * size, b"") if self.random.random() < 0.5 else ("x", bytes(size))
        return Costly("long headers", self._side(), self._padded(), "gzip", ADMIN, [long])

    def _empty_records(self) -> Costly:
        number = self.random.choice([500, 2_000, 5_000])
        return Costly("empty records", self._side(), body("nonsense", {}), self._codec(), ADMIN, empty_before=number)

    def _side(self) -> str:
        return self.random.choice(["commands", "queries"])

    def _padded(self) -> bytes:
        return body("get_customer", {"x": "y" * 40 * KIB})

    # Bodies that are dear to read, within the limit of 256 KiB -------------------------------------------------------
    def _dear_numbers(self) -> Costly:
        number = self.random.choice(
            ["1e-7", "1.0", "0.1", "1E400", "123456789.123456789", "9007199254740991", "1e21", "-0.0", "5e-324"]
        )
        return self._dear("dear numbers", "[" + ",".join([number] * (self._size() // (len(number) + 1))) + "]")

    def _dear_keys(self) -> Costly:
        sign = self.random.choice(["\U0001d518", "é", "\\u00e9", "\\ud835\\udd18", "k"])
        width = len(sign.encode()) + 10
        keys = (f'"{sign}{n}":{self.random.choice(["1", "1.0", "null"])}' for n in range(self._size() // width))
        return self._dear("dear keys", "{" + ",".join(keys) + "}")

    def _deep(self) -> Costly:
        levels = self.random.choice([20, 60, 63, 65, 1_000])
        opening, closing = self.random.choice([("[", "]"), ('{"a":', "}")])
        one = opening * levels + "1.0" + closing * levels
        return self._dear("deep", "[" + ",".join([one] * max(1, self._size() // len(one))) + "]")

    def _broken_at_its_end(self) -> Costly:
        whole = self.random.choice([self._dear_numbers, self._dear_keys, self._deep])()
        return Costly("broken at its end", whole.side, whole.value[:-1] + b"!", whole.codec, whole.roles)

    def _strangers(self) -> Costly:
        whole = self.random.choice([self._dear_numbers, self._dear_keys, self._deep])()
        return Costly("stranger's dear body", whole.side, whole.value, whole.codec, None)

    def _size(self) -> int:
        return self.random.choice([100, 200, 250]) * KIB

    def _dear(self, family: str, value: str) -> Costly:
        payload = f'{{"mnemonic":"X","overview":"x","catalog":{{"x":{value}}}}}'
        text = f'{{"kind":"create_product","version":2,"payload":{payload}}}'
        return Costly(family, "commands", text.encode(), self.random.choice(CODECS), ADMIN)

    # Rules -----------------------------------------------------------------------------------------------------------
    def _rules_that_multiply(self) -> Costly:
        rules = [self._rule(n, self._multiplying()) for n in range(self.random.choice([1, 10, 50]))]
        return self._setting("rules that multiply", rules)

    def _multiplying(self) -> dict[str, Any]:
        depth = self.random.choice([5, 10, 20])
        match self.random.randrange(7):
            case 0:  # each level asks twice for the next
                word = self.random.choice(["allOf", "anyOf", "oneOf"])
                levels = {f"l{n}": {word: [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(depth)}
                return {"$defs": levels | {f"l{depth}": {"type": "object"}}, "$ref": "#/$defs/l0"}
            case 1:
                anchors = {f"d{n}": {"$anchor": f"a{n}"} for n in range(depth)}
                return {"$defs": anchors, "properties": {"x": {"items": {"$ref": f"#a{depth - 1}"}}}}
            case 2:
                return {"not": {"unevaluatedProperties": False, "anyOf": [{"properties": {"x": {}}}] * depth}}
            case 3:
                return {"properties": {"x": {"uniqueItems": True, "contains": {"enum": list(range(depth * 20))}}}}
            case 4:
                inner: dict[str, Any] = {"type": "number"}
                for _ in range(depth):
                    inner = {"if": inner, "then": inner, "else": {"items": inner} if depth < 8 else {}}
                    if len(json.dumps(inner)) > 7_000:
                        break
                return {"properties": {"x": {"items": inner}}}
            case 5:
                return {"$ref": "#", "properties": {"x": {"$ref": "#"}}}
            case _:
                return {"patternProperties": {f"^{'a?' * n}{'a' * n}$": {"not": {}} for n in range(1, depth)}}

    def _patterns(self) -> Costly:
        size = self.random.choice([20, 50])
        patterns = [
            self.random.choice(
                [f"[^{chr(97 + n % 26)}]{{{150 + n}}}", "(a|aa)+" * (1 + n % 20) + "$", "\\w{50}" * (1 + n % 9)]
            )
            for n in range(size)
        ]
        return self._setting(
            "patterns", [self._rule(n, {"properties": {"x": {"pattern": one}}}) for n, one in enumerate(patterns)]
        )

    def _rule(self, number: int, parameters: object) -> dict[str, Any]:
        return {"name": f"r{number}", "parameters": parameters, "start_date": "2020-01-01"}

    def _setting(self, family: str, rules: Sequence[object]) -> Costly:
        mnemonic = f"R_{self.random.randrange(20)}"
        return Costly(
            family, "commands", body("set_validation_rules", {"mnemonic": mnemonic, "rules": rules}),
            self.random.choice(CODECS), ADMIN,
        )  # fmt: skip

    def _worst_line(self) -> dict[str, Any]:
        return self.random.choice(
            [{"x": [0] * 1_000}, {"x": ["a"] * 500}, {f"k{n}": n for n in range(150)}, {"x": "a" * 2_000}]
        )

    def _order_with_rules(self) -> Costly:
        mnemonic = self.random.choice([RULED, RULED, f"R_{self.random.randrange(20)}"])
        attributes = self._worst_line()
        lines = [{"mnemonic": mnemonic, "quantity": 1, "unit_price": "1.00", "attributes": attributes}] * 100
        return Costly(
            "order with rules", "commands", body("place_order", {"customer_id": self._customer, "lines": lines}),
            self.random.choice(CODECS), ADMIN,
        )  # fmt: skip

    def _checked_data(self) -> Costly:
        data = {"x": [0] * 7_000} if self.random.random() < 0.5 else {f"k{n}": n for n in range(1_500)}
        mnemonic = self.random.choice([RULED, f"R_{self.random.randrange(20)}"])
        return Costly(
            "checked data", "queries", body("validate_product_data", {"mnemonic": mnemonic, "data": data}), None, READER
        )

    # Reads -----------------------------------------------------------------------------------------------------------
    def _rare_letter(self) -> Costly:
        field = self.random.choice(["name_contains", "email_contains"])
        needle = self.random.choice("qxjwŵőøß7@%_")
        return self._query("rare letter", "search_customers", {field: needle, "limit": self.random.choice([1, 100])})

    def _far_page(self) -> Costly:
        far = self.random.choice([10_000, 10**6, 10**9])
        kind, payload = self.random.choice(
            [
                ("search_customers", {"name_contains": "a", "offset": far, "limit": 100}),
                ("search_products", {"mnemonic_contains": "_", "offset": far, "limit": 100}),
                ("list_products", {"page": far // 100, "page_size": 100}),
                ("find_products_for_date_range",
                 {"start_date": "0001-01-01", "end_date": "9999-12-31", "page": far // 100, "page_size": 100}),
                ("get_customer_orders", {"customer_id": self._customer, "page": 2, "page_size": 100}),
            ]
        )  # fmt: skip
        return self._query("far page", kind, payload)

    def _large_product(self) -> Costly:
        return self._query("large product", "get_product", {"mnemonic": PRODUCT})

    def _broad_list(self) -> Costly:
        kind, payload = self.random.choice(
            [
                ("get_customer_orders", {"customer_id": self._customer, "page": 1, "page_size": 100}),
                ("list_products", {"page": 1, "page_size": 100}),
                ("search_customers", {"limit": 100}),
                ("customer_analytics", {}),
            ]
        )  # fmt: skip
        return self._query("broad list", kind, payload)

    def _query(self, family: str, kind: str, payload: object) -> Costly:
        return Costly(family, "queries", body(kind, payload), None, READER)

    # Writes ----------------------------------------------------------------------------------------------------------
    def _import(self) -> Costly:
        self._number += 1
        good = self.random.random() < 0.5
        rows = [
            {"mnemonic": f"I_{self.random.getrandbits(60):X}" if good else "bad!", "overview": "o" * 100}
            for _ in range(1_000)
        ]
        return Costly("import", "commands", body("import_products", {"products": rows}), "gzip", ADMIN)

    def _large_version(self) -> Costly:
        items = [{"name": f"i{n}", "position": n, "attributes": {"a": "x" * 1_000}} for n in range(200)]
        day = f"{self.random.randrange(2000, 9000)}-01-01"
        payload = {
            "mnemonic": f"R_{self.random.randrange(20)}",
            "version_label": uuid.UUID(int=self.random.getrandbits(128)).hex,
            "start_date": day,
            "end_date": day,
            "items": items,
        }
        return Costly("large version", "commands", body("add_product_version", payload), "gzip", ADMIN)
