"""The signature of a dead letter: an HMAC over its key, its value and every header, in their order.

It stands for the token that a dead letter may not carry, so whoever can make one can speak for any caller: the key
belongs to the workers, and a second one to the operator, for letters that were edited.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Protocol

PREFIX: Final = "dlq."
"""What the names of all our headers on a dead letter begin with."""
SIGNATURE: Final = "dlq.signature"

_PURPOSE: Final = b"catalog-workers: dead letter, 1\n"
"""Keeps a signature from meaning anything elsewhere, should the key be used for something else as well."""

Header = tuple[str, bytes | None]


class Signable(Protocol):
    """What is signed of a record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[Header]: ...


def sign(key: bytes, record_key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> bytes:
    """Compute the HMAC-SHA256, in hex. Each part goes in with its length: no two records share a signature."""
    mac = hmac.new(key, _PURPOSE, hashlib.sha256)
    _add(mac, record_key)
    _add(mac, value)
    for name, content in headers:
        _add(mac, name.encode("utf-8", "surrogateescape"))
        _add(mac, content)
    return mac.hexdigest().encode()


def signature_of(record: Signable) -> bytes | None:
    """Return the one signature that a record carries; None where there is none, or more than one."""
    given = [value for name, value in record.headers if name == SIGNATURE]
    return given[0] if len(given) == 1 else None


def is_signed(key: bytes, record: Signable) -> bool:
    """Tell whether the record is exactly what was signed with this key: no byte more, less or other."""
    given = signature_of(record)
    headers = [header for header in record.headers if header[0] != SIGNATURE]
    return given is not None and hmac.compare_digest(given, sign(key, record.key, record.value, headers))


def _add(mac: "hmac.HMAC", part: bytes | None) -> None:
    mac.update(b"-" if part is None else b"%d:" % len(part) + part)
