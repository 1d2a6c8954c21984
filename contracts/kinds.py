"""The registry of kinds: what may be asked, in which versions, by whom, and which rows it touches.

A kind is declared once, in its area's module (`contracts.customers`, …), and collected in `contracts.registry`. From
these declarations follow what the workers do with a message, and the document that callers work from
(`contracts.asyncapi`); `workers.contract.lint` says what a declaration lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from contracts.at_rest import LARGE_BYTES, at_rest
from contracts.envelope import Envelope, EnvelopeType
from contracts.errors import (
    REFUSALS,
    REFUSALS_OF_COMMANDS,
    REFUSALS_OF_QUERIES,
    CatalogError,
    ForbiddenError,
    InvalidProductCodeError,
    ValidationFailedError,
    VersionRemovedError,
)
from contracts.ijson import reread


class Payload(BaseModel):
    """What every payload obeys: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, regex_engine="rust-regex")


P = TypeVar("P", bound=Payload)


def upcast(old: type[Payload], new: type[P]) -> Callable[[Payload], P]:
    """Make the upcast to a payload that has all fields of the old one: what was given is given, others have defaults.

    Nothing is validated twice: a day that was read is a day by now. Raises `TypeError` where it takes more than that.
    """
    gone = set(old.model_fields) - set(new.model_fields)
    asked = {name for name, one in new.model_fields.items() if one.is_required()} - set(old.model_fields)
    if gone or asked:
        raise TypeError(f"{old.__name__} has no {sorted(asked)} for {new.__name__}, which has no {sorted(gone)}")

    def to_new(payload: Payload) -> P:
        return cast("P", new.model_construct(payload.model_fields_set, **dict(payload)))

    return to_new


class Role(StrEnum):
    """What a token may grant. `ANYONE` stands for "no role needed", so that none is left out by mistake."""

    READER = "catalog_reader"
    WRITER = "catalog_writer"
    ADMIN = "catalog_admin"
    OPERATOR = "catalog_operator"
    ANYONE = "anyone"


ROLES_THAT_MAY: Mapping[Role, frozenset[str]] = {
    Role.READER: frozenset({Role.READER, Role.WRITER, Role.ADMIN, Role.OPERATOR}),
    Role.WRITER: frozenset({Role.WRITER, Role.ADMIN}),
    Role.ADMIN: frozenset({Role.ADMIN}),
    Role.OPERATOR: frozenset({Role.OPERATOR}),
}
"""Which roles suffice where one is asked for: a writer may what a reader may, and so on."""


class Answer(NamedTuple):
    """What the envelope of a request that was carried out may say."""

    status_code: int
    type: EnvelopeType


CREATED: Final = Answer(201, "success")
DONE: Final = Answer(200, "success")
UNCHANGED: Final = Answer(200, "neutral")
"""Nothing to do: the state was already so."""
PARTIAL: Final = Answer(200, "warning")
"""Done, but not all of it."""


class Keys(NamedTuple):
    """The rows and names that one command will touch; the unit of work locks and loads them for the whole batch.

    A kind that cannot say it ahead is `alone`: it runs as a batch of its own.
    """

    customers: Sequence[str] = ()
    """Ids of customers that are changed, or that must stay as they are."""
    emails: Sequence[str] = ()
    """Folded e-mails that the command would take."""
    products: Sequence[str] = ()
    """Mnemonics of products that are changed, created or deleted."""
    products_deleted: Sequence[str] = ()
    """Those of them that would be deleted: whether something refers to them is counted."""
    products_sized: Sequence[str] = ()
    """Those of them whose size has to be known: the command may make them larger."""
    products_held: Sequence[str] = ()
    """Mnemonics of products that are read, with their rules, and must not vanish."""
    product_versions: Sequence[tuple[str, str]] = ()
    """Of changed products: the mnemonic and the label of the version that is added or changed."""
    product_rules: Sequence[str] = ()
    """Mnemonics of changed products whose rules are read or replaced."""
    orders: Sequence[str] = ()
    """Ids of orders that are changed or created."""
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a kind. An older one is upcast, step by step, to the newest before a use case sees it."""

    number: int
    model: type[Payload]
    examples: Sequence[Mapping[str, object]] = ()
    """Payloads to copy. The kinds that need this one may rely on all of them having been sent, in this order."""
    upcast: Callable[[Any], Payload] | None = None
    deprecated_on: date | None = None
    sunset_on: date | None = None
    alternative: str | None = None
    adapter: TypeAdapter[Payload] = field(init=False, repr=False, compare=False)
    _read_json: Callable[[bytes], Payload] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the validator once."""
        adapter = TypeAdapter(self.model)
        object.__setattr__(self, "adapter", adapter)
        object.__setattr__(self, "_read_json", adapter.validator.validate_json)

    def validated(self, payload_json: bytes) -> Payload:
        """Validate a payload; raises as `Kind.read` does.

        For each finding pydantic makes Python values of all that is in the place, where it reads JSON itself: for each
        missing field of the whole object that lacks it. A large payload is therefore given to it as Python values.
        """
        try:
            if len(payload_json) < LARGE_BYTES:
                return self._read_json(payload_json)
            return self.adapter.validate_python(reread(payload_json))
        except ValidationError as error:
            raise refusal_of(error) from None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Something that can be asked: what it is for, who may ask, what it answers, which rows it touches."""

    name: str
    description: str
    topic: Literal["commands", "queries"]
    role: Role
    resource: str
    action: str
    """With `resource` it words the 403: who may not `action` a `resource`."""
    versions: Sequence[Version]
    key: Sequence[str]
    """What orders it: paths into the payload. The text of the first that is present is the record's key, as it is sent;
    where there is none, the message id is (of a query the correlation id)."""
    result: Any
    """The type of `data` in every answer; `None` for null."""
    answers: Sequence[Answer] = (DONE,)
    reply: Envelope
    """The answer to the newest version's first example, for example."""
    errors: Sequence[type[CatalogError]]
    """Its own; those that any request may meet are in `contracts.errors`."""
    needs: Sequence[str] = ()
    """The kinds whose examples are sent before its own."""
    keys: Callable[[Any], Keys] = lambda _: Keys()
    """Which rows a command touches."""

    @property
    def newest(self) -> Version:
        """The version that use cases know."""
        return self.versions[-1]

    @property
    def every_error(self) -> Sequence[type[CatalogError]]:
        """Its own errors, then what any request of its topic may meet."""
        shared = REFUSALS_OF_COMMANDS if self.topic == "commands" else REFUSALS_OF_QUERIES
        forbidden = (ForbiddenError,) if self.role is not Role.ANYONE else ()
        removed = (VersionRemovedError,) if any(version.sunset_on for version in self.versions) else ()
        return (*self.errors, *REFUSALS, *forbidden, *removed, *shared)

    def version(self, number: int) -> Version | None:
        """Find a version by its number."""
        for version in self.versions:
            if version.number == number:
                return version
        return None

    def read(self, version: Version, payload_json: bytes) -> Payload:
        """Validate a payload of this version and upcast it to the newest.

        Raises `ValidationFailedError` naming each field, or `InvalidProductCodeError` where only the mnemonic is wrong.
        """
        read = version.validated
        payload = read(payload_json) if len(payload_json) < LARGE_BYTES else at_rest(read, payload_json)
        for step in self.versions[self.versions.index(version) :]:
            if step.upcast is not None:
                payload = step.upcast(payload)
        return payload


MNEMONIC_ERROR = "product_code"
"""The pydantic error type of a mnemonic of the wrong form: it is answered by a code of its own."""


MAX_FINDINGS: Final = 100
"""What is told of one payload; a body of unknown fields has tens of thousands, and they would fill no reply."""


def _in_words_of_json(kind: str, context: dict[str, str]) -> str:
    """Tell how pydantic words a finding where it reads JSON itself."""
    found: InitErrorDetails = {"type": kind, "ctx": context, "input": None}
    error = ValidationError.from_exception_data("", [found], input_type="json")
    return str(error.errors(include_url=False)[0]["msg"])


_IN_WORDS_OF_JSON: Final = {
    "list_type": _in_words_of_json("list_type", {}),
    "model_type": _in_words_of_json("model_type", {"class_name": ""}),
}
"""What is worded otherwise of Python values, of the findings that payloads can have."""


def refusal_of(error: ValidationError) -> ValidationFailedError | InvalidProductCodeError:
    """Turn pydantic's findings into ours: fields as dotted paths, no input repeated, no link to anybody's manual."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FINDINGS]
    if all(one["type"] == MNEMONIC_ERROR for one in found):
        return InvalidProductCodeError(found[0]["msg"], {"field": ".".join(str(part) for part in found[0]["loc"])})
    return ValidationFailedError(
        [
            {
                "field": ".".join(str(part) for part in one["loc"]),
                "message": _IN_WORDS_OF_JSON.get(one["type"]) or one["msg"].removeprefix("Value error, "),
                "type": one["type"],
            }
            for one in found
        ]
    )


def example_message_id(kind: str, version: int, number: int) -> str:
    """Name an example, counted from 1: sent again under the same `message_id`, it is answered as before."""
    return f"example-{kind}-v{version}-{number}"
