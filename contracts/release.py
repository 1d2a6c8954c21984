"""The contract as it is kept at each release: what callers rely on, without words and without a deployment's values.

Releases stand in `contracts/released`, a file each, added and never changed: a later contract is held against them.
"""

from collections.abc import Mapping
from typing import Any

from contracts.asyncapi import CONTRACT_VERSION, reply_headers, request_headers, roles_of
from contracts.kinds import Kind
from contracts.registry import KINDS
from contracts.schemas import Schemas, references, schemas, schemas_of
from contracts.topics import Topics

Release = Mapping[str, Any]

_WORDS = frozenset({"description", "title", "default"})


def release() -> Release:
    """Return the present contract."""
    return release_of(KINDS, schemas())


def release_of(kinds: Mapping[str, Kind], made: Schemas | None = None, version: str = CONTRACT_VERSION) -> Release:
    """Return the contract of these kinds; every schema stands by itself."""
    made = made or schemas_of(kinds)
    topics = Topics("{prefix}")
    return {
        "version": version,
        "topics": {"commands": topics.commands, "queries": topics.queries, "replies": f"{topics.replies}{{name}}"},
        "headers": {
            "commands": _bare(request_headers("commands", topics), made),
            "queries": _bare(request_headers("queries", topics), made),
            "replies": _bare(reply_headers(), made),
        },
        "kinds": {kind.name: _kind(kind, made) for kind in kinds.values()},
    }


def _kind(kind: Kind, made: Schemas) -> Mapping[str, Any]:
    return {
        "topic": kind.topic,
        "key": list(kind.key),
        "roles": roles_of(kind),
        "versions": {
            str(version.number): _bare(made.requests[kind.name, version.number], made) for version in kind.versions
        },
        "answers": [f"{answer.status_code} {answer.type}" for answer in kind.answers],
        "errors": {error.error_code: error.status_code for error in kind.every_error},
        "data": _bare(made.results[kind.name], made),
    }


def _bare(schema: Any, made: Schemas) -> Any:  # noqa: ANN401 - any JSON value
    """Put what a schema refers to in its place, and leave its words out."""
    if isinstance(schema, list):
        return [_bare(one, made) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        (address,) = references(dict(schema))
        return _bare(made.definitions[address.rpartition("/")[2]], made)
    return {
        name: {field: _bare(one, made) for field, one in value.items()} if name == "properties" else _bare(value, made)
        for name, value in schema.items()
        if name not in _WORDS
    }
