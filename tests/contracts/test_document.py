"""The AsyncAPI document says what the workers do: what the official parser does not notice is checked here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Final

import orjson
import pytest

from contracts.asyncapi import Deployment, document
from contracts.errors import CustomerNotFoundError, NotFoundError
from contracts.fields import absent
from contracts.kinds import CREATED, DONE, Kind, Payload, Version, upcast
from contracts.products import Day
from contracts.registry import KINDS
from contracts.release import release
from contracts.schemas import references
from contracts.text import Text
from handlers.commands import COMMANDS
from handlers.queries import QUERIES
from tests.contracts.reader import Contract
from workers.contract.compatibility import releases
from workers.contract.lint import findings

BARE: Final = Deployment()
FILLED: Final = Deployment("shop", "EUR", 100, 60, ("kafka-1.example.com:9093", "kafka-2.example.com:9093"))


@pytest.fixture(scope="module", params=[BARE, FILLED], ids=["bare", "filled"])
def contract(request: pytest.FixtureRequest) -> Contract:
    """Read the document as a caller does: from its JSON."""
    return Contract(json.loads(orjson.dumps(document(request.param))))


def test_every_reference_leads_somewhere(contract: Contract) -> None:
    """No reference of the document is broken."""
    for address in references(contract.document):
        contract.resolved({"$ref": address})


def test_replies_are_messages_of_the_reply_channel(contract: Contract) -> None:
    """Of each operation, request and reply messages are among those of the channel that it names."""
    for name, operation in contract.operations.items():
        channel = operation["channel"]["$ref"]
        reply = operation["reply"]
        assert all(one["$ref"].startswith(f"{channel}/messages/") for one in operation["messages"]), name
        assert all(one["$ref"].startswith(f"{reply['channel']['$ref']}/messages/") for one in reply["messages"]), name
        assert contract.resolved(reply["channel"])["address"] is None
        assert reply["address"]["location"] == "$message.header#/reply_to"
        assert operation["security"], name


def test_every_example_fits_its_schema(contract: Contract) -> None:
    """Each message has an example, whose headers and payload its own schemas accept."""
    for name, message in contract.document["components"]["messages"].items():
        assert message["examples"], name
        for example in message["examples"]:
            assert contract.problem(message["payload"], example["payload"]) is None, name
            if "headers" in example:
                assert contract.problem(message["headers"], example["headers"]) is None, name


def test_every_kind_and_version_is_told(contract: Contract) -> None:
    """What the registry holds stands in the document: versions, roles, keys, needs, errors, deprecation."""
    assert contract.operations.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        operation = contract.operations[name]
        requests = [contract.resolved(one) for one in operation["messages"]]
        assert [one["x-version"] for one in requests] == [version.number for version in kind.versions]
        assert (operation["x-key"], operation["x-needs"]) == (list(kind.key), list(kind.needs))
        assert set(operation["x-errors"]) == contract.error_codes(name) == {one.error_code for one in kind.every_error}
        assert operation["x-roles"] or name == "get_outcome"
        assert operation["summary"]
        assert all(one["description"] for one in requests)
        for request, version in zip(requests, kind.versions, strict=True):
            told = (request.get("x-deprecated-on"), request.get("x-sunset-on"))
            assert told == tuple(one and one.isoformat() for one in (version.deprecated_on, version.sunset_on))


def test_every_error_says_whether_to_repeat(contract: Contract) -> None:
    """Each error names the message_id of a repetition and what it needs; what may be an outcome needs a new one."""
    schemas = contract.document["components"]["schemas"]
    repeats = {name.removeprefix("Error."): one["x-repeat"] for name, one in schemas.items() if name[:6] == "Error."}
    assert all(one["message_id"] in {"same", "new", None} and one["with"] for one in repeats.values())
    stored = {error.error_code for kind in KINDS.values() for error in kind.errors}
    assert not [code for code in stored if repeats[code]["message_id"] == "same"]
    assert {code for code, one in repeats.items() if one["message_id"] == "same"} == {
        "UNAUTHENTICATED", "FORBIDDEN", "RATE_LIMITED", "INTERNAL_ERROR", "DEADLINE_EXCEEDED",
    }  # fmt: skip


def test_a_deployment_fills_the_places(contract: Contract) -> None:
    """Prefix, currency, limit and servers stand where they belong; without them a reader sees what to fill in."""
    channels, info = contract.document["channels"], contract.document["info"]
    hosts = [server["host"] for server in contract.document["servers"].values()]
    if channels["commands"]["address"] == "shop.commands":
        assert hosts == list(FILLED.servers)
        assert (info["x-currency"], info["x-rate-limit"]) == ("EUR", {"requests": 100, "window_s": 60})
        assert "100 requests in 60 s" in info["description"]
        assert "{" not in channels["queries"]["address"]
    else:
        assert channels["commands"]["address"] == "{topicPrefix}.commands"
        assert set(channels["commands"]["parameters"]) == {"topicPrefix"}
        assert hosts == ["{bootstrapServer}"]
        assert info["x-currency"] is None


NEWER: Final = {
    "unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas", "prefixItems", "minContains",
    "maxContains", "$defs", "$dynamicRef", "$anchor", "$recursiveRef",
}  # fmt: skip


def test_only_words_of_draft_07_are_used(contract: Contract) -> None:
    """The schemas are of the format that AsyncAPI takes by default: no keyword is of a later draft."""
    assert NEWER.isdisjoint(_keywords(contract.document["components"]))


def _keywords(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from _keywords(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keywords(one)


def _came_since(old: Any, new: Any, place: str) -> Iterator[tuple[str, bool]]:  # noqa: ANN401 - schemas
    """Name the fields that an older result did not have, and whether they are required."""
    for name, shape in new.get("properties", {}).items():
        if name in old.get("properties", {}):
            yield from _came_since(old["properties"][name], shape, f"{place}.{name}")
        else:
            yield f"{place}.{name}", name in new["required"]
    if "items" in old and "items" in new:
        yield from _came_since(old["items"], new["items"], f"{place}[]")


def test_what_a_release_before_answered_fits() -> None:
    """An outcome that was stored then is repeated as it was: no field that came since is required, on any level."""
    present, first = release()["kinds"], next(iter(releases().values()))["kinds"]
    came = dict(field for kind in first for field in _came_since(first[kind]["data"], present[kind]["data"], kind))
    assert {"create_product.archived_at", "get_product.archived_at", "list_products.items[].archived_at"} <= came.keys()
    assert not any(came.values())


def test_pages_and_items_are_typed(contract: Contract) -> None:
    """No field of a result is an object of anything, but for what callers keep in one."""
    free = {"preferences", "catalog", "attributes", "parameters", "result", "chunks", "details"}
    schemas: Mapping[str, Any] = contract.document["components"]["schemas"]
    loose = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, shape in schema.get("properties", {}).items()
        if "properties" not in shape and (shape.get("type") == "object" or shape == {})
        if field not in free
    ]
    assert loose == ["OutcomeResult.data", "ValidateProductData.data"]


class Undocumented(Payload):  # noqa: D101 - that it has none is what the test is about
    pass


class Odd(Payload):
    """A payload of the test."""

    name: str


def _broken() -> dict[str, tuple[Kind, str]]:
    good = KINDS["get_customer"]
    odd = Version(1, Odd, examples=({"name": "n"},))
    return {
        "no description": (replace(good, description=" "), "it has no description"),
        "no docstring": (replace(good, versions=(Version(1, Undocumented, examples=({},)),)), "no docstring"),
        "no example": (replace(good, versions=(Version(1, Odd),)), "version 1 has no example"),
        "a wrong example": (
            replace(good, versions=(Version(1, Odd, examples=({"name": 1},)),)),
            "example 1 of version 1 is not valid",
        ),
        "a key that is no field": (
            replace(KINDS["create_customer"], key=("email_address",)),
            "no field 'email_address'",
        ),
        "a key of a query": (replace(good, versions=(odd,), key=("name",)), "a query has no key of its own"),
        "needs nobody has": (replace(good, needs=("make_customer",)), "needs 'make_customer', which is no kind"),
        "needs itself": (replace(good, needs=("get_customer",)), "it needs itself"),
        "an error twice": (
            replace(good, errors=(CustomerNotFoundError, CustomerNotFoundError)),
            "CUSTOMER_NOT_FOUND is listed twice",
        ),
        "a family of errors": (replace(good, errors=(NotFoundError,)), "NotFoundError has no code of its own"),
        "no type": (replace(good, result=dict), "its result has no type"),
        "a wrong reply": (replace(good, result=int), "its example of a reply is not of its result"),
        "another answer": (replace(good, answers=(CREATED,)), "200 success, is none of its answers"),
    }


BROKEN: Final = _broken()


@pytest.mark.parametrize(("kind", "finding"), BROKEN.values(), ids=BROKEN)
def test_lint_finds_what_a_declaration_lacks(kind: Kind, finding: str) -> None:
    """Each thing that a kind may be declared without is one finding of `make lint`."""
    found = findings({**KINDS, kind.name: kind}, [*COMMANDS, *QUERIES])
    assert any(finding in one and one.startswith(f"{kind.name}: ") for one in found), found


def test_lint_finds_a_kind_that_nothing_serves() -> None:
    """A kind without a use case, and a use case without a kind, are found; as it stands, nothing is."""
    served = [*COMMANDS, *QUERIES]
    assert findings(KINDS, served) == []
    assert findings(KINDS, [*served, "fly"]) == ["fly: a use case serves it, but it is no kind"]
    assert findings(KINDS, [one for one in served if one != "place_order"]) == ["place_order: no use case serves it"]


def test_what_is_done_is_not_created() -> None:
    """The example of a reply is an answer of its kind: 201 for what makes something."""
    assert {name for name, kind in KINDS.items() if CREATED in kind.answers} == {
        "create_customer",
        "create_product",
        "add_product_version",
        "place_order",
    }
    assert all(DONE in kind.answers or CREATED in kind.answers for kind in KINDS.values())


class _Old(Payload):
    """A payload as it was released."""

    day: Day | None
    name: Annotated[str, Text(1, 5)] = absent()
    tags: list[str] | None = None


class _New(_Old):
    """The one that took its place."""

    colour: str = "red"


UPCAST: Final[Mapping[str, Mapping[str, Any]]] = {
    "a day": {"day": "2026-01-31"},
    "null": {"day": None, "tags": None},
    "a text": {"day": None, "name": "é"},
    "what may be left out": {"day": None},
    "a list": {"day": "0001-01-01", "tags": ["a"]},
    "all": {"day": "9999-12-31", "tags": [], "name": "x"},
}


@pytest.mark.parametrize("sent", UPCAST.values(), ids=UPCAST)
def test_an_upcast_gives_on_what_was_given(sent: Mapping[str, Any]) -> None:
    """Values as they were read; what was not sent counts as not sent; what is new has its default."""
    old = Version(1, _Old).validated(orjson.dumps(sent))
    new = upcast(_Old, _New)(old)
    assert (type(new), new.colour, new.model_fields_set) == (_New, "red", set(sent))
    assert {name: getattr(new, name) for name in sent} == {name: getattr(old, name) for name in sent}
    assert isinstance(new.day, date | None)


@pytest.mark.parametrize(
    ("old", "new", "told"), [(_New, _Old, "colour"), (Payload, _Old, "day"), (_Old, Payload, "tags")]
)
def test_an_upcast_that_takes_more_is_told(old: type[Payload], new: type[Payload], told: str) -> None:
    """A field that is gone, and one that is asked for and was not."""
    with pytest.raises(TypeError, match=told):
        upcast(old, new)
