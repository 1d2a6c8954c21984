"""The guide's table of errors, made from the contract: `python -m tests.clients.error_table` writes it."""

from pathlib import Path
from typing import Any, Final

from contracts.asyncapi import Deployment, document
from tests.clients.drivers import ROOT

GUIDE: Final = ROOT / "clients" / "guides" / "what-can-go-wrong.md"
_ERROR: Final = "Error."
_AGAIN: Final = {"same": "same", "new": "new", None: "no"}
_HEAD: Final = "| code | status | what it means | again? | with what, or what instead |\n|---|---|---|---|---|\n"


def table() -> str:
    """Make the table: a row for each error_code, by statusCode."""
    schemas: dict[str, Any] = document(Deployment())["components"]["schemas"]
    errors = [(name.removeprefix(_ERROR), schema) for name, schema in schemas.items() if name.startswith(_ERROR)]
    return _HEAD + "".join(sorted((_row(code, schema) for code, schema in errors), key=_order))


def _row(code: str, schema: dict[str, Any]) -> str:
    repeat = schema["x-repeat"]
    status = schema["properties"]["statusCode"]["const"]
    about = " ".join(schema["description"].split()).replace("|", "\\|")
    return f"| `{code}` | {status} | {about} | {_AGAIN[repeat['message_id']]} | {repeat['with']} |\n"


def _order(row: str) -> tuple[str, str]:
    _, code, status, *_ = row.split("|")
    return status, code


def written(guide: Path = GUIDE) -> str:
    """Return what the guide should say: its own text, and the table below its mark."""
    text = guide.read_text(encoding="utf-8")
    before, mark, _ = text.partition("from the contract. -->\n")
    return f"{before}{mark}\n{table()}"


if __name__ == "__main__":
    GUIDE.write_text(written(), encoding="utf-8")
