"""Customers: the keys of name and e-mail, folded as Unicode's NFKC_Casefold wants it, where a release before did not.

A key whose e-mail folds to that of another living customer cannot be written: its row is put aside, and both customers
stay as they are; `catalog doctor` names them. Erased customers have no keys.
"""

import re
import unicodedata
from collections.abc import Mapping

_IGNORABLE = (
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def _stale(key: str) -> str:
    return f"octet_length({key}) <> char_length({key}) and ({key} is not nfkc normalized or {key} ~ '{_IGNORABLE}')"


TABLE = "customers"
KEY = ("id",)
TODO = f"deleted_at is null and ({_stale('name_key')} or {_stale('email_key')})"
READS = ("name", "email")
WRITES = ("name_key", "email_key")
IRREVERSIBLE = "the keys of before follow from no text that is kept"


def _folded(text: str | None) -> str | None:
    if text is None:
        return None
    shown = re.sub(_IGNORABLE, "", unicodedata.normalize("NFKC", text))
    return unicodedata.normalize("NFKC", shown.casefold())


def transform(row: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Fold both texts anew."""
    return {"name_key": _folded(row["name"]), "email_key": _folded(row["email"])}
