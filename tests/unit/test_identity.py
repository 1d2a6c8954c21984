"""Tokens: which keys vouch for whom, that the broker's time decides, and that verifying once is enough."""

import base64
import hmac
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from workers.admission.identity import Identity, Unauthenticated, Verifier
from workers.admission.keys import Keyring, KeySource, KeySourceError, PublicKey, mint

SECRET = b"s" * 32
OTHER_SECRET = b"o" * 32
SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENT_AT_MS = int(SENT_AT.timestamp() * 1000)
RSA_KEY = rsa.generate_private_key(65537, 2048)
SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short, which is its purpose
EC_KEY = ec.generate_private_key(ec.SECP256R1())

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def no_warning(reason: str) -> None:
    """Fail: no JWKS file of this test is broken."""
    pytest.fail(reason)


def verifier(source: KeySource | None = None, **options: object) -> Verifier:
    """Build a verifier; by default one that knows SECRET as its default key."""
    keys = Keyring(source or KeySource(secret=SECRET), Clock(), no_warning)
    return Verifier(keys, **options)  # type: ignore[arg-type]  # each test passes what it is about


def pem(key: PrivateKey) -> bytes:
    """Return the public half in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: PrivateKey, kid: str | None, **more: object) -> dict[str, object]:
    """Return the public half as a JWK."""
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    entry: dict[str, object] = json.loads(algorithm.to_jwk(key.public_key()))
    return entry | ({"kid": kid} if kid is not None else {}) | more


def jwks(*entries: dict[str, object]) -> bytes:
    """Return a JWK Set."""
    return json.dumps({"keys": entries}).encode()


def bearer(
    claims: dict[str, object], key: bytes | PrivateKey = SECRET, algorithm: str = "HS256", kid: str | None = None
) -> bytes:
    """Sign claims, valid for an hour from SENT_AT unless they say otherwise, and make the header of them."""
    complete = {"sub": "alice", "exp": SENT_AT.timestamp() + 3600} | claims
    token = jwt.encode(
        {name: value for name, value in complete.items() if value is not ...},
        key,
        algorithm=algorithm,
        headers={"kid": kid} if kid is not None else None,
    )
    return b"Bearer " + token.encode()


def identify(who: Verifier, header: bytes, at_ms: int = SENT_AT_MS) -> Identity:
    """Verify a header that must be good."""
    found = who.verify(header, at_ms)
    assert isinstance(found, Identity), found
    return found


def refusal(who: Verifier, header: bytes, at_ms: int = SENT_AT_MS) -> str:
    """Verify a header that must be refused; return the reason."""
    found = who.verify(header, at_ms)
    assert isinstance(found, Unauthenticated), found
    return found.reason


def raw_token(header: dict[str, object], claims: object, signature: bytes = b"x" * 32) -> bytes:
    """Put a token together that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return b"Bearer " + b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def test_a_minted_token_names_its_caller() -> None:
    """What development mints is accepted, with subject, roles and the caller's full name."""
    token = mint(SECRET, "alice", ["catalog_reader"], timedelta(hours=1), issued_at=SENT_AT, issuer="https://id")
    identity = identify(verifier(), b"Bearer " + token.encode())
    assert (identity.issuer, identity.subject, identity.caller) == ("https://id", "alice", "https://id\nalice")
    assert identity.roles == {"catalog_reader"}
    assert (identity.expires_at_ms, identity.not_before_ms) == (SENT_AT_MS + 3_600_000, 0)


def test_mint_names_key_and_audience() -> None:
    """A minted token may name its key and its audience."""
    token = mint(SECRET, "a", [], timedelta(hours=1), issued_at=SENT_AT, kid="dev", audience="catalog")
    who = verifier(KeySource(secret=SECRET, secret_kid="dev"), audience="catalog")
    assert identify(who, b"bearer " + token.encode()).caller == "\na"


@pytest.mark.parametrize(("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256")])
def test_public_keys(key: PrivateKey, algorithm: str) -> None:
    """RS256 and ES256 are told by the public key itself; with and without a kid."""
    identify(verifier(KeySource(public_keys=(PublicKey(pem(key)),))), bearer({}, key, algorithm))
    named = verifier(KeySource(public_keys=(PublicKey(pem(key), "k1"),)))
    identify(named, bearer({}, key, algorithm, "k1"))
    assert refusal(named, bearer({}, key, algorithm, "k2")) == "the token's key is not known"


def test_the_default_key() -> None:
    """A token without kid is the default key's: the one without a kid, or the only one; never one of several."""
    header = bearer({})
    identify(verifier(KeySource(secret=SECRET, public_keys=(PublicKey(pem(EC_KEY), "k"),))), header)
    identify(verifier(KeySource(secret=SECRET, secret_kid="s")), header)
    several = KeySource(secret=SECRET, secret_kid="s", public_keys=(PublicKey(pem(EC_KEY), "k"),))
    assert refusal(verifier(several), header) == "the token's key is not known"
    assert refusal(verifier(), bearer({}, kid="s")) == "the token's key is not known"


def test_no_token_chooses_its_algorithm() -> None:
    """A public key taken for a secret, another hash, and no signature at all are refused."""
    who = verifier(KeySource(public_keys=(PublicKey(pem(RSA_KEY)),)))
    claims = {"sub": "mallory", "exp": SENT_AT.timestamp() + 60}
    forged = raw_token({"alg": "HS256", "typ": "JWT"}, claims, b"")
    signed_part = forged.removeprefix(b"Bearer ").rsplit(b".", 1)[0]
    signature = base64.urlsafe_b64encode(hmac.digest(pem(RSA_KEY), signed_part, "sha256")).rstrip(b"=")
    assert refusal(who, b"Bearer " + signed_part + b"." + signature) == "the token's algorithm is not that of its key"
    for algorithm in ("none", "None", "HS512", "RS512", "", None):
        assert refusal(who, raw_token({"alg": algorithm}, claims)) == "the token's algorithm is not that of its key"
    assert refusal(who, raw_token({}, claims)) == "the token's algorithm is not that of its key"
    assert refusal(verifier(), bearer({}, SECRET * 2, "HS512")) == "the token's algorithm is not that of its key"
    assert refusal(verifier(), bearer({}, OTHER_SECRET)) == "the token's signature does not match"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "no token"),
        (b"Bearer", "not a bearer token"),
        (b"Bearer ", "not a bearer token"),
        (b"Basic YWxpY2U6c2VjcmV0", "not a bearer token"),
        (b"Bearer  a.b.c", "not a bearer token"),
        (b"Bearer a.b.c\n", "not a bearer token"),
        (b"Bearer a.b", "not a bearer token"),
        (b"Bearer a.b.c.d", "not a bearer token"),
        (b"Bearer a.b.", "not a bearer token"),
        (b"Bearer \xff.b.c", "not a bearer token"),
        (b"Bearer a.b.c", "the token cannot be read"),
        (b"Bearer " + b"a" * 17_000 + b".b.c", "the token is longer than 16384 bytes"),
        (raw_token({"alg": "HS256", "kid": 5}, {}), "the token cannot be read"),
        (raw_token({"alg": "HS256", "crit": ["b64"], "b64": False}, {}), "the token cannot be read"),
        (raw_token({"alg": "HS256", "crit": ["x"], "x": 1}, {}), "the token cannot be read"),
    ],
)
def test_what_is_no_token(header: bytes, reason: str) -> None:
    """Anything but "Bearer <JWT>" is refused for what it is."""
    assert refusal(verifier(), header) == reason


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"Bearer " + base64.urlsafe_b64encode(tail)))
def test_garbage_is_refused_and_never_raises(header: bytes) -> None:
    """Whatever a header holds, the answer is a reason."""
    assert refusal(verifier(), header)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_claim_value_is_read_or_refused(value: object) -> None:
    """A signed token with any value as a claim is accepted or refused, and raises nothing."""
    who = verifier(issuer="i", audience="a")
    for name in ("sub", "exp", "nbf", "iss", "aud", "roles"):
        claims: dict[str, object] = {"sub": "a", "exp": 1e10, "iss": "i", "aud": "a", name: value}
        signed = raw_token({"alg": "HS256"}, claims, b"").removeprefix(b"Bearer ").rstrip(b".")
        signature = base64.urlsafe_b64encode(hmac.digest(SECRET, signed, "sha256")).rstrip(b"=")
        who.verify(b"Bearer " + signed + b"." + signature, SENT_AT_MS)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"sub": ...}, "claim 'sub' is not 1-255 printable ASCII characters"),
        ({"sub": ""}, "claim 'sub' is not 1-255 printable ASCII characters"),
        ({"sub": "a" * 256}, "claim 'sub' is not 1-255 printable ASCII characters"),
        ({"sub": "a\nb"}, "claim 'sub' is not 1-255 printable ASCII characters"),
        ({"sub": "zoë"}, "claim 'sub' is not 1-255 printable ASCII characters"),
        ({"iss": "a\nb"}, "claim 'iss' is not 1-255 printable ASCII characters"),
        ({"iss": "x" * 256}, "claim 'iss' is not 1-255 printable ASCII characters"),
        ({"exp": ...}, "claim 'exp' is no time"),
        ({"exp": "1"}, "claim 'exp' is no time"),
        ({"exp": True}, "claim 'exp' is no time"),
        ({"exp": -1}, "claim 'exp' is no time"),
        ({"exp": 1e300}, "claim 'exp' is no time"),
        ({"nbf": "now"}, "claim 'nbf' is no time"),
        ({"roles": "catalog_admin"}, "claim 'roles' is no list of texts"),
        ({"roles": ["a", 1]}, "claim 'roles' is no list of texts"),
        ({"roles": None}, "claim 'roles' is no list of texts"),
    ],
)
def test_claims_that_are_wrong(claims: dict[str, object], reason: str) -> None:
    """`sub` and `exp` are required; every claim that is read has its form."""
    assert refusal(verifier(), bearer(claims)) == reason


def test_claims_at_their_limits() -> None:
    """255 characters, a fraction of a second, no roles: all of it is valid."""
    identity = identify(verifier(), bearer({"sub": "~" * 255, "exp": SENT_AT.timestamp() + 0.5, "aud": "anybody"}))
    assert identity.expires_at_ms == SENT_AT_MS + 500
    assert identity.roles == frozenset()


def test_issuer_and_audience_are_checked_where_set() -> None:
    """Another issuer or audience, or none, is refused only by who asks for one; `aud` may be a list."""
    identify(verifier(), bearer({"iss": "anybody", "aud": ["x"]}))
    who = verifier(issuer="https://id", audience="catalog")
    good: dict[str, object] = {"iss": "https://id", "aud": "catalog"}
    identify(who, bearer(good))
    identify(who, bearer(good | {"aud": ["other", "catalog"]}))
    for issuer in ("https://id/", ...):
        assert refusal(who, bearer(good | {"iss": issuer})) == "claim 'iss' names another issuer"
    for audience in ("Catalog", ["other"], [], ..., None):
        assert refusal(who, bearer(good | {"aud": audience})) == "claim 'aud' does not name this audience"


def test_the_brokers_time_decides() -> None:
    """One token is good for a message within its span and the leeway, whenever it is looked at, and for no other."""
    who = verifier(leeway_s=30)
    header = bearer({"exp": SENT_AT.timestamp() + 60, "nbf": SENT_AT.timestamp()})
    for offset_ms in (-30_000, 0, 89_999):
        identify(who, header, SENT_AT_MS + offset_ms)
    assert refusal(who, header, SENT_AT_MS + 90_000) == "the token had expired when the message was sent"
    assert refusal(who, header, SENT_AT_MS - 30_001) == "the token was not yet valid when the message was sent"
    identify(who, header, SENT_AT_MS)


def counted(who: Verifier, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note every token whose signature is checked."""
    checked: list[bytes] = []
    check = who._signatures.decode_complete

    def noting(token: bytes, *args: object, **options: object) -> dict[str, object]:
        checked.append(token)
        return check(token, *args, **options)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(who._signatures, "decode_complete", noting)
    return checked


def test_a_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature of a token is checked for its first message only, whether it holds or not."""
    who = verifier()
    checked = counted(who, monkeypatch)
    good, bad = bearer({}), bearer({}, OTHER_SECRET)
    for _ in range(3):
        identify(who, bytes(bytearray(good)))
        refusal(who, bytes(bytearray(bad)))
    assert len(checked) == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used token is forgotten first, and no amount of garbage drives a good one out."""
    who = verifier(max_tokens=2)
    first, second, third = (bearer({"sub": name}) for name in "abc")
    for header in (first, second, first, third):
        identify(who, header)
    checked = counted(who, monkeypatch)
    for number in range(1500):
        refusal(who, b"Bearer %d.b.c" % number)
    identify(who, first)
    identify(who, third)
    assert checked == []
    identify(who, second)
    assert len(checked) == 1
    assert len(who._refused.entries) == 1000


def test_memory_is_bounded_in_bytes() -> None:
    """Long tokens and long garbage are remembered up to a number of bytes, not only up to a count."""
    who = verifier(max_tokens=1_000_000)
    for number in range(200):
        refusal(who, b"Bearer " + b"a" * 8000 + b"%d.b.c" % number)
    assert sum(map(len, who._refused.entries)) == who._refused._bytes <= 1024 * 1024
    assert len(who._refused.entries) > 100


def test_nothing_tells_a_secret() -> None:
    """Neither reasons nor the representation of keys hold a token or a secret."""
    header = bearer({}, OTHER_SECRET)
    who = verifier()
    assert header.decode().split(".")[1] not in refusal(who, header)
    source = KeySource(secret=SECRET)
    key = Keyring(source, Clock(), no_warning).find(None)
    assert SECRET.decode() not in f"{source!r}{key!r}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (KeySource(), "there is no key to verify tokens with"),
        (KeySource(secret=b"s" * 31), "the secret of HS256 must be at least 32 bytes long"),
        (KeySource(secret=pem(EC_KEY)), "the secret of HS256 is a public key, a certificate or a JWK"),
        (KeySource(public_keys=(PublicKey(b"-----BEGIN"),)), "the key without a kid is no public key in PEM"),
        (
            KeySource(
                public_keys=(
                    PublicKey(EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private"),
                )
            ),
            "the key 'private' is no public key in PEM",
        ),
        (
            KeySource(public_keys=(PublicKey(pem(SHORT_KEY), "short"),)),
            "the key 'short' has fewer than 2048 bits",
        ),
        (
            KeySource(public_keys=(PublicKey(pem(ec.generate_private_key(ec.SECP384R1())), "p384"),)),
            "the key 'p384' is neither an RSA nor a P-256 public key",
        ),
        (
            KeySource(secret=SECRET, public_keys=(PublicKey(pem(EC_KEY)),)),
            "the key without a kid is given twice",
        ),
        (KeySource(secret=SECRET, secret_kid=""), "a kid must not be empty"),
        (KeySource(jwks_file=Path("absent.json")), "the JWKS file cannot be read: No such file or directory"),
    ],
)
def test_keys_that_cannot_be_used(source: KeySource, reason: str) -> None:
    """Weak, unsuitable, ambiguous or missing keys stop the start with a sentence that says which and why."""
    with pytest.raises(KeySourceError) as refused:
        Keyring(source, Clock(), no_warning)
    assert str(refused.value) == reason


class JwksFile:
    """A JWKS file, and a verifier that watches it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.warnings: list[str] = []
        self._written = 0

    def write(self, content: bytes | None) -> None:
        """Replace the file (None: remove it); one second passes on the watcher's clock."""
        self.clock.now += 1
        if content is None:
            self.path.unlink(missing_ok=True)
            return
        self.path.write_bytes(content)
        self._written += 1
        os.utime(self.path, ns=(self._written, self._written))

    def verifier(self, **source: object) -> Verifier:
        """Start watching."""
        options = {"jwks_file": self.path} | source
        return Verifier(Keyring(KeySource(**options), self.clock, self.warnings.append))  # type: ignore[arg-type]


@pytest.fixture(name="file")
def jwks_file(tmp_path: Path) -> JwksFile:
    """A JWKS file that is written to by the test."""
    return JwksFile(tmp_path / "jwks.json")


def test_a_jwks_file_holds_the_keys_of_use(file: JwksFile) -> None:
    """RS256 and ES256 keys are taken, keys for other purposes and algorithms left alone; a fixed key stands beside."""
    p384 = ec.generate_private_key(ec.SECP384R1())
    file.write(
        jwks(
            jwk(RSA_KEY, "r", use="sig"),
            jwk(EC_KEY, "e", alg="ES256"),
            jwk(RSA_KEY, "encrypts", use="enc"),
            jwk(RSA_KEY, "pss", alg="PS256"),
            json.loads(jwt.get_algorithm_by_name("ES384").to_jwk(p384.public_key())) | {"kid": "p384"},
            {"kty": "oct", "k": base64.urlsafe_b64encode(OTHER_SECRET).decode(), "kid": "oct"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed"},
        )
    )
    who = file.verifier(secret=SECRET)
    identify(who, bearer({}, RSA_KEY, "RS256", "r"))
    identify(who, bearer({}, EC_KEY, "ES256", "e"))
    identify(who, bearer({}))
    for header in (
        bearer({}, RSA_KEY, "RS256", "encrypts"),
        bearer({}, RSA_KEY, "RS256", "pss"),
        bearer({}, OTHER_SECRET, "HS256", "oct"),
        raw_token({"alg": "EdDSA", "kid": "ed"}, {}, Ed25519PrivateKey.generate().sign(b"")),
    ):
        assert refusal(who, header) == "the token's key is not known"


def test_a_withdrawn_key_is_forgotten(file: JwksFile) -> None:
    """A token verified before is refused once its key is out of the file; a new key is known at once."""
    old, new = bearer({}, RSA_KEY, "RS256", "old"), bearer({}, EC_KEY, "ES256", "new")
    file.write(jwks(jwk(RSA_KEY, "old"), jwk(EC_KEY, "stays")))
    who = file.verifier()
    stays = bearer({}, EC_KEY, "ES256", "stays")
    identify(who, old)
    identify(who, stays)
    assert refusal(who, new) == "the token's key is not known"
    file.write(jwks(jwk(EC_KEY, "new"), jwk(EC_KEY, "stays")))
    assert refusal(who, old) == "the token's key is not known"
    identify(who, new)
    identify(who, stays)
    file.write(jwks())
    assert refusal(who, new) == "the token's key is not known"
    assert file.warnings == []


def test_another_key_of_the_same_name_is_another_key(file: JwksFile) -> None:
    """What the old key of a kid vouched for is not taken from the new one; nor is the default passed on in silence."""
    header, unnamed = bearer({}, EC_KEY, "ES256", "k"), bearer({}, EC_KEY, "ES256")
    file.write(jwks(jwk(EC_KEY, "k")))
    who = file.verifier()
    identify(who, header)
    identify(who, unnamed)
    file.write(jwks(jwk(ec.generate_private_key(ec.SECP256R1()), "k"), jwk(EC_KEY, "k2")))
    assert refusal(who, header) == "the token's signature does not match"
    assert refusal(who, unnamed) == "the token's key is not known"


def test_the_file_is_looked_at_once_a_second(file: JwksFile) -> None:
    """Within a second of the last look a change is not seen; after it, it is. What is the same changes nothing."""
    header = bearer({}, EC_KEY, "ES256", "k")
    file.write(jwks(jwk(EC_KEY, "k")))
    who = file.verifier()
    identify(who, header)
    file.write(jwks())
    file.clock.now -= 0.01
    identify(who, header)
    file.clock.now += 0.01
    assert refusal(who, header)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "No such file or directory"),
        (b'{"keys": [', "the JWKS file is not JSON"),
        (b"[]", "the JWKS file holds no list 'keys' of objects"),
        (b'{"keys": [1]}', "holds no list 'keys' of objects"),
        (b'{"keys": [{"kty": "oct"}]}', "the JWKS file holds no key for RS256 or ES256"),
        (jwks(jwk(EC_KEY, "k"), jwk(RSA_KEY, "k")), "the key 'k' is given twice"),
        (jwks(jwk(EC_KEY, "k", d="AA")), "the key 'k' of the JWKS file is a private key"),
        (jwks(jwk(EC_KEY, "k", x="AA")), "the key 'k' of the JWKS file cannot be read"),
        (jwks(jwk(EC_KEY, None) | {"kid": 1}), "a kid of the JWKS file is no text"),
        (b" " * (1024 * 1024 + 1), "the JWKS file is larger than 1 MiB"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_broken_file_leaves_the_keys(file: JwksFile, broken: bytes | None, reason: str) -> None:
    """An absent or broken file warns once, however often it is looked at, and is read again when it is whole."""
    header, whole = bearer({}, EC_KEY, "ES256", "k"), jwks(jwk(EC_KEY, "k"))
    file.write(whole)
    who = file.verifier()
    for times in (1, 2):
        for _ in range(3):
            file.write(broken)
            identify(who, header)
        assert len(file.warnings) == times
        assert file.warnings[-1].startswith("the JWKS file cannot be used, the keys read before stay: ")
        assert file.warnings[-1].endswith(reason)
        file.write(whole)
        identify(who, header)
    file.write(broken)
    with pytest.raises(KeySourceError, match=reason):
        file.verifier()
