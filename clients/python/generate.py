"""Writes `catalog_client/generated` from the contract's AsyncAPI document: results, payload parts, errors, methods.

    catalog contract export --format asyncapi-json | python clients/python/generate.py catalog_client/generated

What it writes is committed; a test writes it again and compares.
"""

import json
import keyword
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HEAD: Final = "# Generated from the contract by clients/python/generate.py: edit neither by hand.\n"
FAMILIES: Final = {
    400: "BadRequest",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    413: "TooLarge",
    422: "Unprocessable",
}
WITH_MORE: Final = {
    "VALIDATION_FAILED": "WithFields",
    "FORBIDDEN": "WithRole",
    "RATE_LIMITED": "WithWait",
    "INTERNAL_ERROR": "WithIncident",
}
"""Errors whose details a program reads."""
_REF: Final = "#/components/schemas/"
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """A field of a payload or a result."""

    wire: str
    schema: Schema
    is_required: bool

    @property
    def name(self) -> str:
        """Its name in Python."""
        snake = _WORD.sub("_", self.wire).lower()
        return f"{snake}_" if keyword.iskeyword(snake) else snake


@dataclass(frozen=True)
class Version:
    """A kind in one of its versions."""

    kind: str
    number: int
    is_newest: bool
    side: str
    key: Sequence[str]
    payload: Schema
    result: Schema
    summary: str
    description: str
    deprecation: str | None
    errors: Sequence[str]

    @property
    def method(self) -> str:
        """The newest version has the name of the kind."""
        return self.kind if self.is_newest else f"{self.kind}_v{self.number}"

    @property
    def constant(self) -> str:
        return f"{self.kind}_v{self.number}".upper()


class Generator:
    """Reads a document; each property is the text of a module."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        self._versions = list(self._read_versions())

    def _resolved(self, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of the document
        while "$ref" in schema:
            found: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        return schema

    def _read_versions(self) -> Iterator[Version]:
        for operation in self._document["operations"].values():
            reply = self._resolved(operation["reply"]["messages"][0])
            results = [one["properties"]["data"] for one in reply["payload"]["oneOf"] if "$ref" not in one]
            messages = [self._resolved(one) for one in operation["messages"]]
            for message in messages:
                since = message.get("x-deprecated-on")
                yield Version(
                    operation["x-kind"],
                    message["x-version"],
                    message is messages[-1],
                    operation["channel"]["$ref"].rpartition("/")[2],
                    operation["x-key"],
                    self._resolved(message["payload"]["properties"]["payload"]),
                    results[0],
                    operation["summary"],
                    message["description"],
                    since and f"Deprecated since {since}, sunset {message['x-sunset-on']}: {message['x-alternative']}.",
                    operation["x-own-errors"],
                )

    # Types -----------------------------------------------------------------------------------------------------------
    def _fields(self, schema: Schema) -> list[Field]:
        required = set(schema.get("required", ()))
        fields = [Field(name, one, name in required) for name, one in schema.get("properties", {}).items()]
        return sorted(fields, key=lambda field: not field.is_required)

    def _type(self, schema: Schema, *, is_result: bool) -> str:
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REF)
            resolved = self._schemas[name]
            return name if "properties" in resolved else self._type(resolved, is_result=is_result)
        if "anyOf" in schema:
            options = " | ".join(self._type(one, is_result=is_result) for one in schema["anyOf"])
            return " | ".join(dict.fromkeys(options.split(" | ")))
        if "enum" in schema:
            values = f"Literal[{', '.join(json.dumps(one) for one in schema['enum'])}]"
            return f"{values} | str" if is_result else values
        match schema.get("type"):
            case "string":
                return self._text_type(schema.get("format"), is_result=is_result)
            case "array":
                item = self._type(schema.get("items", {}), is_result=is_result)
                return f"tuple[{item}, ...]" if is_result else f"Sequence[{item}]"
            case "object":
                inner = schema.get("additionalProperties")
                value = self._type(inner, is_result=is_result) if isinstance(inner, Mapping) else "Any"
                return f"Mapping[str, {value}]"
            case "integer" | "number" | "boolean" | "null" as plain:
                return {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}[plain]
            case _:
                return "Any"

    @staticmethod
    def _text_type(form: str | None, *, is_result: bool) -> str:
        if is_result:
            return {"date": "date", "date-time": "datetime"}.get(form or "", "str")
        return {"date": "date | str", "uuid": "UUID | str"}.get(form or "", "str")

    def _parameter(self, field: Field) -> str:
        form = self._type(field.schema, is_result=False)
        return f"{field.name}: {form}" if field.is_required else f"{field.name}: {form} | Unset = UNSET"

    # Reading results -------------------------------------------------------------------------------------------------
    def _reading(self, schema: Schema, value: str) -> str:
        """Write the expression that reads a value; the value itself where nothing has to be done."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REF)
            resolved = self._schemas[name]
            return f"{name}.read({value})" if "properties" in resolved else self._reading(resolved, value)
        if "anyOf" in schema:
            options = [one for one in schema["anyOf"] if one != {"type": "null"}]
            inner = self._reading(options[0], value) if len(options) == 1 else value
            return value if inner == value else f"(None if {value} is None else {inner})"
        match schema.get("type"), schema.get("format"):
            case "string", "date":
                return f"date.fromisoformat({value})"
            case "string", "date-time":
                return f"datetime.fromisoformat({value})"
            case "array", _:
                inner = self._reading(schema.get("items", {}), "one")
                return f"tuple({value})" if inner == "one" else f"tuple([{inner} for one in {value}])"
            case _:
                return value

    def _reader(self, schema: Schema) -> str:
        """Name the function that reads the `data` of a kind."""
        if schema.get("type") == "null":
            return "read_nothing"
        name = schema["$ref"].removeprefix(_REF)
        return f"results.{name}.read"

    def _result_type(self, version: Version) -> str:
        if version.result.get("type") == "null":
            return "None"
        return f"results.{version.result['$ref'].removeprefix(_REF)}"

    # Modules ---------------------------------------------------------------------------------------------------------
    def modules(self) -> dict[str, str]:
        """Return the text of each module by its name."""
        return {
            "__init__.py": '"""What is generated from the contract."""\n',
            "results.py": self._results(),
            "parts.py": self._parts(),
            "errors.py": self._errors(),
            "kinds.py": self._kinds(),
            "methods.py": self._methods(),
            "sync_methods.py": self._methods(is_sync=True),
        }

    def _reached(self, roots: Sequence[Schema]) -> list[str]:
        """Name the objects that these schemas refer to, each after those that it needs."""
        found: list[str] = []

        def visit(schema: Any) -> None:  # noqa: ANN401 - any JSON value
            if isinstance(schema, Mapping):
                if "$ref" in schema:
                    name = schema["$ref"].removeprefix(_REF)
                    if name not in found:
                        visit(self._schemas[name])
                        if "properties" in self._schemas[name] and name not in found:
                            found.append(name)
                else:
                    for one in schema.values():
                        visit(one)
            elif isinstance(schema, list):
                for one in schema:
                    visit(one)

        for root in roots:
            visit(root)
        return found

    def _results(self) -> str:
        classes = []
        for name in self._reached([version.result for version in self._versions]):
            schema = self._schemas[name]
            lines, readings = [], []
            for field in self._fields(schema):
                form = self._type(field.schema, is_result=True)
                value = f'data["{field.wire}"]'
                if field.is_required:
                    lines.append(f"    {field.name}: {form}")
                    readings.append(f"{field.name}={self._reading(field.schema, value)}")
                else:
                    inner = self._reading(field.schema, value)
                    absent = f'data.get("{field.wire}")'
                    nullable = {"anyOf": [field.schema, {"type": "null"}]}
                    lines.append(f"    {field.name}: {self._type(nullable, is_result=True)} = None")
                    reading = absent if inner == value else f"None if {absent} is None else {inner}"
                    readings.append(f"{field.name}={reading}")
                if text := field.schema.get("description"):
                    lines.append(_docstring(text, 4))
            classes.append(
                f"@dataclass(frozen=True, slots=True, kw_only=True)\nclass {name}:\n"
                f"{_docstring(schema['description'], 4)}\n\n" + "\n".join(lines) + "\n\n"
                "    @classmethod\n    def read(cls, data: Any) -> Self:\n"
                '        """Read it; fields that are not known are ignored."""\n'
                f"        return cls({', '.join(readings)})\n"
            )
        return (
            f'{HEAD}"""What answers hold: each class is the `data` of one, or a part of it."""\n\n'
            "from collections.abc import Mapping\nfrom dataclasses import dataclass\n"
            "from datetime import date, datetime\n"
            "from typing import Any, Literal, Self\n\n\n" + "\n\n".join(classes)
        )

    def _parts(self) -> str:
        classes = []
        for name in self._reached([version.payload.get("properties", {}) for version in self._versions]):
            schema = self._schemas[name]
            lines = []
            for field in self._fields(schema):
                lines.append(f"    {self._parameter(field)}")
                if text := _limits(field.schema):
                    lines.append(_docstring(text, 4))
            classes.append(
                f"@dataclass(frozen=True, slots=True, kw_only=True)\nclass {name}:\n"
                f"{_docstring(schema['description'], 4)}\n\n" + "\n".join(lines) + "\n"
            )
        return (
            f'{HEAD}"""Objects within payloads."""\n\n'
            "from collections.abc import Mapping, Sequence\nfrom dataclasses import dataclass\n"
            "from datetime import date\n"
            "from typing import Any\n\nfrom catalog_client.unset import UNSET, Unset\n\n\n" + "\n\n".join(classes)
        )

    def _errors(self) -> str:
        classes, table = [], []
        for name, schema in self._schemas.items():
            if not name.startswith("Error."):
                continue
            code = name.removeprefix("Error.")
            status = schema["properties"]["statusCode"]["const"]
            repeat, needs = schema["x-repeat"]["message_id"], schema["x-repeat"]["with"]
            base = WITH_MORE.get(code) or FAMILIES.get(status, "Refused")
            title = "".join(part.capitalize() for part in code.split("_"))
            told = f"{status}: {schema['description']}"
            again = {
                "same": f"It may be sent again under the same message_id, with {needs}.",
                "new": f"To try again, send it under a new message_id: {needs}.",
                None: f"Sent again it would be refused again: {needs}.",
            }[repeat]
            classes.append(
                f"class {title}({base}):\n"
                f"{_docstring(told, 4, again)}\n\n"
                f"    status = {status}\n    repeat = {json.dumps(repeat) if repeat else None}\n"
                f"    repeat_with = {json.dumps(needs)}\n" + ("    repeatable = True\n" if repeat == "same" else "")
            )
            table.append(f'    "{code}": {title},')
        bases = sorted({*FAMILIES.values(), *WITH_MORE.values(), "Refused"})
        return (
            f'{HEAD}"""The errors of the contract, a class for each error_code."""\n\n'
            "from collections.abc import Mapping\nfrom typing import Final\n\n"
            f"from catalog_client.errors import {', '.join(bases)}\n\n\n"
            + "\n\n".join(classes)
            + "\n\nBY_CODE: Final[Mapping[str, type[Refused]]] = {\n"
            + "\n".join(table)
            + "\n}\n"
        )

    def _kinds(self) -> str:
        lines = []
        for version in self._versions:
            path = "".join(f'"{one}", ' for one in version.key)
            form = self._result_type(version)
            lines.append(
                f"{version.constant}: Final[Kind[{form}]] = "
                f'Kind("{version.kind}", {version.number}, "{version.side}", ({path}), {self._reader(version.result)})'
            )
        newest = [f'    "{one.kind}": {one.constant},' for one in self._versions if one.is_newest]
        return (
            f'{HEAD}"""The kinds of the contract, each version by itself."""\n\n'
            "from collections.abc import Mapping\nfrom typing import Any, Final\n\n"
            "from catalog_client.generated import results\nfrom catalog_client.requests import Kind, read_nothing\n\n"
            + "\n".join(lines)
            + "\n\nNEWEST: Final[Mapping[str, Kind[Any]]] = {\n"
            + "\n".join(newest)
            + "\n}\n"
        )

    def _methods(self, *, is_sync: bool = False) -> str:
        commands = [one for one in self._versions if one.side == "commands"]
        lists = [one for one in self._versions if one.is_newest and self._is_list(one)]
        sync = "Sync" if is_sync else ""

        def asking(versions: Sequence[Version], through: str) -> list[str]:
            return [self._ask(one, is_sync, through) for one in versions]

        raw = "The same methods; each returns its reply with all that came with it."
        sends = "The commands, without an answer; each returns its message_id."
        bodies = [
            (f"{sync}Calls({sync}Asking)", "A method for each kind.", asking(self._versions, "_data")),
            (f"{sync}RawCalls({sync}RawAsking)", raw, asking(self._versions, "_reply")),
            (f"{sync}Sends({sync}Sending)", sends, asking(commands, "_sent")),
            (
                f"{sync}Iterates({sync}Iterating)",
                "The lists, item by item, page after page.",
                [self._iterate(one, is_sync) for one in lists],
            ),
        ]
        if not is_sync:
            records = [self._ask(one, is_sync=True, through="_recorded") for one in commands]
            bodies.append(("Records(Recording)", "The commands as records, for the caller's own outbox.", records))
        bases = sorted(name.partition("(")[2].rstrip(")") for name, _, _ in bodies)
        iterator = "Iterator" if is_sync else "AsyncIterator"
        about = (
            "The methods of the client for those without an event loop." if is_sync else "The methods of the client."
        )
        return (
            f'{HEAD}"""{about}"""\n\n'
            f"from collections.abc import {iterator}, Mapping, Sequence\nfrom datetime import date\n"
            "from typing import Any, Literal\nfrom uuid import UUID\n\n"
            "from catalog_client.generated import kinds, results\n"
            f"from catalog_client.generated.parts import {', '.join(self._part_names())}\n"
            "from catalog_client.replies import Reply\n"
            f"from catalog_client.requests import {'Request' if is_sync else 'Record, Request'}\n"
            f"from catalog_client.surface import {', '.join([*bases, 'Timeout'])}\n"
            "from catalog_client.unset import UNSET, Unset\n\n\n"
            + "\n\n".join(f'class {name}:\n    """{text}"""\n\n' + "\n".join(methods) for name, text, methods in bodies)
        )

    def _part_names(self) -> list[str]:
        return sorted(self._reached([version.payload.get("properties", {}) for version in self._versions]))

    def _is_list(self, version: Version) -> bool:
        return "cursor" in version.payload.get("properties", {})

    def _payload(self, fields: Sequence[Field]) -> str:
        return "{" + ", ".join(f'"{one.wire}": {one.name}' for one in fields) + "}"

    def _ask(self, version: Version, is_sync: bool, through: str) -> str:  # noqa: FBT001
        fields = self._fields(version.payload)
        parameters = [self._parameter(one) for one in fields]
        if version.side == "commands":
            parameters.append("message_id: str | None = None")
        if through != "_recorded":
            parameters.append("timeout: Timeout = UNSET")
        parameters.append("key: str | None = None")
        form = self._result_type(version)
        answers = {"_data": form, "_reply": f"Reply[{form}]", "_sent": "str", "_recorded": "Record"}[through]
        message_id = "message_id" if version.side == "commands" else "None"
        timeout = "" if through == "_recorded" else "timeout, "
        call = f"self.{through}(Request(kinds.{version.constant}, {self._payload(fields)}), {message_id}, {timeout}key)"
        return (
            f"    {'' if is_sync else 'async '}def {version.method}(self, *, {', '.join(parameters)}) -> {answers}:\n"
            f"{self._method_docstring(version, fields, raises=through in {'_data', '_reply'})}\n"
            f"        return {'' if is_sync else 'await '}{call}\n"
        )

    def _iterate(self, version: Version, is_sync: bool) -> str:  # noqa: FBT001
        fields = [one for one in self._fields(version.payload) if one.wire not in {"cursor", "page", "offset"}]
        parameters = [*(self._parameter(one) for one in fields), "timeout: Timeout = UNSET"]
        page = self._resolved(version.result)
        item = f"results.{page['properties']['items']['items']['$ref'].removeprefix(_REF)}"
        iterator = "Iterator" if is_sync else "AsyncIterator"
        return (
            f"    def {version.method}(self, *, {', '.join(parameters)}) -> {iterator}[{item}]:\n"
            f"{self._method_docstring(version, fields)}\n"
            f"        return self._items(kinds.{version.constant}, {self._payload(fields)}, timeout)\n"
        )

    def _method_docstring(self, version: Version, fields: Sequence[Field], *, raises: bool = True) -> str:
        told = [f"{one.name}: {text}" for one in fields if (text := _limits(one.schema))]
        paragraphs = [version.description]
        if version.deprecation:
            paragraphs.append(version.deprecation)
        if told:
            paragraphs.append("\n".join(f"- {one}" for one in told))
        if version.errors and raises:
            names = ", ".join("".join(part.capitalize() for part in code.split("_")) for code in version.errors)
            paragraphs.append(f"Raise {names}, or what any request may meet.")
        return _docstring(f"{version.summary}.", 8, *paragraphs)


def _limits(schema: Schema) -> str:
    """Put into words what a field may be."""
    options = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    merged = {**(options[0] if options else {}), **{name: one for name, one in schema.items() if name != "anyOf"}}
    words = [merged["description"]] if "description" in merged else []
    for low, high, what in (
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " of them"),
        ("minimum", "maximum", ""),
    ):
        if high in merged:
            words.append(f"{merged.get(low, 0)} to {merged[high]}{what}")
    if "default" in merged:
        words.append(f"otherwise {merged['default']}")
    return "; ".join(words)


def _docstring(text: str, indent: int, *paragraphs: str) -> str:
    pad = " " * indent
    text = text if text.endswith(".") else f"{text}."
    lines = textwrap.wrap(" ".join(text.split()), 110 - indent)
    for paragraph in paragraphs:
        lines.append("")
        for line in paragraph.split("\n"):
            hanging = "  " if line.startswith("- ") else ""
            lines += textwrap.wrap(line, 112 - indent, subsequent_indent=hanging)
    quoted = [line.replace("\\", "\\\\") for line in lines]
    if len(quoted) == 1:
        return f'{pad}"""{quoted[0]}"""'
    return "\n".join([f'{pad}"""{quoted[0]}', *(f"{pad}{line}".rstrip() for line in quoted[1:]), f'{pad}"""'])


def generated(document: Mapping[str, Any]) -> dict[str, str]:
    """Write the modules, formatted."""
    modules = Generator(document).modules()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in modules}
        for name, path in paths.items():
            path.write_text(modules[name], encoding="utf-8")
        ruff = [sys.executable, "-m", "ruff"]
        settings = ["--quiet", "--isolated", "--no-cache", "--config", "line-length=120"]
        ours = ["--config", "lint.isort.known-first-party=['catalog_client']"]
        for step in (
            [*ruff, "check", *settings, *ours, "--select", "I,F401", "--fix", folder],
            [*ruff, "format", *settings, folder],
        ):
            subprocess.run(step, check=True)
        return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def main() -> None:
    """Read the document from stdin, write into the folder that is named."""
    folder = Path(sys.argv[1])
    for name, text in generated(json.load(sys.stdin)).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
