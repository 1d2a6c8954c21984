"""The forms in which the contract leaves the house."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import orjson
import yaml

from contracts.asyncapi import Deployment, Document, document
from contracts.schemas import REF
from workers.contract.reading import ErrorRow, FieldRow, KindText, RequestPart, all_texts


class Format(StrEnum):
    """What `--format` takes."""

    ASYNCAPI_JSON = "asyncapi-json"
    ASYNCAPI_YAML = "asyncapi-yaml"
    JSON_SCHEMA = "json-schema"
    MARKDOWN = "markdown"


FILES: Final[Mapping[Format, str]] = {
    Format.ASYNCAPI_JSON: "asyncapi.json",
    Format.ASYNCAPI_YAML: "asyncapi.yaml",
    Format.JSON_SCHEMA: "contract.schema.json",
    Format.MARKDOWN: "contract.md",
}
"""How `--all` names each."""


def exported(wanted: Format, deployment: Deployment) -> str:
    """Write the contract in a format; ends with a line end."""
    made = document(deployment)
    match wanted:
        case Format.ASYNCAPI_JSON:
            return as_json(made)
        case Format.ASYNCAPI_YAML:
            return as_yaml(made)
        case Format.JSON_SCHEMA:
            return as_json(json_schema(made))
        case Format.MARKDOWN:
            return markdown(made)


def as_json(value: object) -> str:
    """Write JSON that people can read, too."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


class _Dumper(yaml.CSafeDumper):
    """Writes a text of several lines as it is."""


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def as_yaml(made: Document) -> str:
    """Write YAML, in the order of the document; what is said twice is written twice, without anchors."""
    plain = orjson.loads(orjson.dumps(made))
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def json_schema(made: Document) -> Document:
    """Gather the schemas of all bodies, `create_product.v2` and `create_product.reply`, and of their parts."""
    components: Mapping[str, Any] = made["components"]
    bodies = {name: message["payload"] for name, message in components["messages"].items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"{made['info']['title']} {made['info']['version']}",
        "description": "Bodies of requests and replies, by kind and version",
        "definitions": _moved({**bodies, **components["schemas"]}),
    }


def _moved(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {
            name: one.replace(REF, "#/definitions/") if name == "$ref" else _moved(one) for name, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_moved(one) for one in value]
    return value


# Markdown ----------------------------------------------------------------------------------------------------------
def markdown(made: Document) -> str:
    """Write a page for whoever reads text."""
    info = made["info"]
    texts = all_texts()
    parts = [f"# {info['title']} {info['version']}", info["description"], "## Kinds", _contents(texts)]
    parts += [part for text in texts for part in _kind(text)]
    return "\n\n".join(parts) + "\n"


def _contents(texts: Sequence[KindText]) -> str:
    return _table(
        ("kind", "topic", "what it does"), [(f"[{one.name}](#{one.name})", one.topic, one.description) for one in texts]
    )


def _kind(text: KindText) -> list[str]:
    facts = [
        f"- who may: {text.who}",
        f"- key: {text.key}",
        f"- answers: {text.answers}",
        *([f"- first come the examples of: {', '.join(text.needs)}"] if text.needs else []),
    ]
    result = [_fields(text.result)] if text.result else ["`data` is null."]
    return [
        f"## {text.name}",
        text.description + ".",
        "\n".join(facts),
        *(part for request in text.requests for part in _request(request)),
        "### Reply",
        *result,
        _code(text.reply),
        "### Errors",
        _errors(text.errors),
    ]


def _request(request: RequestPart) -> list[str]:
    title = f"### Version {request.number}"
    if request.deprecated_on is not None:
        title += f" (deprecated since {request.deprecated_on}, sunset {request.sunset_on}: use {request.alternative})"
    fields = [_fields(request.fields)] if request.fields else ["The payload is empty."]
    return [title, request.meaning, *fields, *map(_code, request.bodies)]


def _fields(rows: Sequence[FieldRow]) -> str:
    return _table(
        ("field", "type", "", "limits"),
        [(f"`{row.path}`", row.type, "required" if row.is_required else "", row.limits) for row in rows],
    )


def _errors(rows: Sequence[ErrorRow]) -> str:
    return _table(("status", "code", "when"), [(str(row.status_code), f"`{row.code}`", row.meaning) for row in rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    return f"```json\n{text}\n```"
