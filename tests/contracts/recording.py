"""What passes between callers and workers, held against the document: every reply, and every request that was accepted.

The schemas are compiled once for a process; a reply then costs some ten microseconds.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jsonschema_rs
import orjson

from contracts.asyncapi import Deployment, document
from tests.contracts.reader import DRAFT, Contract

_A_ROW: Final = {"mnemonic": "ROW", "overview": ""}
INVALID: Final = frozenset({"INVALID_PRODUCT_CODE"})
"""Of a kind's own errors, what refuses a payload for its form."""


@dataclass(frozen=True)
class Recorder:
    """The compiled schemas."""

    replies: Mapping[str, jsonschema_rs.Validator]
    """By kind; of what has no known kind, under the empty name."""
    reply_headers: jsonschema_rs.Validator
    requests: Mapping[tuple[str, int], jsonschema_rs.Validator]
    own_errors: Mapping[str, frozenset[str]]

    def of_reply(self, headers: Mapping[str, str], envelope: Mapping[str, Any]) -> Iterator[str]:
        """Say what of a reply the document does not know."""
        kind = headers.get("kind", "")
        validator = self.replies.get(kind) or self.replies[""]
        if not validator.is_valid(envelope):
            yield f"a reply to {kind or 'no kind'} is not in the document: {json.dumps(envelope)[:2000]}"
        for error in self.reply_headers.iter_errors(dict(headers)):
            yield f"headers of a reply to {kind or 'no kind'}: {error.message}"

    def of_requests(self, bodies: Iterable[Any], envelope: Mapping[str, Any]) -> Iterator[str]:
        """Say which requests were accepted, as the reply shows, though their schema refuses them.

        Several share a correlation id: one of them is good then. A text is measured after it was trimmed and composed,
        and what is wrong with a row of an import costs the row: neither can be said in a schema.
        """
        found = [problem for body in bodies if (problem := self._of_request(body, envelope)) is not None]
        if found and all(found):
            yield found[0]

    def _of_request(self, body: Any, envelope: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - any JSON value
        if not isinstance(body, dict) or body.get("kind") not in self.own_errors:
            return None
        kind = body["kind"]
        if envelope["type"] == "error" and envelope["data"]["error_code"] not in self.own_errors[kind] - INVALID:
            return None
        validator = self.requests.get((kind, int(body.get("version", 1))))
        normal = _normal(body)
        if kind == "import_products" and isinstance(normal["payload"].get("products"), list):
            normal["payload"]["products"] = [
                _A_ROW if isinstance(row, dict) else row for row in normal["payload"]["products"]
            ]
        if validator is None or validator.is_valid(normal):
            return ""
        (first, *_) = validator.iter_errors(normal)
        return f"{kind} was accepted, but its schema refuses it at {first.instance_path}: {first.message[:500]}"


@cache
def recorder() -> Recorder:
    """Compile the document; once."""
    contract = Contract(orjson.loads(orjson.dumps(document(Deployment("t")))))
    schemas = {name: _closed(name, schema) for name, schema in contract.document["components"]["schemas"].items()}

    def compiled(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
        whole = {"$schema": DRAFT, "allOf": [schema], "components": {"schemas": schemas}}
        return jsonschema_rs.validator_for(whole, validate_formats=True)

    messages = contract.document["components"]["messages"]
    return Recorder(
        {kind: compiled(contract.reply(kind)["payload"]) for kind in contract.operations}
        | {"": compiled(messages["refusal"]["payload"])},
        compiled(messages["refusal"]["headers"]),
        {
            (kind, message["x-version"]): compiled(message["payload"])
            for kind in contract.operations
            for message in contract.requests(kind)
        },
        {kind: frozenset(operation["x-own-errors"]) for kind, operation in contract.operations.items()},
    )


def _closed(name: str, schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Refuse in a result what the document does not name: callers may ignore it, but it must be told to them.

    What a release before may have left out, these workers have to answer.
    """
    if name.startswith("Error.") or "properties" not in schema or name.endswith("Headers"):
        return schema
    later = [field for field, of in schema["properties"].items() if "x-since" in of]
    return {**schema, "additionalProperties": False, "required": [*schema.get("required", ()), *later]}


def _normal(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value.strip())
    if isinstance(value, dict):
        return {name: _normal(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_normal(one) for one in value]
    return value
