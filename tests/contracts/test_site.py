"""The contract over HTTP and on the command line: complete, escaped, and made for whoever reads it."""

import asyncio
import json
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from starlette.applications import Starlette
from typer.testing import CliRunner

from contracts.asyncapi import Deployment, document
from contracts.registry import KINDS
from tests.contracts.reader import Contract
from workers.cli import app
from workers.contract import reading
from workers.contract.page import POLICY, page
from workers.contract.site import contract_routes

SHOP: Final = Deployment("shop", "CHF", 100, 60, ("kafka.example.com:9093",))


class Reader(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def shown() -> Reader:
    """Read the page."""
    return Reader(page(document(SHOP)))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    """No script, no event handler, nothing from another host; its only style is the one that its policy names."""
    found = shown()
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "iframe", "img", "object", "form", "base"})
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src"):
            value = attributes.get(name) or ""
            assert re.fullmatch(r"#\w+|asyncapi\.(json|yaml)|data:,|", value), (tag, value)
    assert POLICY.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in POLICY


def test_the_page_tells_all() -> None:
    """Each kind, field and error code stands on it; links lead to headings that are there."""
    found = shown()
    ids = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for _, attributes in found.tags if "#" in (attributes.get("href") or "")}
    assert links == ids == set(KINDS)
    for text in reading.all_texts():
        for row in (*text.result, *(field for request in text.requests for field in request.fields)):
            assert row.path in found.text
        assert all(row.code in found.text for row in text.errors)
    assert "shop.commands" in found.text
    assert "CHF" in found.text
    assert "kafka.example.com:9093" in found.text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a & b", "</style>", '"><img src=x>', "`<b>`"])
def test_whatever_stands_in_a_description_is_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in a declaration becomes markup."""
    kind = replace(KINDS["get_order"], description=text)
    monkeypatch.setattr("workers.contract.page.all_texts", lambda: [reading.kind_text(kind)])
    found = shown()
    assert text in found.text
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "img", "b"})


@pytest.mark.parametrize(
    ("path", "kind_of_file"),
    [("/contract", "text/html"), ("/asyncapi.json", "application/json"), ("/asyncapi.yaml", "application/yaml")],
)
async def test_files_are_told_apart_by_a_tag(path: str, kind_of_file: str) -> None:
    """Whoever has the present one is told so; another deployment's, or an older one, is another."""
    shop, other = (Starlette(routes=[*contract_routes(one)]) for one in (SHOP, Deployment("other")))
    status, headers, body = await asked_whole(shop, path)
    assert status == 200
    assert headers["content-type"].startswith(kind_of_file)
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    tag = headers["etag"]
    assert (await asked_whole(other, path))[1]["etag"] != tag
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        assert (await asked_whole(shop, path, known))[::2] == (304, b"")
    assert (await asked_whole(shop, path, '"x"'))[::2] == (200, body)


async def asked_whole(app: Starlette, path: str, known: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Ask an application, as a browser that may have the file already."""
    sent: list[dict[str, Any]] = []
    headers = [(b"if-none-match", known.encode())] if known else []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], named, b"".join(one.get("body", b"") for one in sent[1:])


async def test_json_and_yaml_are_the_same() -> None:
    """Both forms hold the same document, with the deployment's topics."""
    site = Starlette(routes=[*contract_routes(SHOP)])
    one = json.loads((await asked_whole(site, "/asyncapi.json"))[2])
    assert one == yaml.load((await asked_whole(site, "/asyncapi.yaml"))[2], yaml.CSafeLoader)
    assert one["channels"]["queries"]["address"] == "shop.queries"


async def test_it_is_made_once_and_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No start of a worker waits for what few ask for; whoever asks gets what is made once, beside the loop."""
    made: list[Deployment] = []
    threads: set[int] = set()

    def counted(deployment: Deployment) -> dict[str, Any]:
        made.append(deployment)
        threads.add(threading.get_ident())
        return document(deployment)

    monkeypatch.setattr("workers.contract.site.document", counted)
    site = Starlette(routes=[*contract_routes(SHOP)])
    assert made == []
    paths = ("/contract", "/asyncapi.json", "/asyncapi.yaml", "/contract", "/asyncapi.json")
    answers = await asyncio.gather(*(asked_whole(site, path) for path in paths))
    assert [status for status, _, _ in answers] == [200] * 5
    assert made == [SHOP]
    assert threads.isdisjoint({threading.get_ident()})


# The command line --------------------------------------------------------------------------------------------------
def catalog(*arguments: str) -> str:
    """Run a command that needs no settings."""
    ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_every_format_can_be_exported(tmp_path: Path) -> None:
    """Each format to standard output is the file that `--all` writes, filled with what is given."""
    options = ("--prefix", "shop", "--server", "a.example.com:9093", "--server", "b.example.com:9093")
    catalog("contract", "export", "--all", str(tmp_path / "out"), *options, "--currency", "CHF")
    files = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "out").iterdir()}
    assert len(files) == 4
    for form, name in (
        ("asyncapi-json", "asyncapi.json"),
        ("asyncapi-yaml", "asyncapi.yaml"),
        ("json-schema", "contract.schema.json"),
        ("markdown", "contract.md"),
    ):
        assert catalog("contract", "export", "--format", form, *options, "--currency", "CHF") == files[name]
    made = json.loads(files["asyncapi.json"])
    assert [one["host"] for one in made["servers"].values()] == ["a.example.com:9093", "b.example.com:9093"]
    assert made["info"]["x-currency"] == "CHF"
    assert "{topicPrefix}" not in files["contract.md"]
    assert "{topicPrefix}.commands" in catalog("contract", "export")


def test_json_schema_stands_by_itself() -> None:
    """Each body of a request and a reply has a schema there, whose references stay within; the examples fit."""
    import jsonschema_rs  # noqa: PLC0415

    made = json.loads(catalog("contract", "export", "--format", "json-schema"))
    contract = Contract(document(SHOP))
    for name, message in contract.document["components"]["messages"].items():
        whole = {**made, "$ref": f"#/definitions/{name}"}
        for example in message["examples"]:
            jsonschema_rs.validator_for(whole).validate(example["payload"])


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_told_with_a_payload_to_copy(name: str) -> None:
    """`catalog kinds KIND` names each field and error, and prints payloads that can be sent."""
    kind = KINDS[name]
    told = catalog("kinds", name)
    for row in (*reading.kind_text(kind).result, *reading.kind_text(kind).requests[-1].fields):
        assert row.path in told
    assert all(error.error_code in told for error in kind.every_error)
    payloads = catalog("kinds", name, "--json").splitlines()
    assert [json.loads(one) for one in payloads] == [
        dict(example) for version in kind.versions for example in version.examples
    ]
    assert name in catalog("kinds")


def test_a_wrong_kind_is_one_line_with_a_hint() -> None:
    """A typing error is told with the kind that was meant."""
    ended = CliRunner().invoke(app, ["kinds", "place_ordr"])
    assert (
        str(ended.exception) == "there is no kind 'place_ordr': did you mean place_order or cancel_order or get_order?"
    )
