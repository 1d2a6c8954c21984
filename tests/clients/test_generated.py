"""What is generated from the contract is committed as it would be generated now, and all of it is public."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import orjson
import pytest

import catalog_client
from catalog_client.client import error_of
from catalog_client.errors import FAMILIES, Refused
from catalog_client.generated import errors, kinds, parts, results
from catalog_client.generated.methods import Calls, Iterates, RawCalls, Records, Sends
from catalog_client.generated.sync_methods import SyncCalls, SyncIterates, SyncRawCalls, SyncSends
from catalog_client.replies import Envelope
from contracts.asyncapi import Deployment, document
from contracts.registry import KINDS

ROOT: Final = Path(__file__).parent.parent.parent


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "clients" / "python" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _document() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(orjson.dumps(document(Deployment())))
    return read


def test_what_is_committed_is_what_is_generated() -> None:
    """Every module of `catalog_client/generated` is what the contract of today makes; `make client` writes them."""
    folder = ROOT / "catalog_client" / "generated"
    made = _generator().generated(_document())
    assert {path.name for path in folder.glob("*.py")} == made.keys()
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, name


def _public(of: type) -> set[str]:
    return {name for name in vars(of) if not name.startswith("_")}


def test_each_kind_and_version_has_its_methods() -> None:
    """Every surface has the kinds that belong there: commands are sent and recorded, lists are gone through."""
    methods = {
        kind.name if version is kind.newest else f"{kind.name}_v{version.number}": kind.topic
        for kind in KINDS.values()
        for version in kind.versions
    }
    commands = {name for name, topic in methods.items() if topic == "commands"}
    assert _public(Calls) == _public(RawCalls) == _public(SyncCalls) == _public(SyncRawCalls) == methods.keys()
    assert _public(Sends) == _public(SyncSends) == _public(Records) == commands
    lists = {name for name in KINDS if "cursor" in KINDS[name].newest.model.model_fields}
    assert _public(Iterates) == _public(SyncIterates) == lists
    assert kinds.NEWEST.keys() == KINDS.keys()


def test_errors_say_what_the_contract_says() -> None:
    """Each error_code has its class, with its statusCode, and whether and with what to send again."""
    schemas = _document()["components"]["schemas"]
    told = {name.removeprefix("Error."): schema for name, schema in schemas.items() if name.startswith("Error.")}
    assert errors.BY_CODE.keys() == told.keys()
    for code, made in errors.BY_CODE.items():
        repeat = told[code]["x-repeat"]
        assert made.status == told[code]["properties"]["statusCode"]["const"]
        assert (made.repeat, made.repeat_with) == (repeat["message_id"], repeat["with"])
        assert made.repeatable == (repeat["message_id"] == "same")
        assert repeat["with"] in " ".join((made.__doc__ or "").split())


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "CUSTOMER_NOT_FOUND", errors.CustomerNotFound),
        (404, "SHOE_NOT_FOUND", FAMILIES[404]),
        (409, "SHOE_TAKEN", FAMILIES[409]),
        (429, "TOO_MANY_SHOES", Refused),
        (599, "", Refused),
        (422, None, FAMILIES[422]),
    ],
)
def test_an_unknown_code_is_of_its_family(status: int, code: str | None, expected: type[Refused]) -> None:
    """A code that is not known yet is kept as text, in the class of its statusCode."""
    made = error_of("m", Envelope(status, "No", "error", {"error_code": code, "details": {"a": 1}}, {}))
    assert type(made) is expected
    assert (made.error_code, made.details) == (str(code), {"a": 1})


def test_examples_are_read() -> None:
    """The reply of each kind's example is read, with a field that nobody knows yet in every object of it."""
    operations = _document()["components"]["messages"]
    for name, kind in kinds.NEWEST.items():
        example = operations[f"{name}.reply"]["examples"][0]["payload"]["data"]
        read = kind.read(example)
        if name != "get_outcome":  # its data is another kind's, as it came
            assert read == kind.read(_with_more(example)), name
        assert (read is None) == (example is None)


def _with_more(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and "id" in value:
        value = {**value, "nobody_knows": [1]}
    if isinstance(value, dict):
        return {name: _with_more(one) for name, one in value.items()}
    return [_with_more(one) for one in value] if isinstance(value, list) else value


def test_what_is_public() -> None:
    """What a program may import from the package, by name: to widen it is a decision."""
    by_hand = {
        "BadRequest", "CatalogClient", "CatalogError", "Conflict", "Counters", "Envelope", "FieldError", "Gone",
        "Hooks", "NotConnected", "NotFound", "NotSent", "Record", "Refused", "Reply", "ReplyTimeout", "SASL",
        "SyncCatalogClient", "TLS", "TooLarge", "UNSET", "Unprocessable", "UnreadableReply", "Unset", "VERSION",
        "results",
    }  # fmt: skip
    by_contract = {made.__name__ for made in errors.BY_CODE.values()} | {
        name for name, one in vars(parts).items() if getattr(one, "__module__", "") == parts.__name__
    }
    assert set(catalog_client.__all__) == by_hand | by_contract
    assert catalog_client.results is results
