"""The keys that tokens are verified with: a secret, public keys, a JWKS file that is read again when it changes.

A key's algorithm is fixed where the key is read, never by the token: no token can have a public key taken for a secret.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from workers.operator_error import OperatorError

Algorithm = Literal["HS256", "RS256", "ES256"]

MIN_SECRET_BYTES: Final = 32
"""A secret shorter than the hash is easier to guess than the hash (RFC 7518, section 3.2)."""
MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""

_CHECK_EVERY_S: Final = 1.0
_MAX_FILE_BYTES: Final = 1024 * 1024
_CURVE: Final = SECP256R1.name
_JWK_ALGORITHMS: Final[Mapping[object, Algorithm]] = {"RSA": "RS256", "EC": "ES256"}


class KeySourceError(OperatorError, ValueError):
    """The keys cannot be used as they are given. The text says which and why, and never holds a key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA or P-256 public key in PEM, and the `kid` by which tokens name it (None: the default key)."""

    pem: bytes
    kid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where keys come from. Sources may be combined; each `kid` occurs once, and one key at most has none."""

    secret: bytes | None = field(default=None, repr=False)
    """Of HS256, at least 32 bytes."""
    secret_kid: str | None = None
    public_keys: Sequence[PublicKey] = ()
    jwks_file: Path | None = None
    """A JWK Set (RFC 7517) of public keys; RS256 and ES256 keys are used, others left alone."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key, bound to its algorithm; two are equal when both are."""

    algorithm: Algorithm
    identity: bytes = field(repr=False)
    """The secret, or the public key in DER."""
    material: bytes | RSAPublicKey | EllipticCurvePublicKey = field(repr=False, compare=False)


class Keyring:
    """Finds the key that a token names.

    Raises `KeySourceError` where a source cannot be read at the start. Later, a JWKS file that cannot be read (absent,
    broken, half written) leaves the keys as they were, and `on_unreadable` hears of it once, until it was read again.
    `clock` is monotonic, in seconds.
    """

    def __init__(self, source: KeySource, clock: Callable[[], float], on_unreadable: Callable[[str], None]) -> None:
        self._fixed = _fixed_keys(source)
        self._file = source.jwks_file
        self._clock = clock
        self._on_unreadable = on_unreadable
        self._warned = False
        self._next_check = 0.0
        self._seen: tuple[int, ...] = ()
        self._keys = self._fixed
        if self._file is not None:
            self._keys, self._seen = self._with_file(self._file)
            self._next_check = clock() + _CHECK_EVERY_S
        if not self._keys:
            raise KeySourceError("there is no key to verify tokens with")

    def find(self, kid: str | None) -> Key | None:
        """Return the key of that `kid`; without one the key that has none, or else the only key."""
        key = self._keys.get(kid)
        if key is None and kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return key

    def refresh(self) -> bool:
        """Read a changed JWKS file again, looking at most once a second; tell whether the keys changed."""
        if self._file is None or (now := self._clock()) < self._next_check:
            return False
        self._next_check = now + _CHECK_EVERY_S
        try:
            if not self._warned and _state(self._file.stat()) == self._seen:
                return False
            keys, seen = self._with_file(self._file)
        except (OSError, KeySourceError) as error:
            if not self._warned:
                self._warned = True
                reason = error.strerror if isinstance(error, OSError) else str(error)
                self._on_unreadable(f"the JWKS file cannot be used, the keys read before stay: {reason}")
            return False
        self._warned = False
        self._seen = seen
        changed = keys != self._keys
        self._keys = keys
        return changed

    def _with_file(self, path: Path) -> tuple[dict[str | None, Key], tuple[int, ...]]:
        try:
            with path.open("rb") as file:
                seen = _state(os.fstat(file.fileno()))
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise KeySourceError(f"the JWKS file cannot be read: {error.strerror}") from None
        if len(content) > _MAX_FILE_BYTES:
            raise KeySourceError("the JWKS file is larger than 1 MiB")
        keys = dict(self._fixed)
        for kid, key in _jwks(content):
            _add(keys, kid, key)
        return keys, seen


def mint(  # noqa: PLR0913 - a claim each
    secret: bytes,
    sub: str,
    roles: Iterable[str],
    lifetime: timedelta,
    *,
    issued_at: datetime,
    kid: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """Make an HS256 token for development and tests; in production an identity provider does."""
    claims: dict[str, object] = {
        "sub": sub,
        "roles": list(roles),
        "iat": int(issued_at.timestamp()),
        "exp": int((issued_at + lifetime).timestamp()),
    }
    claims |= {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": kid} if kid is not None else None)


def _state(stat: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _fixed_keys(source: KeySource) -> dict[str | None, Key]:
    keys: dict[str | None, Key] = {}
    if source.secret is not None:
        if len(source.secret) < MIN_SECRET_BYTES:
            raise KeySourceError(f"the secret of HS256 must be at least {MIN_SECRET_BYTES} bytes long")
        try:
            jwt.PyJWS().get_algorithm_by_name("HS256").prepare_key(source.secret)
        except jwt.InvalidKeyError:
            raise KeySourceError("the secret of HS256 is a public key, a certificate or a JWK") from None
        _add(keys, source.secret_kid, Key("HS256", source.secret, source.secret))
    for public in source.public_keys:
        try:
            material = load_pem_public_key(public.pem)
        except ValueError:
            raise KeySourceError(f"{_named(public.kid)} is no public key in PEM") from None
        _add(keys, public.kid, _public(material, public.kid))
    return keys


def _add(keys: dict[str | None, Key], kid: str | None, key: Key) -> None:
    if kid == "":
        raise KeySourceError("a kid must not be empty")
    if kid in keys:
        raise KeySourceError(f"{_named(kid)} is given twice")
    keys[kid] = key


def _named(kid: str | None) -> str:
    return "the key without a kid" if kid is None else f"the key {kid!r}"


def _public(material: object, kid: str | None) -> Key:
    """Bind a public key to the one algorithm that it is good for."""
    if isinstance(material, RSAPublicKey):
        if material.key_size < MIN_RSA_BITS:
            raise KeySourceError(f"{_named(kid)} has fewer than {MIN_RSA_BITS} bits")
        algorithm: Algorithm = "RS256"
    elif isinstance(material, EllipticCurvePublicKey) and material.curve.name == _CURVE:
        algorithm = "ES256"
    else:
        raise KeySourceError(f"{_named(kid)} is neither an RSA nor a P-256 public key")
    return Key(algorithm, material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), material)


def _jwks(content: bytes) -> Iterable[tuple[str | None, Key]]:
    """Read a JWK Set. An empty one withdraws its keys; one without any key of use is a mistake."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise KeySourceError("the JWKS file is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KeySourceError("the JWKS file holds no list 'keys' of objects")
    usable = [entry for entry in entries if _is_usable(entry)]
    if entries and not usable:
        raise KeySourceError("the JWKS file holds no key for RS256 or ES256")
    return [_jwk(entry) for entry in usable]


def _is_usable(entry: Mapping[str, object]) -> bool:
    algorithm = _JWK_ALGORITHMS.get(entry.get("kty"))
    return (
        algorithm is not None
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and (algorithm == "RS256" or entry.get("crv") == "P-256")
    )


def _jwk(entry: Mapping[str, object]) -> tuple[str | None, Key]:
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeySourceError("a kid of the JWKS file is no text")
    if "d" in entry:
        raise KeySourceError(f"{_named(kid)} of the JWKS file is a private key")
    try:
        material = jwt.PyJWK(dict(entry), _JWK_ALGORITHMS[entry["kty"]]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise KeySourceError(f"{_named(kid)} of the JWKS file cannot be read") from None
    return kid, _public(material, kid)
