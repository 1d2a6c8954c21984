"""What would break callers is named, what would not passes, and no release is ever changed."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from contracts.asyncapi import CONTRACT_VERSION
from contracts.release import release
from workers.cli import app
from workers.contract.compatibility import breaks, lies_within, releases

ROOT: Final = Path(__file__).parents[2]
Change = Callable[[Any], object]

PRESENT: Final = release()


def request(kinds: Any, kind: str, version: str = "1") -> Any:  # noqa: ANN401 - JSON
    """Find the schema of a payload."""
    return kinds[kind]["versions"][version]


def field(contract: Any, kind: str, name: str, version: str = "1") -> Any:  # noqa: ANN401
    """Find a field of a payload."""
    return request(contract["kinds"], kind, version)["properties"][name]


def data(contract: Any, kind: str, name: str) -> Any:  # noqa: ANN401
    """Find a field of a result."""
    return contract["kinds"][kind]["data"]["properties"][name]


def optional(contract: Any, kind: str, name: str) -> Any:  # noqa: ANN401
    """Find what a field takes beside null."""
    return field(contract, kind, name)["anyOf"][0]


BREAKING: Final[dict[str, tuple[Change, str]]] = {
    "a kind is gone": (lambda c: c["kinds"].pop("get_order"), "get_order: the kind is gone"),
    "a version is gone": (
        lambda c: c["kinds"]["create_product"]["versions"].pop("1"),
        "create_product: version 1 is gone",
    ),
    "an enum value is gone": (
        lambda c: field(c, "advance_phase", "to")["enum"].remove("contracted"),
        "advance_phase v1: payload.to: the value 'contracted' is gone",
    ),
    "a text may be less long": (
        lambda c: field(c, "create_customer", "name").update(maxLength=100),
        "create_customer v1: payload.name: narrowed",
    ),
    "a text must be longer": (
        lambda c: field(c, "create_product", "overview", "2").update(minLength=1),
        "create_product v2: payload.overview: narrowed",
    ),
    "a number may be less great": (
        lambda c: field(c, "place_order", "lines")["items"]["properties"]["quantity"].update(maximum=1000),
        "place_order v1: payload.lines[].quantity: narrowed",
    ),
    "a number must be greater": (
        lambda c: field(c, "list_products", "page_size").update(minimum=5),
        "list_products v1: payload.page_size: narrowed",
    ),
    "an exclusive bound is lower": (
        lambda c: field(c, "add_product_version", "items")["items"]["properties"]["position"].update(
            exclusiveMaximum=1000
        ),
        "add_product_version v1: payload.items[].position: narrowed",
    ),
    "a list may have fewer items": (
        lambda c: field(c, "place_order", "lines").update(maxItems=50),
        "place_order v1: payload.lines: narrowed",
    ),
    "a pattern is stricter": (
        lambda c: field(c, "get_outcome", "message_id").update(pattern="^[a-z]{1,128}$"),
        "get_outcome v1: payload.message_id: narrowed",
    ),
    "a pattern takes fewer characters": (
        lambda c: field(c, "get_outcome", "message_id").update(pattern="^[ -~]{1,127}$"),
        "get_outcome v1: payload.message_id: narrowed",
    ),
    "a long pattern is stricter": (
        lambda c: field(c, "start_backfill", "name").update(pattern="^[a-z][a-z0-9]{0,62}$"),
        "start_backfill v1: payload.name: narrowed",
    ),
    "a format is asked for": (
        lambda c: field(c, "start_backfill", "name").update(format="hostname"),
        "start_backfill v1: payload.name: narrowed",
    ),
    "null is no longer taken": (
        lambda c: field(c, "update_product", "category").update(anyOf=[optional(c, "update_product", "category")]),
        "update_product v1: payload.category: null is no longer taken",
    ),
    "a field is required now": (
        lambda c: request(c["kinds"], "create_customer")["required"].append("customer_id"),
        "create_customer v1: payload.customer_id: the field is required now",
    ),
    "a new field is required": (
        lambda c: (
            request(c["kinds"], "cancel_order")["properties"].update(reason={"type": "string"}),
            request(c["kinds"], "cancel_order")["required"].append("reason"),
        ),
        "cancel_order v1: payload.reason: a new field is required",
    ),
    "a field is no longer taken": (
        lambda c: request(c["kinds"], "search_customers")["properties"].pop("is_active"),
        "search_customers v1: payload.is_active: the field is gone",
    ),
    "a field is of another type": (
        lambda c: field(c, "set_backfill_rate", "rows_per_s")["anyOf"].__setitem__(0, {"type": "integer"}),
        "set_backfill_rate v1: payload.rows_per_s: narrowed",
    ),
    "a reply's field is gone": (
        lambda c: c["kinds"]["get_customer"]["data"]["properties"].pop("version"),
        "get_customer: data.version: the field is gone",
    ),
    "a reply's field may be absent": (
        lambda c: c["kinds"]["get_order"]["data"]["required"].remove("lines"),
        "get_order: data.lines: the field may be absent now",
    ),
    "a reply's field is retyped": (
        lambda c: data(c, "get_order", "total_amount").update(type="number"),
        "get_order: data.total_amount: retyped",
    ),
    "a time is any text now": (
        lambda c: data(c, "get_order", "created_at").pop("format"),
        "get_order: data.created_at: retyped",
    ),
    "null where it never was": (
        lambda c: data(c, "list_products", "items")["items"]["properties"].update(
            overview={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        "list_products: data.items[].overview: null where it never was",
    ),
    "an enum value is added": (
        lambda c: data(c, "get_order", "status")["enum"].append("shipped"),
        "get_order: data.status: the value 'shipped' was added",
    ),
    "an error code is added": (
        lambda c: c["kinds"]["get_order"]["errors"].update(ORDER_LOCKED=409),
        "get_order: it may be refused by ORDER_LOCKED now",
    ),
    "an error has another status": (
        lambda c: c["kinds"]["get_order"]["errors"].update(ORDER_NOT_FOUND=410),
        "get_order: the statusCode of ORDER_NOT_FOUND is 410 now, not 404",
    ),
    "an answer is added": (
        lambda c: c["kinds"]["place_order"]["answers"].append("200 warning"),
        "place_order: it may be answered by 200 warning now",
    ),
    "a stronger role": (
        lambda c: c["kinds"]["place_order"].update(roles=["catalog_admin"]),
        "place_order: a stronger role is needed: catalog_writer may no more",
    ),
    "a role where none was needed": (
        lambda c: c["kinds"]["get_outcome"].update(roles=["catalog_reader"]),
        "get_outcome: a stronger role is needed: a caller without a role may no more",
    ),
    "another key": (
        lambda c: c["kinds"]["create_customer"].update(key=["email"]),
        "create_customer: its key is ['email'] now",
    ),
    "another side": (
        lambda c: c["kinds"]["get_order"].update(topic="commands"),
        "get_order: it belongs on commands now, not on queries",
    ),
    "another topic": (
        lambda c: c["topics"].update(commands="{prefix}.requests"),
        "topic commands: {prefix}.commands is {prefix}.requests now",
    ),
    "a header is required now": (
        lambda c: c["headers"]["commands"]["required"].append("deadline"),
        "headers of commands.deadline: the field is required now",
    ),
    "a header of replies is gone": (
        lambda c: c["headers"]["replies"]["properties"].pop("sunset"),
        "headers of replies.sunset: the field is gone",
    ),
}

HARMLESS: Final[dict[str, Change]] = {
    "a kind is added": lambda c: c["kinds"].update(copy_product=c["kinds"]["delete_product"]),
    "a version is added": lambda c: c["kinds"]["place_order"]["versions"].update({"2": {"type": "object"}}),
    "an enum value is taken, too": lambda c: field(c, "advance_phase", "to")["enum"].append("archived"),
    "a text may be longer": lambda c: field(c, "create_customer", "name").update(maxLength=300),
    "a number may be greater": lambda c: field(c, "list_products", "page_size").update(maximum=500),
    "a list may have more items": lambda c: field(c, "place_order", "lines").update(maxItems=500),
    "a pattern is wider": lambda c: field(c, "get_outcome", "message_id").update(pattern="^[ -~]{1,256}$"),
    "a field may be added": lambda c: request(c["kinds"], "list_products")["properties"].update(
        is_confidential={"type": "boolean"}
    ),
    "a field need not be given": lambda c: request(c["kinds"], "end_product_version")["required"].remove("end_date"),
    "null is taken, too": lambda c: (
        field(c, "create_product", "is_confidential", "2").update(anyOf=[{"type": "boolean"}, {"type": "null"}])
        or field(c, "create_product", "is_confidential", "2").pop("type")
    ),
    "a reply has one more field": lambda c: (
        c["kinds"]["get_product"]["data"]["properties"].update(valid_until={"type": "string"}),
        c["kinds"]["get_product"]["data"]["required"].append("valid_until"),
    ),
    "null is no longer answered": lambda c: data(c, "list_products", "total_count").update(anyOf=[{"type": "integer"}]),
    "an enum value is no longer answered": lambda c: data(c, "get_order", "status")["enum"].remove("cancelled"),
    "an error code is gone": lambda c: c["kinds"]["place_order"]["errors"].pop("BUSINESS_RULE_ERROR"),
    "a version is given a sunset": lambda c: c["kinds"]["place_order"]["errors"].update(VERSION_REMOVED=410),
    "a weaker role": lambda c: c["kinds"]["create_product"].update(roles=["catalog_admin", "catalog_writer"]),
    "no role": lambda c: c["kinds"]["get_product"].update(roles=[]),
    "a header may be added": lambda c: c["headers"]["commands"]["properties"].update(priority={"type": "string"}),
}


def changed(change: Change) -> Any:  # noqa: ANN401
    """Change a copy of the present contract."""
    contract = copy.deepcopy(PRESENT)
    change(contract)
    assert contract != PRESENT, "nothing was changed"
    return contract


@pytest.mark.parametrize(("change", "told"), BREAKING.values(), ids=BREAKING)
def test_a_breaking_change_is_named(change: Change, told: str) -> None:
    """Each kind of break is told once, with its place; nothing else is."""
    (found,) = breaks(PRESENT, changed(change))
    assert found.startswith(told)


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_breaks_nobody_passes(change: Change) -> None:
    """What is added for callers, or asks less of them, is no break; the reverse of it mostly is one."""
    assert breaks(PRESENT, changed(change)) == []


def test_an_open_enum_may_grow() -> None:
    """An enum value may be added where the old contract said that some may be."""
    old = changed(lambda c: data(c, "get_order", "status").update({"x-open": True}))
    new = copy.deepcopy(old)
    data(new, "get_order", "status")["enum"].append("shipped")
    assert breaks(old, new) == []


def test_every_break_is_named_at_once() -> None:
    """Several changes are several lines."""
    new = copy.deepcopy(PRESENT)
    chosen = ("a version is gone", "an error code is added", "another topic", "a stronger role")
    for name in chosen:
        BREAKING[name][0](new)
    assert len(breaks(PRESENT, new)) == len(chosen)


UNDECIDED: Final = [
    ({"type": "string", "enum": ["ab"]}, {"type": "string", "maxLength": 1}, False),
    ({"type": "string", "enum": ["ab"]}, {"type": "string"}, True),
    (
        {"type": "string", "pattern": "^(?=.*a)b?a$"},
        {"type": "string", "pattern": "^(?=.*a)b?a$", "maxLength": 2},
        True,
    ),
    ({"type": "string", "pattern": "^(?!b)[ab]$"}, {"type": "string", "enum": ["a"]}, True),
    ({"type": "string", "pattern": "^(?!b)[abc]$"}, {"type": "string", "enum": ["a"]}, False),
    ({"type": "array", "items": {"pattern": "^(?!x)", "type": "string"}}, {"type": "array", "maxItems": 1}, False),
    ({"type": "string", "pattern": r"^\p{L}+$"}, {"type": "string", "pattern": r"^\p{L}*$"}, True),
]


@pytest.mark.parametrize(("inner", "outer", "expected"), UNDECIDED)
def test_samples_decide_what_else_cannot_be(inner: Any, outer: Any, expected: bool) -> None:  # noqa: ANN401
    """Where containment cannot be decided, samples of the one are held against the other."""
    assert lies_within(inner, outer) is expected


# Releases ----------------------------------------------------------------------------------------------------------
def test_nothing_breaks_since_any_release_of_this_version() -> None:
    """The present contract serves the callers of each release with its major version."""
    ours = [one for version, one in releases().items() if version.split(".")[0] == CONTRACT_VERSION.split(".")[0]]
    assert ours
    for one in ours:
        assert breaks(one, PRESENT) == []


def test_what_is_not_as_released_has_a_version_of_its_own() -> None:
    """A contract that differs from the newest release has a higher version than that."""
    newest = list(releases().values())[-1]
    if newest != PRESENT:
        assert [int(part) for part in CONTRACT_VERSION.split(".")] > [
            int(part) for part in newest["version"].split(".")
        ]


def test_no_release_was_ever_changed() -> None:
    """In git's history the files of releases are only added; each is named after its version."""
    folder = "contracts/released"
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "log",
        "--diff-filter=MDRT",
        "--format=%h",
        "--name-status",
        "--",
        folder,
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "") or not (ROOT / ".git").exists()
    assert {f"{version}.json" for version in releases()} == {file.name for file in (ROOT / folder).iterdir()}


def test_what_a_release_answered_is_an_answer_still() -> None:
    """Outcomes that were stored by a release are repeated as they were: what it did not answer is not required now."""
    for version, one in releases().items():
        for kind, was in one["kinds"].items():
            added = required_since(was["data"], PRESENT["kinds"][kind]["data"])
            assert not added, f"{kind}: {added} came after {version}: say so by `contracts.fields.since`"


def required_since(old: Any, new: Any) -> list[str]:  # noqa: ANN401
    """Name the fields that a schema requires, and the older one does not have."""
    if isinstance(old, list) or isinstance(new, list) or not isinstance(new, dict):
        pairs = zip(old, new, strict=False) if isinstance(old, list) and isinstance(new, list) else ()
        return [name for pair in pairs for name in required_since(*pair)]
    here = [name for name in new.get("required", ()) if name not in old.get("properties", {})]
    below = [
        *((old.get("properties", {}).get(name), of) for name, of in new.get("properties", {}).items()),
        *((old.get(word), new.get(word)) for word in ("items", "anyOf", "additionalProperties")),
    ]
    return here + [name for one, other in below if one is not None for name in required_since(one, other)]


def test_check_ends_with_status_1_for_a_break(tmp_path: Path) -> None:
    """`catalog contract check` names each change on a line; without an argument it takes the newest release."""
    old = changed(lambda c: c["kinds"].update(fly=c["kinds"]["get_order"]))
    (tmp_path / "old.json").write_text(json.dumps(old))
    ended = CliRunner().invoke(app, ["contract", "check", str(tmp_path / "old.json")])
    told = f"fly: the kind is gone\n1 breaking changes since {CONTRACT_VERSION}\n"
    assert (ended.exit_code, ended.output) == (1, told)
    assert CliRunner().invoke(app, ["contract", "check"]).exit_code == 0
    (tmp_path / "no.json").write_text("[]")
    for wrong, expected in (("0.0.1", "there is no release '0.0.1'"), (str(tmp_path / "no.json"), "is no release")):
        assert expected in str(CliRunner().invoke(app, ["contract", "check", wrong]).exception)


def test_without_the_extra_one_line_says_so(tmp_path: Path) -> None:
    """Where the packages that compare are not installed, the command names the extra that brings them."""
    (tmp_path / "old.json").write_text(json.dumps(changed(BREAKING["a pattern is stricter"][0])))
    script = (
        "import sys; sys.modules.update(jsonsubschema=None, hypothesis=None, hypothesis_jsonschema=None);"
        "from workers.__main__ import main; sys.argv[1:] = ['contract', 'check', sys.argv.pop()]; main()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "old.json")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: contracts cannot be compared (jsonsubschema is missing): pip install 'catalog-workers[contract]'\n"
    )
