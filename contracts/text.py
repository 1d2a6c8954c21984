"""The rules of text, as metadata for pydantic.

`Annotated[str, Text(1, 200)]` is a text, `Annotated[dict[str, object], JsonObject(2048)]` a JSON object of any content,
`Email` an e-mail address.

Text is trimmed and normalised to NFC, then measured (in code points), and stored like that. Refused are

- control characters (category Cc: NUL, tab and line ends, too);
- bidirectional embeddings, overrides and isolates (U+202A-202E, U+2066-2069), which make a text read otherwise than it
  is stored. The marks U+200E, U+200F and U+061C are allowed: they reorder nothing, and Hebrew and Arabic need them;
- lone surrogates and noncharacters, which not every store and language can hold;
- more than 30 combining marks in a row, as in the Stream-Safe Text Format (UAX #15): no language needs more, and the
  time to put them in order grows with the square of their number.

Nothing is escaped: whoever renders a text does that.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import (
    CoreSchema,
    PydanticCustomError,
    PydanticKnownError,
    SchemaValidator,
    ValidationError,
    core_schema,
)

from contracts.canonical import canonical
from contracts.ijson import MAX_DEPTH, is_deeper_than

_CONTROLS: Final = "\x00-\x1f\x7f-\x9f"
_BIDIRECTIONAL: Final = "\u202a-\u202e\u2066-\u2069"
_SURROGATES: Final = "\ud800-\udfff"
_NONCHARACTERS: Final = "\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_REFUSED: Final = re.compile(f"[{_CONTROLS}{_BIDIRECTIONAL}{_SURROGATES}{_NONCHARACTERS}]")
_CONTROL: Final = re.compile(f"[{_CONTROLS}]")
_BIDI: Final = re.compile(f"[{_BIDIRECTIONAL}]")

# NFC composes at most this many code points into one (the greatest expansion of NFD, by Unicode's stability policy): a
# text longer than that many times the limit is too long however it is composed, and is not normalised at all.
_COMPOSED_OF: Final = 4

_MARKS_IN_A_ROW: Final = 30


# Unicode's Default_Ignorable_Code_Point: what is not shown where a font does not know it. The set is all but closed.
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def fold_key(text: str) -> str:
    """Return what texts that differ only in case or compatibility forms have in common: Unicode's NFKC_Casefold.

    Normalised again after folding, as letters with several marks fold apart. It is stored beside names and e-mail
    addresses: whoever changes it rewrites what is stored, as the backfill `customer_keys` does.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _IGNORABLE.sub("", unicodedata.normalize("NFKC", text)).casefold())


def _refuse_characters(text: str) -> None:
    """Raise a PydanticCustomError that names the first character that no text may hold."""
    match = _REFUSED.search(text)
    if match is None:
        return
    character = match[0]
    context = {"character": f"U+{ord(character):04X}"}
    if _CONTROL.match(character):
        raise PydanticCustomError("text_control", "Text must hold no control character ({character})", context)
    if _BIDI.match(character):
        raise PydanticCustomError(
            "text_bidirectional", "Text must hold no bidirectional control ({character})", context
        )
    raise PydanticCustomError("text_noncharacter", "Text must hold only characters ({character} is none)", context)


def _refuse_heaped_marks(text: str) -> None:
    """Raise a PydanticCustomError for a text that would take long to normalise."""
    if len(text) <= _MARKS_IN_A_ROW:
        return
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > _MARKS_IN_A_ROW:
            context = {"limit": _MARKS_IN_A_ROW}
            raise PydanticCustomError("text_marks", "Text must hold at most {limit} combining marks in a row", context)


@dataclass(frozen=True, slots=True)
class Text:
    """Metadata of a str field: trimmed, NFC, `min_length` to `max_length` code points, no refused character."""

    min_length: int
    max_length: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Trim in the core, then apply the rules."""
        return core_schema.no_info_after_validator_function(
            self._checker(), core_schema.str_schema(strict=True, strip_whitespace=True)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell the limits of length."""
        return handler(schema) | {"minLength": self.min_length, "maxLength": self.max_length}

    def _checker(self) -> Callable[[str], str]:
        shortest, longest = self.min_length, self.max_length

        def check(text: str) -> str:
            if not (text.isascii() and text.isprintable()):
                if len(text) > longest * _COMPOSED_OF:
                    raise PydanticKnownError("string_too_long", {"max_length": longest})
                _refuse_characters(text)
                _refuse_heaped_marks(text)
                text = unicodedata.normalize("NFC", text)
            if len(text) > longest:
                raise PydanticKnownError("string_too_long", {"max_length": longest})
            if len(text) < shortest:
                raise PydanticKnownError("string_too_short", {"min_length": shortest})
            return text

        return check


EMAIL_MAX_LENGTH: Final = 254
"""The longest address that a mail server takes (RFC 5321, 4.5.3.1.3, without its angle brackets)."""

# One "@"; before it atoms between single dots, behind it labels between single dots, at least two; letters of any
# script. \p{C} are control, format, private and unassigned characters. The core's regular expressions take linear time.
_ATOM: Final = r'[^\s\p{C}@.()<>\[\]:;,\\"]+'
_LABEL: Final = r"[\p{L}\p{N}](?:[\p{L}\p{M}\p{N}-]*[\p{L}\p{M}\p{N}])?"
_EMAIL_SCHEMA: Final = core_schema.str_schema(
    strict=True,
    strip_whitespace=True,
    max_length=EMAIL_MAX_LENGTH * _COMPOSED_OF,
    pattern=rf"^{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+$",
    regex_engine="rust-regex",
)
_EMAIL_CORE: Final = SchemaValidator(_EMAIL_SCHEMA)


def _check_email(address: str) -> str:
    """Normalise what is not ASCII and judge it again, then measure; the key is indexed: it is measured, too."""
    if not address.isascii():
        _refuse_heaped_marks(address)
        address = _EMAIL_CORE.validate_python(unicodedata.normalize("NFC", address))
        key = fold_key(address)
        if len(key) > EMAIL_MAX_LENGTH or key.count("@") != 1 or key[0] == "@" or key[-1] == "@":
            raise PydanticCustomError("email", "its folded form is no e-mail address")
    if len(address) > EMAIL_MAX_LENGTH:
        raise PydanticKnownError("string_too_long", {"max_length": EMAIL_MAX_LENGTH})
    return address


class _EmailRules:
    """Metadata of an e-mail field: cheap enough for every command (pydantic's EmailStr costs some 17 µs)."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Judge the form in the core; one message for whatever is wrong with it, so that nothing of it is repeated."""
        return core_schema.custom_error_schema(
            core_schema.no_info_after_validator_function(_check_email, _EMAIL_SCHEMA),
            custom_error_type="email",
            custom_error_message=f"Input should be an e-mail address of at most {EMAIL_MAX_LENGTH} characters",
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell the form roughly, in a pattern that every regular expression engine understands.

        The format `email` would be wrong: it allows ASCII alone.
        """
        return {
            "type": "string",
            "description": "An e-mail address, in letters of any script",
            "maxLength": EMAIL_MAX_LENGTH,
            "pattern": r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
        }


Email = Annotated[str, _EmailRules()]
"""An e-mail address, as written but trimmed and NFC; told from others by its `fold_key`."""


# The store writes numbers out: 1e308 takes 309 digits there, and so would every answer. Canonical JSON has an exponent
# from 1e21 on, and below 1e-6.
_FARTHEST: Final = 1e40
_FAR_EXPONENT: Final = re.compile(rb"[0-9]e[+-](?:[4-9][0-9]|[0-9]{3})")


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Metadata of a dict field: a JSON object of at most `max_bytes` in canonical form and `max_depth` levels.

    Its keys and texts hold no refused character (an error names the place inside it); they are kept as they were sent,
    neither trimmed nor normalised, and so are its numbers, of which none but 0 is beyond 1e±40.
    """

    max_bytes: int
    max_depth: int = MAX_DEPTH // 2

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take the dict as it is: nothing in it is copied or converted."""
        return core_schema.no_info_plain_validator_function(
            self._check, json_schema_input_schema=core_schema.dict_schema(core_schema.str_schema())
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell the bounds in words: JSON Schema has none for bytes and levels."""
        size = f"{self.max_bytes} bytes" if self.max_bytes % 1024 else f"{self.max_bytes // 1024} KiB"
        bounds = f"At most {size} in canonical form (RFC 8785), {self.max_depth} levels"
        return {"type": "object", "description": bounds}

    def _check(self, value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise PydanticCustomError("json_object", "Input should be a JSON object")
        try:
            form = canonical(value)
        except (TypeError, ValueError):
            self._refuse_depth(value)
            _refuse_inside(value)
            raise PydanticCustomError("json_object", "Input should be a JSON object") from None
        if len(form) > self.max_bytes:
            context = {"max_bytes": self.max_bytes, "bytes": len(form)}
            raise PydanticCustomError("json_too_large", "JSON of {bytes} bytes, at most {max_bytes} are kept", context)
        # A level has two brackets at least
        if len(form) > 2 * self.max_depth and form.count(b"{") + form.count(b"[") > self.max_depth:
            self._refuse_depth(value)
        # Canonical JSON escapes nothing but quotes, backslashes and the control characters below U+0020.
        if b"\\" in form or (b"\x7f" in form if form.isascii() else _REFUSED.search(form.decode())):
            _refuse_inside(value)
        if (b"e+" in form or b"e-" in form) and _FAR_EXPONENT.search(form):  # or a text that looks like one
            _refuse_inside(value)
        return value

    def _refuse_depth(self, value: object) -> None:
        if is_deeper_than(self.max_depth, value):
            context = {"max_depth": self.max_depth}
            raise PydanticCustomError("json_too_deep", "JSON nested deeper than {max_depth} levels", context)


def _refuse_number(number: float) -> None:
    """Raise a PydanticCustomError for a number that takes up far more room written out than as it was sent."""
    if number and not 1 / _FARTHEST <= abs(number) <= _FARTHEST:
        raise PydanticCustomError("json_number", "A number's size must be between 1e-40 and 1e40, or 0")


def _refuse_inside(value: object) -> None:
    """Raise a ValidationError located at the first place, in a JSON value, that holds what is refused."""
    for place, leaf in _leaves(value, ()):
        try:
            _refuse_characters(leaf) if isinstance(leaf, str) else _refuse_number(leaf)
        except PydanticCustomError as error:
            raise ValidationError.from_exception_data(
                "JsonObject", [{"type": error, "loc": place, "input": None}], hide_input=True
            ) from None


def _leaves(value: object, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str | float]]:
    """Go through all keys, texts and doubles of a JSON value, each with its place; a key's is that of its object."""
    if isinstance(value, (str, float)):
        yield place, value
    elif isinstance(value, dict):
        for key, child in value.items():
            if isinstance(key, str):
                yield place, key
                yield from _leaves(child, (*place, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, (*place, index))
