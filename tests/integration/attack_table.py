"""What attackers try, and what each attempt must be answered: the table that `test_attacks` goes through.

An attempt is a good request but for what is wrong with it. Of each class there are at least three, no two alike.
"""

import base64
import hmac
import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.messages import plain
from contracts.registry import KINDS
from handlers.product import Rule
from handlers.rules import compile_rules
from tests.system import ADMIN, SECRET, System

Envelope = dict[str, Any]
Header = tuple[str, bytes | None]

KIB: Final = 1024
ISSUER: Final = "https://id.example"
AUDIENCE: Final = "catalog"
VICTIM: Final = "0190a0b0-0000-7000-8000-000000000001"
OTHER: Final = "0190a0b0-0000-7000-8000-000000000002"
NOBODY: Final = "0190a0b0-0000-7000-8000-00000000dead"
RSA_KEY: Final = rsa.generate_private_key(65537, 2048)
EVIL_KEY: Final = rsa.generate_private_key(65537, 2048)
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())
OPERATOR_KEY: Final = "operators-" + SECRET
SIGNING_KEY: Final = "dead-letters-" + SECRET


class _Within:
    """Equal to any number of a range: for what depends on the moment."""

    def __init__(self, low: int, high: int) -> None:
        self._range = range(low, high + 1)

    def __eq__(self, other: object) -> bool:
        return other in self._range

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._range)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attempt: a good request but for what is given here."""

    of: str
    """Its class."""
    name: str
    answer: Envelope | None = None
    """The whole envelope that it gets; None: no reply."""
    letter: str | None = None
    """The reason of its dead letter; None: none."""
    side: str = "commands"
    body: bytes = b""
    """Empty: a good creation of a customer, or on the other topic a good query."""
    headers: Mapping[str, bytes | None] = field(default_factory=dict)
    """Instead of the good ones."""
    drop: tuple[str, ...] = ()
    extra: Sequence[Header] = ()
    has_no_key: bool = False
    """Neither id can be read: the reply has no key."""
    is_stored: bool = False
    """Its use case ran, to a bad end: an outcome of the attacker's own is stored, and nothing else."""
    raw_keys: bool = False
    """A header key is not UTF-8: it takes a record batch of our own making."""
    record_key: bytes = b""
    detail: str | None = None
    """What its dead letter says; given for those that come back, whose headers may not be added to."""

    @property
    def title(self) -> str:
        return f"{self.of}: {self.name}"


class NotUtf8(str):
    """A header key made of any bytes."""

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> "NotUtf8":
        """Make one."""
        made = cls("x")
        made.raw = raw
        return made

    def encode(self, *_: object) -> bytes:
        """Give the bytes."""
        return self.raw


# What answers look like ----------------------------------------------------------------------------------------------


def refused(status: int, code: str, message: str, **details: object) -> Envelope:
    """Make the envelope of an error."""
    data = {"error_code": code, "details": details}
    return {"statusCode": status, "message": message, "type": "error", "data": data}


def malformed(reason: str, **details: object) -> Envelope:
    """400: the body is none of ours."""
    message = f"The message is malformed: {reason}"
    return refused(400, "MALFORMED_MESSAGE", message, reason=reason, **details)


def bad_header(name: str, reason: str) -> Envelope:
    """400: a header is not as the contract says."""
    return refused(400, "MALFORMED_MESSAGE", f"Header '{name}' is {reason}", header=name, reason=reason)


def unauthenticated(reason: str) -> Envelope:
    """401."""
    return refused(401, "UNAUTHENTICATED", f"Not authenticated: {reason}")


def forbidden(kind: str, action: str, resource: str, role: str) -> Envelope:
    """403."""
    message = f"Insufficient permissions to {action} {resource}"
    return refused(403, "FORBIDDEN", message, required_role=role, kind=kind)


def invalid(field_: str, message: str, type_: str) -> Envelope:
    """422: one field is wrong."""
    errors = [{"field": field_, "message": message, "type": type_}]
    return refused(422, "VALIDATION_FAILED", f"{field_} validation failed: {message}", validation_errors=errors)


NOT_ALLOWED: Final = ("Extra inputs are not permitted", "extra_forbidden")
WRONG_ALGORITHM: Final = "the token's algorithm is not that of its key"
UNKNOWN_KEY: Final = "the token's key is not known"
BAD_SIGNATURE: Final = "the token's signature does not match"
UNREADABLE_TOKEN: Final = "the token cannot be read"
TOO_MANY: Final = refused(
    429, "RATE_LIMITED", "Too many requests", retry_after_ms=_Within(1, 60_000), limit=2, window_s=60
)
HEADERS_TOO_LARGE: Final = refused(
    413,
    "MESSAGE_TOO_LARGE",
    "The headers are too large",
    header_bytes=_Within(16 * KIB + 1, 64 * KIB),
    limit_bytes=16 * KIB,
)
NO_CUSTOMERS: Final = {
    "statusCode": 200,
    "message": "Found 0 Customer(s)",
    "type": "success",
    "data": {"items": [], "total_count": 0, "page": 1, "page_size": 50, "has_more": False, "next_cursor": None},
}


SLOW_RULE: Final = {"properties": {"n": {"items": {"not": {"anyOf": [{"const": -n} for n in range(1, 400)]}}}}}
TOO_MANY_EVALUATIONS: Final = next(
    one.problem for one in compile_rules([Rule("slow", SLOW_RULE, date(2020, 1, 1), None)]) if one is not None
)
SLOW_VERDICT: Final = {
    "statusCode": 200,
    "message": "Product retrieved successfully",
    "type": "success",
    "data": {
        "mnemonic": "GUARDED",
        "on_date": "2024-01-01",
        "is_valid": False,
        "rules": [{"name": "slow", "holds": False, "violations": [], "problem": TOO_MANY_EVALUATIONS}],
    },
}


# What requests look like ---------------------------------------------------------------------------------------------


def request(kind: object, payload: object, **beside: object) -> bytes:
    """Write a body."""
    return json.dumps({"kind": kind, "payload": payload} | beside).encode()


def creation(**payload: object) -> bytes:
    """Write the creation of a customer."""
    return request("create_customer", {"name": "Mallory", "email": f"{uuid.uuid4().hex}@example.com"} | payload)


def with_payload(text: str) -> bytes:
    """Write a creation whose payload is given as JSON text."""
    return b'{"kind": "create_customer", "payload": ' + text.encode() + b"}"


def rules(parameters: object) -> bytes:
    """Write a command that sets one rule."""
    rule = {"name": "r", "parameters": parameters, "start_date": "2024-01-01"}
    return request("set_validation_rules", {"mnemonic": "PLAIN", "rules": [rule]})


def token(sub: object = "tester", roles: object = ADMIN, **claims: object) -> bytes:
    """Make the authorization header of a caller of our issuer; a claim given as ... is left out."""
    now = int(time.time())
    complete: dict[str, object] = {"sub": sub, "roles": roles, "exp": now + 3600, "iss": ISSUER, "aud": AUDIENCE}
    return handmade({"alg": "HS256"}, {name: value for name, value in (complete | claims).items() if value is not ...})


def bearer(claims: object, key: object = SECRET, algorithm: str = "HS256", **header: object) -> bytes:
    """Sign claims."""
    return b"Bearer " + jwt.encode(claims, key, algorithm, headers=header).encode()  # type: ignore[arg-type]


def handmade(header: object, claims: object, key: bytes = SECRET.encode(), signature: bytes | None = None) -> bytes:
    """Put a token together that no library would make; signed by HMAC-SHA256 unless the signature is given."""
    head, body = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, body))
    mac = hmac.digest(key, signed, "sha256") if signature is None else signature
    return b"Bearer " + signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")


def authorised(header: bytes) -> dict[str, bytes | None]:
    """Replace the token."""
    return {"authorization": header}


# The table -----------------------------------------------------------------------------------------------------------


def on_tokens() -> Iterator[Attack]:
    """Tokens that somebody else, or nobody, signed."""
    claims = {"sub": "tester", "roles": list(ADMIN), "exp": int(time.time()) + 3600}
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(EVIL_KEY.public_key()))
    good = bearer(claims)
    head, _, signature = good.split(b".")
    forged_claims = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "victim"}).encode()).rstrip(b"=")
    by_algorithm = {
        "no algorithm": handmade({"alg": "none"}, claims, signature=b"x"),
        "an algorithm in capitals": handmade({"alg": "NONE"}, claims, signature=b"x"),
        "a public key as a secret": handmade({"alg": "HS256", "kid": "rsa"}, claims, key=public),
        "a longer hash": bearer(claims, SECRET * 2, "HS512"),
        "RSA under the name of an elliptic key": bearer(claims, RSA_KEY, "RS256", kid="ec"),
        "a list of algorithms": handmade({"alg": ["HS256"]}, claims),
    }
    by_key = {
        "a key that nobody knows": bearer(claims, kid="other"),
        "a path as the name of a key": handmade({"alg": "HS256", "kid": "../../../dev/null"}, claims, key=b"\0"),
        "SQL as the name of a key": bearer(claims, kid="' or '1'='1"),
        "an empty name of a key": bearer(claims, kid=""),
    }
    by_signature = {
        "another secret": bearer(claims, "x" * 32),
        "other claims under a good signature": b".".join((head, forged_claims, signature)),
        "half a signature": handmade({"alg": "HS256"}, claims, signature=b"\0" * 16),
        "a key in the token itself": bearer(claims, EVIL_KEY, "RS256", kid="rsa", jwk=jwk),
        "a key at an address": bearer(claims, EVIL_KEY, "RS256", kid="rsa", jku="https://evil.example/jwks.json"),
        "a signature of zeros": handmade({"alg": "ES256", "kid": "ec"}, claims, signature=b"\0" * 64),
    }
    for class_, tokens, reason in (
        ("a token's algorithm", by_algorithm, WRONG_ALGORITHM),
        ("a token's key", by_key, UNKNOWN_KEY),
        ("a token's signature", by_signature, BAD_SIGNATURE),
    ):
        for name, header in tokens.items():
            yield Attack(of=class_, name=name, headers=authorised(header), answer=unauthenticated(reason))


def on_claims() -> Iterator[Attack]:
    """Tokens signed by our key that say too little, too much, or the wrong thing."""
    now = int(time.time())
    bad_sub = "claim 'sub' is not 1-255 printable ASCII characters"
    bad_roles = "claim 'roles' is no list of texts"
    expired = "the token had expired when the message was sent"
    for class_, name, header, reason in (
        ("a token's claims", "no subject", token(sub=...), bad_sub),
        ("a token's claims", "another caller behind a line end", token(f"x\n{ISSUER}\nvictim"), bad_sub),
        ("a token's claims", "a subject too long", token("s" * 256), bad_sub),
        ("a token's claims", "a number as the subject", token(sub=5), bad_sub),
        ("a token's claims", "roles as one text", token(roles="catalog_admin"), bad_roles),
        ("a token's claims", "roles as an object", token(roles={"catalog_admin": True}), bad_roles),
        ("a token's time", "expired", token(exp=now - 120), expired),
        (
            "a token's time",
            "not yet valid",
            token(nbf=now + 120),
            "the token was not yet valid when the message was sent",
        ),
        ("a token's time", "no end", token(exp=...), "claim 'exp' is no time"),
        ("a token's time", "an end beyond all time", token(exp=1e300), "claim 'exp' is no time"),
        ("a token's time", "an end as a text", token(exp=str(now + 60)), "claim 'exp' is no time"),
        ("a token's form", "no token", ..., "no token"),
        ("a token's form", "user and password", b"Basic dGVzdGVyOnRlc3Rlcg==", "not a bearer token"),
        ("a token's form", "two tokens", token() + b", " + token(), "not a bearer token"),
        ("a token's form", "without its signature", token().rpartition(b".")[0] + b".", "not a bearer token"),
        ("a token's form", "9 KiB", token() + b"A" * 9 * KIB, "the token's signature does not match"),
        ("a token's form", "a deeply nested header", handmade(b"[" * 5_000, {}), UNREADABLE_TOKEN),
        ("a token's form", "deeply nested claims", handmade({"alg": "HS256"}, b'{"a":' * 1_000), UNREADABLE_TOKEN),
        (
            "a token's form",
            "an extension that must be known",
            handmade({"alg": "HS256", "crit": ["x"]}, {}),
            UNREADABLE_TOKEN,
        ),
    ):
        answer = unauthenticated(reason)
        if header is ...:
            yield Attack(of=class_, name=name, drop=("authorization",), answer=answer)
        else:
            yield Attack(of=class_, name=name, headers=authorised(header), answer=answer)


def on_issuers() -> Iterator[Attack]:
    """Tokens made for somebody else; where callers are bound to reply topics, nobody unknown is answered."""
    for name, claims in (
        ("another issuer", {"iss": "https://evil.example"}),
        ("an issuer that begins alike", {"iss": ISSUER + ".evil.example"}),
        ("no issuer", {"iss": ...}),
        ("another audience", {"aud": "billing"}),
        ("an audience among others", {"aud": ["billing", "catalog "]}),
        ("no audience", {"aud": ...}),
    ):
        header = authorised(token(**claims))
        yield Attack(of="a token's address", name=name, side="queries", headers=header, letter="UNAUTHENTICATED")


def on_roles() -> Iterator[Attack]:
    """Good tokens that do not allow this."""
    create = ("create_customer", "create", "Customer", "catalog_writer")
    product = ("create_product", "create", "Product", "catalog_admin")
    backfill = ("start_backfill", "start", "Backfill", "catalog_operator")
    phase = ("advance_phase", "advance", "Backfill", "catalog_operator")
    read = ("search_customers", "search", "Customer", "catalog_reader")
    new_product = request("create_product", {"mnemonic": "EVIL", "overview": ""}, version=2)
    rule = request("set_validation_rules", {"mnemonic": "PLAIN", "rules": []})
    for name, roles, body, missing in (
        ("a reader writes", ["catalog_reader"], creation(), create),
        ("a writer makes a product", ["catalog_writer"], new_product, product),
        (
            "a writer lifts rules",
            ["catalog_writer"],
            rule,
            ("set_validation_rules", "update", "Product", "catalog_admin"),
        ),
        (
            "a writer takes a product off sale",
            ["catalog_writer", "catalog_operator"],
            request("archive_product", {"mnemonic": "PLAIN"}),
            ("archive_product", "archive", "Product", "catalog_admin"),
        ),
        (
            "a writer puts a product on sale",
            ["catalog_writer", "catalog_operator"],
            request("restore_product", {"mnemonic": "PLAIN"}),
            ("restore_product", "restore", "Product", "catalog_admin"),
        ),
        ("an operator writes", ["catalog_operator"], creation(), create),
        ("an administrator backfills", ["catalog_admin"], request("start_backfill", {"name": "x"}), backfill),
        ("a writer advances a phase", ["catalog_writer"], request("advance_phase", {}), phase),
        ("nobody in particular writes", [], creation(), create),
        ("roles in other letters", ["CATALOG_ADMIN", "catalog_admin ", "catalog_*"], creation(), create),
        ("roles in one text", ["catalog_reader,catalog_admin"], creation(), create),
        ("the role that stands for anybody", ["anyone", "*", ""], creation(), create),
    ):
        yield Attack(
            of="roles", name=name, headers=authorised(token(roles=roles)), body=body, answer=forbidden(*missing)
        )
    yield Attack(
        of="roles", name="no role reads", side="queries", headers=authorised(token(roles=[])), answer=forbidden(*read)
    )


def on_outcomes() -> Iterator[Attack]:
    """What became of others' commands is nobody's business, and an id that was used stays what it was."""
    missing = refused(404, "OUTCOME_NOT_FOUND", "Outcome with message_id 'victims' not found", message_id="victims")
    ask = request("get_outcome", {"message_id": "victims"})
    for sub in ("tester", "Victim", "victim ", "victim2"):
        yield Attack(
            of="others' outcomes",
            name=f"'{sub}' asks",
            side="queries",
            headers=authorised(token(sub)),
            body=ask,
            answer=missing,
        )
    taken = refused(409, "CUSTOMER_ALREADY_EXISTS", "Customer with email '(hidden)' already exists", field="email")
    yield Attack(
        of="others' outcomes",
        name="the victim's id and content under another name",
        headers={"message_id": b"taken"},
        body=request("create_customer", {"name": "Victim", "email": "taken@example.com"}),
        answer=taken,
        is_stored=True,
    )
    reused = refused(
        409, "MESSAGE_ID_REUSED", "Message id 'victims' was used before, for other content", message_id="victims"
    )
    for name, body in (
        ("other content", creation()),
        ("another kind", request("delete_customer", {"customer_id": VICTIM})),
        ("another version", request("create_customer", {"name": "Victim", "email": "victim@example.com"}, version=2)),
        ("a kind that is none", request("no_such_kind", {})),
    ):
        yield Attack(
            of="used message ids",
            name=name,
            headers={"message_id": b"victims", **authorised(token("victim", exp=int(time.time()) + 600))},
            body=body,
            answer=reused,
        )


def on_reply_topics(system: System) -> Iterator[Attack]:
    """Replies that are to be put where they do no good."""
    for name, unfit in (
        ("a topic of somebody else", "payments"),
        ("the commands", f"{system.prefix}.commands"),
        ("the dead letters", f"{system.prefix}.commands.dead-letters"),
        ("no name", f"{system.prefix}.replies."),
        ("a path", f"{system.prefix}.replies.a/../../b"),
        ("a name too long", f"{system.prefix}.replies." + "n" * 181),
        ("a name beyond ASCII", f"{system.prefix}.replies.ä"),
        ("a line end", f"{system.prefix}.replies.test\n"),
        ("other letters", f"{system.prefix.upper()}.REPLIES.test"),
        ("broker internals", "__consumer_offsets"),
    ):
        yield Attack(of="reply_to", name=name, headers={"reply_to": unfit.encode()}, letter="REPLY_TO_UNUSABLE")
    yield Attack(of="reply_to", name="null", headers={"reply_to": None}, letter="REPLY_TO_UNUSABLE")
    again = [("reply_to", system.reply_to.encode())]
    yield Attack(of="reply_to", name="twice the same", extra=again, letter="REPLY_TO_UNUSABLE")
    yield Attack(
        of="reply_to", name="malformed, too", body=b"{", headers={"reply_to": b"x"}, letter="REPLY_TO_UNUSABLE"
    )
    victims = f"{system.prefix}.replies.victim".encode()
    for name, sub, topic in (
        ("the victim's", "tester", victims),
        ("the victim's, by somebody without any", "stranger", victims),
        ("one's own name, but another's topic", "victim ", victims),
        ("one that merely begins alike", "victim", victims + b"2"),
        ("the attacker's own, without being bound to it", "stranger", system.reply_to.encode()),
    ):
        yield Attack(
            of="others' reply topics",
            name=name,
            side="queries",
            headers={"reply_to": topic, **authorised(token(sub))},
            letter="REPLY_TO_UNUSABLE",
        )
    for number in range(3):
        topic = f"{system.prefix}.replies.absent-{number}".encode()
        yield Attack(
            of="absent reply topics",
            name=f"number {number}",
            side="queries",
            headers={"reply_to": topic},
            letter="REPLY_UNDELIVERABLE",
        )


def on_rates() -> Iterator[Attack]:
    """A caller whose window is full tries another door."""
    other = token("greedy", ["catalog_writer"], exp=int(time.time()) + 60)
    for name, more in (
        ("a command after queries", {"headers": authorised(token("greedy"))}),
        ("with another token", {"headers": authorised(other), "body": creation()}),
        (
            "with a payload that is refused",
            {"headers": authorised(token("greedy")), "body": request("create_customer", {})},
        ),
        ("a query", {"headers": authorised(token("greedy")), "side": "queries"}),
    ):
        yield Attack(of="rate", name=name, answer=TOO_MANY, **more)


def on_deadlines() -> Iterator[Attack]:
    """Deadlines that have passed, and such as are none."""
    for name, value in (
        ("long ago", 0),
        ("just now", int(time.time() * 1000) - 1),
        ("in seconds", int(time.time()) + 60),
    ):
        late = refused(504, "DEADLINE_EXCEEDED", "The deadline has passed; nothing was done", deadline=value)
        yield Attack(of="deadlines that passed", name=name, headers={"deadline": b"%d" % value}, answer=late)
    reason = "not a time in milliseconds since the epoch"
    for name, text in (
        ("negative", b"-1"),
        ("too long", b"9" * 16),
        ("Arabic digits", "\u0661\u0662".encode()),
        ("empty", b""),
    ):
        yield Attack(of="deadlines", name=name, headers={"deadline": text}, answer=bad_header("deadline", reason))


def on_sizes() -> Iterator[Attack]:
    """Too much of anything."""
    for name, size in (("a byte too large", 256 * KIB + 1), ("1 MB", 1_000_000)):
        too_large = refused(413, "MESSAGE_TOO_LARGE", "The body is too large", body_bytes=size, limit_bytes=256 * KIB)
        padding = b" " * (size - len(creation()))
        yield Attack(of="sizes", name=f"a body of {name}", body=creation() + padding, answer=too_large)
    for name, headers in (
        ("one header", [("x", b"h" * 17 * KIB)]),
        ("a name", [("n" * 17 * KIB, b"")]),
        ("a name that is short in characters", [("🐘" * 4_500, b"")]),
    ):
        yield Attack(of="sizes", name=f"headers: {name}", extra=headers, answer=HEADERS_TOO_LARGE)
    for name, number in (("one too many", 95), ("many", 4_000), ("as many as fit", 300_000)):
        headers = [("x", b"")] * number
        too_many = refused(
            413, "MESSAGE_TOO_LARGE", "There are too many headers", header_count=number + 6, limit_count=100
        )
        yield Attack(of="sizes", name=f"headers: {name}", extra=headers, raw_keys=True, answer=too_many)
    too_large = refused(413, "MESSAGE_TOO_LARGE", "The key is too large", key_bytes=1_025, limit_bytes=1_024)
    yield Attack(of="sizes", name="a key", record_key=b"k" * 1_025, answer=too_large)
    too_many = {"name": "M", "email": "m@example.com", "preferences": {"k": "v" * 17_000}}
    reason = "JSON of 17008 bytes, at most 16384 are kept"
    answer = invalid("preferences", reason, "json_too_large")
    yield Attack(of="sizes", name="preferences", body=request("create_customer", too_many), answer=answer)


def on_json() -> Iterator[Attack]:
    """Bodies that two parsers read differently, or one not at all."""
    nested = b'{"kind":"create_customer","payload":' + b'{"a":' * 70 + b"1" + b"}" * 71
    for class_, name, body, reason, at in (
        ("depth", "objects", nested, "nested deeper than 64 levels", "payload" + ".a" * 63),
        ("depth", "100,000 lists", b"[" * 100_000, "nested deeper than 64 levels (byte 202)", "0." * 100),
        (
            "depth",
            "inside an unknown field",
            b'{"kind":"x","y":' + b"[" * 200 + b"]" * 200 + b"}",
            "nested deeper than 64 levels",
            "y" + ".0" * 63,
        ),
        (
            "numbers",
            "beyond every double",
            with_payload('{"name":1e400}'),
            "a number beyond the range of a double",
            "payload.name",
        ),
        (
            "numbers",
            "beyond 2^53",
            with_payload('{"name":9007199254740993}'),
            "an integer beyond 2^53 - 1",
            "payload.name",
        ),
        (
            "numbers",
            "400 digits",
            with_payload('{"name":' + "9" * 400 + "}"),
            "an integer beyond 2^53 - 1",
            "payload.name",
        ),
        (
            "numbers",
            "NaN",
            with_payload('{"name":NaN}'),
            "NaN and Infinity are no JSON numbers (byte 48)",
            "payload.name",
        ),
        (
            "numbers",
            "Infinity",
            with_payload('{"name":-Infinity}'),
            "NaN and Infinity are no JSON numbers (byte 49)",
            "payload.name",
        ),
        ("numbers", "hexadecimal", with_payload('{"name":0x10}'), "not JSON (byte 49)", "payload.name"),
        (
            "duplicate keys",
            "two kinds",
            b'{"kind":"get_customer","payload":{},"kind":"create_customer"}',
            "the key occurs twice in one object (byte 44)",
            "kind",
        ),
        (
            "duplicate keys",
            "two names",
            with_payload('{"name":"a","email":"a@example.com","name":"b"}'),
            "the key occurs twice in one object (byte 83)",
            "payload.name",
        ),
        (
            "duplicate keys",
            "one of them escaped",
            with_payload(r'{"name":"a","na\u006de":"b"}'),
            "the key occurs twice in one object (byte 64)",
            "payload.name",
        ),
        (
            "duplicate keys",
            "deep inside",
            with_payload('{"preferences":{"x":[{"k":1,"k":2}]}}'),
            "the key occurs twice in one object (byte 72)",
            "payload.preferences.x.0.k",
        ),
        (
            "surrogates",
            "a leading one",
            with_payload(r'{"name":"\ud800"}'),
            "a lone surrogate or an incomplete escape (byte 55)",
            "payload.name",
        ),
        (
            "surrogates",
            "a trailing one",
            with_payload(r'{"name":"\udc00 x"}'),
            "a lone surrogate (byte 54)",
            "payload.name",
        ),
        (
            "surrogates",
            "as a key",
            with_payload(r'{"\ud83d":1}'),
            "a lone surrogate or an incomplete escape (byte 48)",
            "payload",
        ),
        ("surrogates", "as UTF-8", b'{"kind":"\xed\xa0\x80","payload":{}}', "not UTF-8 (byte 10)", "kind"),
        ("encodings", "UTF-16", creation().decode().encode("utf-16"), "not JSON (byte 1)", ""),
        ("encodings", "a byte order mark", b"\xef\xbb\xbf" + creation(), "starts with a byte order mark", ""),
        (
            "encodings",
            "Latin-1",
            with_payload('{"name":"?"}').replace(b"?", b"\xe9"),
            "not UTF-8 (byte 49)",
            "payload.name",
        ),
        (
            "encodings",
            "a slash in two bytes",
            with_payload('{"name":"?"}').replace(b"?", b"\xc0\xaf"),
            "not UTF-8 (byte 49)",
            "payload.name",
        ),
        ("encodings", "compressed", zlib.compress(creation()), "not JSON (byte 1)", ""),
        ("bodies", "cut off", creation()[:-1], "the JSON value ends too early (byte 115)", "payload.email"),
        ("bodies", "two of them", creation() + creation(), "something follows the JSON value (byte 117)", ""),
        ("bodies", "a list of them", b"[" + creation() + b"]", "the body is no JSON object", ""),
        ("bodies", "white space", b" \n\t ", "empty", ""),
        ("bodies", "a comment", b"/* x */ " + creation(), "not JSON (byte 1)", ""),
        (
            "bodies",
            "a raw control character",
            with_payload('{"name":"a\x00b"}'),
            "a control character that is not escaped (byte 50)",
            "payload.name",
        ),
        (
            "envelopes",
            "a caller of one's own choice",
            request("create_customer", {}, caller="victim"),
            "unknown field beside 'kind', 'version' and 'payload'",
            "caller",
        ),
        (
            "envelopes",
            "a prototype",
            request("create_customer", {}, __proto__={"roles": ["catalog_admin"]}),
            "unknown field beside 'kind', 'version' and 'payload'",
            "__proto__",
        ),
        (
            "envelopes",
            "a list as the payload",
            request("create_customer", []),
            "'payload' is no JSON object",
            "payload",
        ),
        ("envelopes", "no payload", b'{"kind":"create_customer"}', "'payload' is missing", "payload"),
        ("envelopes", "a number as the kind", request(5, {}), "'kind' is no text", "kind"),
        ("envelopes", "an empty kind", request("", {}), "'kind' is no text", "kind"),
        (
            "envelopes",
            "a text as the version",
            request("create_customer", {}, version="1"),
            "'version' is no whole number above 0",
            "version",
        ),
        (
            "envelopes",
            "a fraction as the version",
            request("create_customer", {}, version=1.5),
            "'version' is no whole number above 0",
            "version",
        ),
        (
            "envelopes",
            "true as the version",
            request("create_customer", {}, version=True),
            "'version' is no whole number above 0",
            "version",
        ),
        (
            "envelopes",
            "null as the version",
            request("create_customer", {}, version=None),
            "'version' is no whole number above 0",
            "version",
        ),
    ):
        details = {"field": at} if at else {}
        yield Attack(of=class_, name=name, body=body, answer=malformed(reason, **details))


def on_headers() -> Iterator[Attack]:
    """Headers of ours that are not as the contract says."""
    form = "not 1-128 printable ASCII characters"
    for class_, name, header, value, reason in (
        ("message ids", "none", "message_id", ..., "missing"),
        ("message ids", "null", "message_id", None, "null"),
        ("message ids", "too long", "message_id", b"m" * 129, form),
        ("message ids", "a line end", "message_id", b"m\n", form),
        ("message ids", "bytes", "message_id", b"\xff\x00", form),
        ("correlation ids", "null", "correlation_id", None, "null"),
        ("correlation ids", "empty", "correlation_id", b"", form),
        ("correlation ids", "a header of its own", "correlation_id", b"c\r\nreplayed: true", form),
        ("content types", "XML", "content-type", b"text/xml", "not application/json"),
        (
            "content types",
            "with parameters",
            "content-type",
            b"application/json; charset=utf-7",
            "not application/json",
        ),
        ("content types", "null", "content-type", None, "null"),
        ("authorization headers", "null", "authorization", None, "null"),
        ("authorization headers", "beyond ASCII", "authorization", b"Bearer \xff", "not ASCII"),
    ):
        headers, drop = ({}, (header,)) if value is ... else ({header: value}, ())
        yield Attack(of=class_, name=name, headers=headers, drop=drop, answer=bad_header(header, reason))
    for class_, name, value in (
        ("authorization headers", "authorization", token("victim")),
        ("message ids", "message_id", b"victims"),
        ("correlation ids", "correlation_id", b"victims"),
        ("content types", "content-type", b"application/json"),
        ("deadlines", "deadline", b"1"),
    ):
        headers = {"deadline": b"9" * 13} if name == "deadline" else {}
        answer = bad_header(name, "repeated")
        yield Attack(of=class_, name=f"{name} twice", headers=headers, extra=[(name, value)], answer=answer)
    yield Attack(
        of="correlation ids",
        name="neither id can be read",
        headers={"correlation_id": b"\xff", "message_id": b"\xfe"},
        answer=bad_header("message_id", form),
        has_no_key=True,
    )
    for name, raw in (("Latin-1", b"caf\xe9"), ("bytes", b"\xff\xfe\xfd"), ("half a character", b"\xf0\x9f")):
        extra = [(NotUtf8.of(raw), b"1")]
        yield Attack(of="header keys", name=name, extra=extra, raw_keys=True, letter="UNREADABLE_RECORD")


def on_kinds() -> Iterator[Attack]:
    """Kinds and versions that are not served, or not here."""
    kinds = sorted(KINDS)
    for name in ("no_such_kind", "Create_Customer", "create_customer ", "../create_customer"):
        answer = refused(400, "UNKNOWN_KIND", f"Kind '{plain(name)}' is not known", kinds=kinds, kind=name)
        yield Attack(of="kinds", name=name, body=request(name, {}), answer=answer)
    for name, number in (("0", 0), ("-1", -1)):
        body = request("create_customer", {}, version=number)
        answer = malformed("'version' is no whole number above 0", field="version")
        yield Attack(of="versions", name=name, body=body, answer=answer)
    for number in (2, 2**53 - 1):
        message = f"Kind 'create_customer' has no version {number}"
        answer = refused(400, "UNSUPPORTED_VERSION", message, kind="create_customer", versions=[1])
        yield Attack(
            of="versions", name=str(number), body=request("create_customer", {}, version=number), answer=answer
        )
    removed = refused(
        410,
        "VERSION_REMOVED",
        "This version is deprecated. Please use create_product version 2",
        kind="create_product",
        version=1,
        sunset="2024-12-01",
    )
    payload = {"mnemonic": "EVIL", "overview": ""}
    for name, body, more in (
        ("by its number", request("create_product", payload, version=1), {}),
        ("by saying nothing", request("create_product", payload), {}),
        ("without the role", request("create_product", payload), {"headers": authorised(token(roles=[]))}),
    ):
        yield Attack(of="versions past their sunset", name=name, body=body, answer=removed, **more)  # type: ignore[arg-type]
    for name, side, kind, home in (
        ("a query among commands", "commands", "search_customers", "queries"),
        ("somebody's outcome among commands", "commands", "get_outcome", "queries"),
        ("a command among queries", "queries", "delete_customer", "commands"),
        ("a product among queries", "queries", "create_product", "commands"),
    ):
        message = f"Kind '{kind}' does not belong on this topic"
        answer = refused(400, "MALFORMED_MESSAGE", message, field="kind", belongs_on=home)
        bound = side == "queries"
        yield Attack(
            of="kinds on the wrong topic",
            name=name,
            side=side,
            body=request(kind, {"customer_id": VICTIM}),
            answer=None if bound else answer,
            letter="MALFORMED_MESSAGE" if bound else None,
        )


def on_texts() -> Iterator[Attack]:
    """Texts that are read otherwise than they are stored, or that a store cannot hold."""

    def customer(**payload: object) -> bytes:
        return creation(**payload)

    def product(**payload: object) -> bytes:
        return request("create_product", {"mnemonic": "EVIL", "overview": "o"} | payload, version=2)

    control = "Text must hold no control character ({})"
    bidi = "Text must hold no bidirectional control ({})"
    for class_, name, body, answer in (
        (
            "control characters",
            "NUL in a name",
            customer(name="a\0b"),
            invalid("name", control.format("U+0000"), "text_control"),
        ),
        (
            "control characters",
            "NUL in a key",
            customer(preferences={"a\0b": 1}),
            invalid("preferences", control.format("U+0000"), "text_control"),
        ),
        (
            "control characters",
            "an escape sequence",
            customer(name="a\x1b[2Jb"),
            invalid("name", control.format("U+001B"), "text_control"),
        ),
        (
            "control characters",
            "a line end in a tag",
            product(tags=["a\nb"]),
            invalid("tags.0", control.format("U+000A"), "text_control"),
        ),
        (
            "control characters",
            "one of the second row",
            product(category="a\x85b"),
            invalid("category", control.format("U+0085"), "text_control"),
        ),
        (
            "bidirectional characters",
            "an override",
            customer(name="a\u202eb"),
            invalid("name", bidi.format("U+202E"), "text_bidirectional"),
        ),
        (
            "bidirectional characters",
            "an isolate",
            product(overview="a\u2066b"),
            invalid("overview", bidi.format("U+2066"), "text_bidirectional"),
        ),
        (
            "bidirectional characters",
            "deep in a catalogue",
            product(catalog={"x": [{"y": "a\u202db"}]}),
            invalid("catalog.x.0.y", bidi.format("U+202D"), "text_bidirectional"),
        ),
        (
            "characters that are none",
            "U+FFFF",
            customer(name="a\uffffb"),
            invalid("name", "Text must hold only characters (U+FFFF is none)", "text_noncharacter"),
        ),
        (
            "characters that are none",
            "U+FDD0",
            product(overview="\ufdd0"),
            invalid("overview", "Text must hold only characters (U+FDD0 is none)", "text_noncharacter"),
        ),
        (
            "characters that are none",
            "a heap of marks",
            customer(name="a" + "\u0301" * 60),
            invalid("name", "Text must hold at most 30 combining marks in a row", "text_marks"),
        ),
    ):
        yield Attack(of=class_, name=name, body=body, answer=answer)


def on_types() -> Iterator[Attack]:
    """Values of another type, another form, or in a field that is not the caller's."""
    line = {"mnemonic": "PLAIN", "quantity": 1, "unit_price": "1.00"}

    def order(payload: Mapping[str, object] | None = None, **in_line: object) -> bytes:
        return request("place_order", {"customer_id": VICTIM, "lines": [line | in_line]} | dict(payload or {}))

    def search(**payload: object) -> bytes:
        return request("search_customers", payload)

    whole, boolean = ("Input should be a valid integer", "int_type"), ("Input should be a valid boolean", "bool_type")
    price, name_ = "lines.0.unit_price", "name"
    money = ("String should match pattern '^(?:0|[1-9][0-9]{0,9})(?:\\.[0-9]{1,2})?$'", "string_pattern_mismatch")
    uuid_ = (
        "String should match pattern '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'",
        "string_pattern_mismatch",
    )
    text, date = ("Input should be a valid string", "string_type"), ("Input should be a date, YYYY-MM-DD", "date")
    email = ("Input should be an e-mail address of at most 254 characters", "email")
    version = {"mnemonic": "PLAIN", "version_label": "v", "items": []}
    deletion = "delete_customer"
    for class_, name, body, answer in (
        ("types", "a number as a text", search(limit="5"), invalid("limit", *whole)),
        ("types", "a fraction as a whole number", search(limit=5.5), invalid("limit", *whole)),
        ("types", "true as a number", search(limit=True), invalid("limit", *whole)),
        ("types", "1 as true", search(is_active=1), invalid("is_active", *boolean)),
        ("types", "a list as a text", creation(name=["x"]), invalid(name_, *text)),
        ("types", "a number as a name", creation(name=5), invalid(name_, *text)),
        (
            "types",
            "a text as preferences",
            creation(preferences="{}"),
            invalid("preferences", "Input should be a JSON object", "json_object"),
        ),
        (
            "limits",
            "a page of everything",
            search(limit=1_000_000),
            invalid("limit", "Input should be less than or equal to 100", "less_than_equal"),
        ),
        (
            "limits",
            "a negative offset",
            search(offset=-1),
            invalid("offset", "Input should be greater than or equal to 0", "greater_than_equal"),
        ),
        (
            "limits",
            "nothing ordered",
            order(quantity=0),
            invalid("lines.0.quantity", "Input should be greater than or equal to 1", "greater_than_equal"),
        ),
        ("limits", "an e-mail too long", creation(email="e" * 250 + "@example.com"), invalid("email", *email)),
        ("money", "below nothing", order(unit_price="-1.00"), invalid(price, *money)),
        ("money", "an exponent", order(unit_price="1e5"), invalid(price, *money)),
        ("money", "a number", order(unit_price=1.5), invalid(price, *text)),
        ("money", "not a number", order(unit_price="NaN"), invalid(price, *money)),
        ("money", "Arabic digits", order(unit_price="\u0661"), invalid(price, *money)),
        ("money", "a third decimal", order(unit_price="0.001"), invalid(price, *money)),
        (
            "money",
            "too much in all",
            order(unit_price="9999999999.99", quantity=2),
            invalid("lines", "The lines should add up to at most 9999999999.99", "money_total"),
        ),
        ("fields of others", "the total", order({"total_amount": "0.01"}), invalid("total_amount", *NOT_ALLOWED)),
        ("fields of others", "the caller", creation(caller="victim"), invalid("caller", *NOT_ALLOWED)),
        ("fields of others", "the version", creation(version=7), invalid("version", *NOT_ALLOWED)),
        (
            "fields of others",
            "a name in other letters",
            creation(Email="x@example.com"),
            invalid("Email", *NOT_ALLOWED),
        ),
        ("fields of others", "inside a line", order(product_id=OTHER), invalid("lines.0.product_id", *NOT_ALLOWED)),
        ("ids", "SQL", request(deletion, {"customer_id": f"{VICTIM}' or '1'='1"}), invalid("customer_id", *uuid_)),
        ("ids", "a line end", request(deletion, {"customer_id": VICTIM + "\n"}), invalid("customer_id", *uuid_)),
        ("ids", "braces", request(deletion, {"customer_id": "{" + VICTIM + "}"}), invalid("customer_id", *uuid_)),
        ("ids", "a list", request(deletion, {"customer_id": [VICTIM, OTHER]}), invalid("customer_id", *text)),
        ("ids", "a wildcard", request(deletion, {"customer_id": "%"}), invalid("customer_id", *uuid_)),
        (
            "days",
            "the year 0",
            request("add_product_version", version | {"start_date": "0000-01-01"}),
            invalid("start_date", *date),
        ),
        (
            "days",
            "February 30",
            request("add_product_version", version | {"start_date": "2024-02-30"}),
            invalid("start_date", *date),
        ),
        ("days", "seconds", request("add_product_version", version | {"start_date": 0}), invalid("start_date", *text)),
        (
            "days",
            "for ever",
            request("add_product_version", version | {"start_date": "infinity"}),
            invalid("start_date", *date),
        ),
        ("e-mails", "two of them", creation(email="a@example.com,b@example.com"), invalid("email", *email)),
        ("e-mails", "a second header", creation(email="a@example.com\r\nBcc: b@example.com"), invalid("email", *email)),
        ("e-mails", "a folded @", creation(email="a\uff20b@example.com"), invalid("email", *email)),
        ("e-mails", "no domain", creation(email="root@localhost"), invalid("email", *email)),
    ):
        side = "queries" if b"search_customers" in body else "commands"
        yield Attack(of=class_, name=name, body=body, side=side, answer=answer)
    code = "A product's mnemonic has 1 to 50 characters of A-Z, 0-9 and _"
    for name in ("evil", "EVIL;DROP TABLE PRODUCTS", "\u0415VIL", "../EVIL"):
        yield Attack(
            of="mnemonics",
            name=name,
            body=request("delete_product", {"mnemonic": name}),
            answer=refused(400, "INVALID_PRODUCT_CODE", code, field="mnemonic"),
        )


def on_rules() -> Iterator[Attack]:
    """Validation rules that would hang, grow or reach out."""

    def bad(reason: str) -> Envelope:
        details = {"mnemonic": "PLAIN", "field": "rules.0", "rule": "r", "reason": reason}
        return refused(422, "BUSINESS_RULE_ERROR", f"Rule 'r' cannot be used: {reason}", **details)

    outside = "'$ref' may only refer to a place inside the rule, not to {}"
    not_supported = "a pattern is not supported (look-around?): {}"
    for class_, name, parameters, reason in (
        (
            "references in rules",
            "to the network",
            {"$ref": "http://169.254.169.254/latest"},
            outside.format("http://169.254.169.254/latest"),
        ),
        (
            "references in rules",
            "to a file",
            {"properties": {"x": {"$ref": "file:///etc/passwd"}}},
            outside.format("file:///etc/passwd"),
        ),
        (
            "references in rules",
            "to the dialect",
            {"$ref": "https://json-schema.org/draft/2020-12/schema"},
            outside.format("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("references in rules", "to nothing", {"$ref": "#/nowhere"}, "'$ref' leads to no sub-schema: #/nowhere"),
        (
            "references in rules",
            "by a new address",
            {"$defs": {"x": {"$id": "http://evil.example"}}},
            "'$id' is not supported here",
        ),
        ("references in rules", "dynamic", {"$dynamicRef": "#x"}, "'$dynamicRef' is not supported here"),
        ("patterns in rules", "looking ahead", {"pattern": "^(?=a*b)(a+)+$"}, not_supported.format("^(?=a*b)(a+)+$")),
        ("patterns in rules", "looking back", {"pattern": r"(a+)\1+$"}, not_supported.format(r"(a+)\1+$")),
        (
            "patterns in rules",
            "counting far",
            {"pattern": "((a{1000}){1000}){1000}"},
            "a pattern is too large (a counted repetition?): ((a{1000}){1000}){1000}",
        ),
        (
            "patterns in rules",
            "too long",
            {"pattern": "a" * 201},
            "a pattern is longer than 200 characters: " + "a" * 199 + "…",
        ),
        (
            "sizes of rules",
            "sub-schemas",
            {"anyOf": [True] * 1_001},
            "the product's rules have more than 1000 sub-schemas",
        ),
        (
            "sizes of rules",
            "patterns",
            {"patternProperties": {f"p{n}": True for n in range(51)}},
            "the product's rules have more than 50 patterns",
        ),
    ):
        yield Attack(of=class_, name=name, body=rules(parameters), answer=bad(reason), is_stored=True)
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"not": deep}
    answer = invalid("rules.0.parameters", "JSON nested deeper than 32 levels", "json_too_deep")
    yield Attack(of="sizes of rules", name="levels", body=rules(deep), answer=answer)
    many = {"n": list(range(300))}
    line = {"mnemonic": "GUARDED", "quantity": 1, "unit_price": "1", "attributes": many}
    details = {"mnemonic": "GUARDED", "rule": "slow", "path": "lines.0.attributes", "reason": TOO_MANY_EVALUATIONS}
    yield Attack(
        of="rules that take long",
        name="by an order",
        body=request("place_order", {"customer_id": VICTIM, "lines": [line]}),
        answer=refused(
            422,
            "BUSINESS_RULE_ERROR",
            f"Rule 'slow' of product 'GUARDED' cannot be evaluated: {TOO_MANY_EVALUATIONS}",
            **details,
        ),
        is_stored=True,
    )
    for name, data in (("by a query", many), ("by a larger one", {"n": list(range(3_000))})):
        yield Attack(
            of="rules that take long",
            name=name,
            side="queries",
            body=request("validate_product_data", {"mnemonic": "GUARDED", "data": data, "on_date": "2024-01-01"}),
            answer=SLOW_VERDICT,
        )


def on_searches(page: Mapping[str, Any]) -> Iterator[Attack]:
    """Searches that ask for more than they say; `page` is a good one, with a cursor."""
    for name, payload in (
        ("SQL", {"name_contains": "' or '1'='1"}),
        ("SQL behind a dollar", {"email_contains": "$1; drop table customers; --"}),
        ("any characters", {"name_contains": "%"}),
        ("any character", {"name_contains": "_"}),
        ("an escape at the end", {"name_contains": "\\"}),
    ):
        body = request("search_customers", payload)
        yield Attack(of="searches", name=name, side="queries", body=body, answer=NO_CUSTOMERS)
    cursor = page["next_cursor"]
    micros, last_id, digest = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    for name, forged in (
        ("an id that is none", [micros, "x' or '1'='1", digest]),
        ("a number as the id", [micros, 5, digest]),
        ("a time beyond all time", [10**18, last_id, digest]),
        ("a time as a text", ["now", last_id, digest]),
        ("another shape", {"micros": micros}),
        ("nothing", []),
    ):
        text = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        body = request("search_customers", {"cursor": text, "limit": 1})
        answer = invalid("cursor", "is no cursor of ours", "cursor")
        yield Attack(of="cursors", name=name, side="queries", body=body, answer=answer)
    for name, filters in (
        ("with other filters", {"name_contains": "v"}),
        ("of others than customers", {"is_active": True}),
    ):
        body = request("search_customers", {"cursor": cursor, "limit": 1} | filters)
        answer = invalid("cursor", "belongs to a search with other filters", "cursor")
        yield Attack(of="cursors", name=name, side="queries", body=body, answer=answer)


DEAD_LETTER: Final = Attack(
    of="dead letters that come back",
    name="as it was",
    headers={"authorization": token(roles=["catalog_reader"])},
    drop=("reply_to",),
    letter="FORBIDDEN",
)
"""Refused, with nobody to tell; it is brought back in other forms."""


def on_age(mark: datetime) -> Iterator[Attack]:
    """Commands older than the outcomes that are kept: once `mark` stands in the database, all that are sent."""
    answer = refused(
        410, "OUTCOME_EXPIRED", "The message is older than the outcomes that are kept", kept_since=mark.isoformat()
    )
    for name, body, drop in (
        ("a creation", creation(), ()),
        ("a deletion", request("delete_customer", {"customer_id": VICTIM}), ()),
        ("an order", request("place_order", {"customer_id": VICTIM, "lines": []}), ("reply_to",)),
    ):
        told = None if drop else answer
        yield Attack(of="age", name=name, body=body, drop=drop, answer=told, letter="OUTCOME_EXPIRED")


def on_replays(letter: "Letter") -> Iterator[Attack]:
    """A dead letter of ours that comes back other than it was."""
    mismatch = "the signature of the dead letter does not match"

    def edited(**notes: bytes) -> list[Header]:
        return [(name, notes.get(name.replace(".", "_"), value)) for name, value in letter.headers]

    signature = dict(letter.headers)["dlq.signature"]
    unsigned = [header for header in letter.headers if header[0] != "dlq.signature"]
    for name, headers, value, reason in (
        ("another body", letter.headers, creation(), mismatch),
        ("another caller", edited(dlq_caller=f"{ISSUER}\nvictim".encode()), letter.value, mismatch),
        ("more rights", edited(dlq_roles=b"catalog_admin"), letter.value, mismatch),
        ("another time", edited(dlq_timestamp=b"4102444800000"), letter.value, mismatch),
        ("another id", edited(message_id=b"other"), letter.value, mismatch),
        ("a header more", [*letter.headers, ("deadline", b"1")], letter.value, mismatch),
        ("two signatures", [*letter.headers, ("dlq.signature", signature)], letter.value, mismatch),
        ("a signature of zeros", [*unsigned, ("dlq.signature", b"0" * 64)], letter.value, mismatch),
        ("the callers' secret", _signed_again(letter, SECRET), letter.value, mismatch),
        (
            "an operator without a name",
            _signed_again(letter, OPERATOR_KEY),
            letter.value,
            "the dead letter's headers cannot be read",
        ),
    ):
        yield Attack(
            of="dead letters that come back",
            name=name,
            body=value,
            headers={},
            extra=headers,
            record_key=letter.key,
            drop=("message_id", "correlation_id", "reply_to", "authorization", "content-type"),
            letter="UNAUTHENTICATED",
            detail=f"Not authenticated: {reason}",
        )


@dataclass(frozen=True)
class Letter:
    """A dead letter as it stands in its topic."""

    key: bytes
    value: bytes
    headers: Sequence[Header]


def _signed_again(letter: Letter, key: str) -> list[Header]:
    """Sign a dead letter as the workers would, with another key."""
    kept = [header for header in letter.headers if header[0] != "dlq.signature"]
    mac = hmac.new(key.encode(), b"catalog-workers: dead letter, 1\n", "sha256")
    for part in (letter.key, letter.value, *(part for name, value in kept for part in (name.encode(), value))):
        mac.update(b"-" if part is None else b"%d:" % len(part) + part)
    return [*kept, ("dlq.signature", mac.hexdigest().encode())]


def attacks_on(system: System, page: Mapping[str, Any], letter: Letter) -> list[Attack]:
    """Put all attacks together."""
    return [
        *on_tokens(),
        *on_claims(),
        *on_issuers(),
        *on_roles(),
        *on_outcomes(),
        *on_reply_topics(system),
        *on_rates(),
        *on_deadlines(),
        *on_sizes(),
        *on_json(),
        *on_headers(),
        *on_kinds(),
        *on_texts(),
        *on_types(),
        *on_rules(),
        *on_searches(page),
        *on_replays(letter),
    ]
