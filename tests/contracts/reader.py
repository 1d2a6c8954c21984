"""The contract as somebody reads it who has the document and nothing else: JSON, and JSON Schema."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonschema_rs

DRAFT = "http://json-schema.org/draft-07/schema#"


class Contract:
    """An AsyncAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.operations: Mapping[str, Any] = document["operations"]

    def resolved(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow a reference, and the one that it leads to."""
        while "$ref" in value:
            found: Any = self.document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    def problem(self, schema: Mapping[str, Any], value: object) -> str | None:
        """Say where a value does not fit; None where it does."""
        whole = {"$schema": DRAFT, "allOf": [schema], "components": {"schemas": self.document["components"]["schemas"]}}
        for error in jsonschema_rs.validator_for(whole, validate_formats=True).iter_errors(value):
            return f"{error.instance_path}: {error.message}"
        return None

    def requests(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """Return the messages of a kind, one a version."""
        return [self.resolved(one) for one in self.operations[kind]["messages"]]

    def reply(self, kind: str) -> Mapping[str, Any]:
        """Return the message that answers a kind."""
        return self.resolved(self.operations[kind]["reply"]["messages"][0])

    def error_codes(self, kind: str) -> set[str]:
        """Read the error codes out of a reply's schema."""
        return set(self._codes(self.reply(kind)["payload"]))

    def _codes(self, payload: Mapping[str, Any]) -> Iterator[str]:
        for one in map(self.resolved, payload["oneOf"]):
            if one["properties"]["type"]["const"] == "error":
                yield one["properties"]["data"]["properties"]["error_code"]["const"]
