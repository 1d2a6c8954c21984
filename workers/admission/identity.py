"""Who asks: bearer tokens, verified once each and judged for every message.

A token's signature and claims do not change, so they are checked once and remembered. Whether it was valid depends on
the message: the time that counts is the broker's timestamp, so that nothing is refused for having waited in the log.
"""

import math
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import jwt
import orjson

from contracts.codec import MAX_HEADER_BYTES
from workers.admission.keys import Key, Keyring

MAX_TOKEN_BYTES: Final = MAX_HEADER_BYTES
"""The longest `authorization` header that is looked at: a token may fill what the other headers leave."""
DEFAULT_LEEWAY_S: Final = 30
"""How far the clocks of an identity provider and a broker may be apart."""

_MAX_REMEMBERED_BYTES: Final = 16 * 1024 * 1024
_MAX_REFUSALS: Final = 1_000
_MAX_REFUSAL_BYTES: Final = 1024 * 1024
_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999: later times are no times."""

_BEARER: Final = re.compile(rb"(?i:bearer) ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)")
_PRINTABLE: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token was verified. Times are milliseconds since the epoch, `not_before_ms` 0 where not set."""

    issuer: str
    """Empty where the token names none."""
    subject: str
    roles: frozenset[str]
    expires_at_ms: int
    not_before_ms: int
    caller: str = field(init=False)
    """"<iss>\\n<sub>": whose message ids these are. Neither part holds a line end."""

    def __post_init__(self) -> None:
        """Put the caller's name together once."""
        object.__setattr__(self, "caller", f"{self.issuer}\n{self.subject}")


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """Why nobody was identified: a fixed text, which never holds anything of the token."""

    reason: str


_NO_TOKEN: Final = Unauthenticated("no token")
_NOT_BEARER: Final = Unauthenticated("not a bearer token")
_TOO_LONG: Final = Unauthenticated(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
_MALFORMED: Final = Unauthenticated("the token cannot be read")
_UNKNOWN_KEY: Final = Unauthenticated("the token's key is not known")
_WRONG_ALGORITHM: Final = Unauthenticated("the token's algorithm is not that of its key")
_BAD_SIGNATURE: Final = Unauthenticated("the token's signature does not match")
_BAD_SUB: Final = Unauthenticated("claim 'sub' is not 1-255 printable ASCII characters")
_BAD_ISS: Final = Unauthenticated("claim 'iss' is not 1-255 printable ASCII characters")
_OTHER_ISS: Final = Unauthenticated("claim 'iss' names another issuer")
_OTHER_AUD: Final = Unauthenticated("claim 'aud' does not name this audience")
_BAD_EXP: Final = Unauthenticated("claim 'exp' is no time")
_BAD_NBF: Final = Unauthenticated("claim 'nbf' is no time")
_BAD_ROLES: Final = Unauthenticated("claim 'roles' is no list of texts")
_EXPIRED: Final = Unauthenticated("the token had expired when the message was sent")
_NOT_YET: Final = Unauthenticated("the token was not yet valid when the message was sent")

V = TypeVar("V")


class _RefusedError(Exception):
    """Ends the check of a token."""

    def __init__(self, because: Unauthenticated) -> None:
        self.because = because


class _Recent(Generic[V]):
    """What was found out about headers, the least recently asked forgotten first; bounded in number and bytes."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.entries: OrderedDict[bytes, V] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, header: bytes, found: V) -> None:
        self.entries[header] = found
        self._bytes += len(header)
        while len(self.entries) > self._max_entries or self._bytes > self._max_bytes:
            oldest, _ = self.entries.popitem(last=False)
            self._bytes -= len(oldest)

    def keep(self, entries: dict[bytes, V]) -> None:
        self.entries = OrderedDict(entries)
        self._bytes = sum(map(len, entries))


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature and claims are good, when a message may carry it, and the key that vouches for it."""

    identity: Identity
    from_ms: int
    until_ms: int
    kid: str | None
    key: Key


class Verifier:
    """Tells who sent a message.

    Remembers up to `max_tokens` verified tokens (and 16 MiB of them), so that each is verified once, and apart from
    them, lest garbage drive good ones out, the last 1,000 refused ones. What a withdrawn key vouched for is forgotten
    with it. `issuer` and `audience` are checked where they are set.
    """

    def __init__(
        self,
        keys: Keyring,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: int = DEFAULT_LEEWAY_S,
        max_tokens: int = 10_000,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway_ms = leeway_s * 1000
        self._verified: _Recent[_Verified] = _Recent(max_tokens, _MAX_REMEMBERED_BYTES)
        self._refused: _Recent[Unauthenticated] = _Recent(_MAX_REFUSALS, _MAX_REFUSAL_BYTES)
        self._signatures = jwt.PyJWS(algorithms=["HS256", "RS256", "ES256"])

    def verify(self, authorization: bytes, stamped_at_ms: int) -> Identity | Unauthenticated:
        """Tell who sent the message that the broker stamped at that time, or why that is not known.

        `authorization` is the header as it came, empty where there was none.
        """
        if self._keys.refresh():
            self._forget_withdrawn()
        verified = self._verified.entries.get(authorization)
        if verified is None:
            found = self._find_out(authorization)
            if isinstance(found, Unauthenticated):
                return found
            verified = found
        else:
            self._verified.entries.move_to_end(authorization)
        if stamped_at_ms >= verified.until_ms:
            return _EXPIRED
        if stamped_at_ms < verified.from_ms:
            return _NOT_YET
        return verified.identity

    def _forget_withdrawn(self) -> None:
        """Forget what changed keys vouched for, and all refusals: a new key may accept what no key did."""
        self._verified.keep(
            {
                header: verified
                for header, verified in self._verified.entries.items()
                if self._keys.find(verified.kid) == verified.key
            }
        )
        self._refused.keep({})

    def _find_out(self, authorization: bytes) -> _Verified | Unauthenticated:
        if not authorization:
            return _NO_TOKEN
        if len(authorization) > MAX_TOKEN_BYTES:
            return _TOO_LONG
        refused = self._refused.entries.get(authorization)
        if refused is not None:
            self._refused.entries.move_to_end(authorization)
            return refused
        try:
            verified = self._check(authorization)
        except _RefusedError as error:
            self._refused.add(authorization, error.because)
            return error.because
        self._verified.add(authorization, verified)
        return verified

    def _check(self, authorization: bytes) -> _Verified:
        """Check form, key, signature and claims of a token not seen before; raises `_RefusedError`."""
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise _RefusedError(_NOT_BEARER)
        try:
            header = self._signatures.get_unverified_header(bearer[1])
            kid = header.get("kid")
            key = self._keys.find(kid)
            if key is None:
                raise _RefusedError(_UNKNOWN_KEY)
            if header.get("alg") != key.algorithm:
                raise _RefusedError(_WRONG_ALGORITHM)
            decoded = self._signatures.decode_complete(bearer[1], key.material, algorithms=[key.algorithm])
            claims = orjson.loads(decoded["payload"])
        except jwt.InvalidSignatureError:
            raise _RefusedError(_BAD_SIGNATURE) from None
        except (jwt.PyJWTError, ValueError):
            raise _RefusedError(_MALFORMED) from None
        if not isinstance(claims, dict):
            raise _RefusedError(_MALFORMED)
        identity = self._read_claims(claims)
        from_ms = identity.not_before_ms - self._leeway_ms
        return _Verified(identity, from_ms, identity.expires_at_ms + self._leeway_ms, kid, key)

    def _read_claims(self, claims: dict[str, object]) -> Identity:
        subject = _printable(claims.get("sub"), _BAD_SUB)
        issuer = _printable(claims["iss"], _BAD_ISS) if "iss" in claims else ""
        if self._issuer is not None and issuer != self._issuer:
            raise _RefusedError(_OTHER_ISS)
        if self._audience is not None and not _names(claims.get("aud"), self._audience):
            raise _RefusedError(_OTHER_AUD)
        roles = claims.get("roles", [])
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise _RefusedError(_BAD_ROLES)
        expires_at_ms = _epoch_ms(claims.get("exp"), _BAD_EXP)
        return Identity(issuer, subject, frozenset(roles), expires_at_ms, _epoch_ms(claims.get("nbf", 0), _BAD_NBF))


def _printable(claim: object, otherwise: Unauthenticated) -> str:
    """Return a claim of 1-255 printable ASCII characters."""
    if not isinstance(claim, str) or not _PRINTABLE.fullmatch(claim):
        raise _RefusedError(otherwise)
    return claim


def _names(claim: object, audience: str) -> bool:
    """Tell whether the claim `aud`, a text or a list of texts, names the audience."""
    return claim == audience or (isinstance(claim, list) and audience in claim)


def _epoch_ms(claim: object, otherwise: Unauthenticated) -> int:
    """Turn a NumericDate (seconds since the epoch, with a fraction or not) into milliseconds."""
    if isinstance(claim, bool) or not isinstance(claim, (int, float)) or not 0 <= claim <= _LAST_SECOND:
        raise _RefusedError(otherwise)
    return math.floor(claim * 1000)
