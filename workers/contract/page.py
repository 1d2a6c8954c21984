"""The contract as a page: made on this side, without a script, and with nothing that is loaded from elsewhere.

The tree is written out by the standard library, which escapes whatever stands in it. The style is part of the page and
known to its policy by a hash; everything else is forbidden to it.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

from contracts.asyncapi import Document
from workers.contract.reading import ErrorRow, FieldRow, KindText, RequestPart, all_texts

STYLE: Final = """
:root { color-scheme: light dark; --line: #c8ccd2; --soft: #f3f4f6; --quiet: #50565f; --link: #0b57a4; --warn: #8a3b00 }
@media (prefers-color-scheme: dark) {
  :root { --line: #4a4f57; --soft: #24272c; --quiet: #b3b9c2; --link: #8ab8f0; --warn: #ffb37a }
}
* { box-sizing: border-box }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
a { color: var(--link) }
h1, h2, h3 { line-height: 1.2 }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.5rem }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem }
pre { background: var(--soft); padding: .75rem; white-space: pre-wrap; margin: .5rem 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line) }
dt { color: var(--quiet) }
dd { margin: 0 0 .5rem }
.warn { color: var(--warn) }
@media (min-width: 40rem) { th, td:not(:last-child) { overflow-wrap: break-word } }
@media (max-width: 40rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  table, caption, tbody, tr, td { display: block }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0 }
  td { border: 0; padding: 0 }
  td:empty { display: none }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  nav { display: none }
  pre, tr { break-inside: avoid }
  h2, h3, caption { break-after: avoid }
}
"""

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy."""

Content = ET.Element | str


def page(made: Document) -> str:
    """Write the page of a document."""
    info, texts = made["info"], all_texts()
    title = f"{info['title']} {info['version']}"
    root = _tag(
        "html",
        [
            _tag(
                "head",
                [
                    _tag("meta", charset="utf-8"),
                    _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                    _tag("title", [title]),
                    _tag("link", rel="icon", href="data:,"),
                    _tag("style", [STYLE]),
                ],
            ),
            _tag(
                "body",
                [
                    _tag("header", [_tag("h1", [title]), _downloads()]),
                    _tag("main", [*_introduction(info, made["servers"]), _contents(texts), *map(_kind, texts)]),
                ],
            ),
        ],
        lang="en",
    )
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def _tag(name: str, children: Iterable[Content] = (), /, **attributes: str) -> ET.Element:
    """Make an element; texts among its children are escaped when it is written."""
    element = ET.Element(name, {key.rstrip("_"): value for key, value in attributes.items()})
    last: ET.Element | None = None
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element


_MARKED: Final = re.compile(r"(\*\*[^*]+\*\*|`[^`]+`)")


def _marked(text: str) -> list[Content]:
    """Read what the document says in bold and in code."""
    parts: list[Content] = []
    for part in _MARKED.split(text):
        if part.startswith("**"):
            parts.append(_tag("strong", [part[2:-2]]))
        elif part.startswith("`"):
            parts.append(_tag("code", [part[1:-1]]))
        elif part:
            parts.append(part)
    return parts


def _downloads() -> ET.Element:
    return _tag(
        "p",
        [
            "The same for programs: ",
            _tag("a", ["asyncapi.json"], href="asyncapi.json"),
            ", ",
            _tag("a", ["asyncapi.yaml"], href="asyncapi.yaml"),
        ],
    )


def _introduction(info: Mapping[str, Any], servers: Mapping[str, Any]) -> list[ET.Element]:
    paragraphs = [_tag("p", _marked(paragraph)) for paragraph in info["description"].split("\n\n")]
    hosts = [server["host"] for server in servers.values() if "variables" not in server]
    if hosts:
        paragraphs.append(_tag("p", [_tag("strong", ["Servers"]), ": ", _tag("code", [", ".join(hosts)])]))
    return paragraphs


def _contents(texts: Sequence[KindText]) -> ET.Element:
    rows: list[list[Content]] = [
        [_tag("a", [one.name], href=f"#{one.name}"), one.topic, one.description] for one in texts
    ]
    return _tag("nav", [_table("Kinds", ("Kind", "Topic", "What it does"), rows)], **{"aria-label": "Kinds"})


def _kind(text: KindText) -> ET.Element:
    facts: list[tuple[str, list[Content]]] = [
        ("Topic", [text.topic]),
        ("Who may", [text.who]),
        ("Key", _marked(text.key)),
        ("Answers", [text.answers]),
    ]
    if text.needs:
        facts.append(("First come the examples of", _listed(text.needs)))
    return _tag(
        "section",
        [
            _tag("h2", [text.name], id=text.name),
            _tag("p", [text.description, "."]),
            _tag("dl", [part for name, said in facts for part in (_tag("dt", [name]), _tag("dd", said))]),
            *(part for request in text.requests for part in _request(text.name, request)),
            _tag("h3", [f"Reply to {text.name}"]),
            *([_fields("Its data", text.result)] if text.result else [_tag("p", ["Its data is null."])]),
            _code(text.reply),
            _errors(text.errors),
        ],
    )


def _listed(names: Sequence[str]) -> list[Content]:
    parts: list[Content] = []
    for name in names:
        parts += [", "] if parts else []
        parts.append(_tag("a", [name], href=f"#{name}"))
    return parts


def _request(name: str, request: RequestPart) -> list[ET.Element]:
    parts = [_tag("h3", [f"{name}, version {request.number}"])]
    if request.deprecated_on is not None:
        since = f"Deprecated since {request.deprecated_on}, sunset {request.sunset_on}: use {request.alternative}."
        parts.append(_tag("p", [since], class_="warn"))
    parts.append(_tag("p", _marked(request.meaning)))
    if request.fields:
        parts.append(_fields("Its payload", request.fields))
    return [*parts, *map(_code, request.bodies)]


def _fields(caption: str, rows: Sequence[FieldRow]) -> ET.Element:
    return _table(
        caption,
        ("Field", "Type", "Required", "Limits"),
        [
            [
                _tag("code", [row.path]),
                row.type,
                "required" if row.is_required else "",
                _tag("span", _marked(row.limits)),
            ]
            for row in rows
        ],
    )


def _errors(rows: Sequence[ErrorRow]) -> ET.Element:
    return _table(
        "Errors",
        ("Status", "Code", "When"),
        [[str(row.status_code), _tag("code", [row.code]), _tag("span", _marked(row.meaning))] for row in rows],
    )


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Content]]) -> ET.Element:
    head = _tag("tr", [_tag("th", [column], scope="col") for column in columns])
    body = [_tag("tr", [_tag("td", [cell] if cell != "" else []) for cell in row]) for row in rows]
    return _tag("table", [_tag("caption", [caption]), _tag("thead", [head]), _tag("tbody", body)])


def _code(text: str) -> ET.Element:
    return _tag("pre", [_tag("code", [text])])
