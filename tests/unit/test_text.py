"""The rules of text, JSON objects and e-mail addresses, as a field of a payload meets them."""

import unicodedata
from typing import Annotated

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from contracts.text import EMAIL_MAX_LENGTH, Email, JsonObject, Text, fold_key


class Payload(BaseModel):
    """A payload with one field of each sort, as strict as the real ones."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Text(1, 10)] = "Ada"
    email: Email = "ada@example.com"
    preferences: Annotated[dict[str, object], JsonObject(100, max_depth=4)] | None = None


def refusal(**fields: object) -> tuple[str, str, str]:
    """Validate; return field, type and message of the one error."""
    with pytest.raises(ValidationError) as refused:
        Payload.model_validate(fields)
    errors = refused.value.errors(include_url=False, include_context=False, include_input=False)
    assert len(errors) == 1
    return ".".join(str(part) for part in errors[0]["loc"]), errors[0]["type"], errors[0]["msg"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Ada", "Ada"),
        (" \t Ada\n", "Ada"),
        ("\u3000Ada\u2003", "Ada"),
        ("e\u0301" * 10, "é" * 10),
        ("Zoë 😀", "Zoë 😀"),
        ("\u200fאבג", "\u200fאבג"),
        ("a\u2028b", "a\u2028b"),
        ("%_\\<b>'", "%_\\<b>'"),
    ],
)
def test_text_is_trimmed_and_normalised_before_it_is_measured(sent: str, kept: str) -> None:
    """White space around it goes, NFC is what is kept and counted, nothing else is changed or escaped."""
    assert Payload(name=sent).name == kept


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ("", "string_too_short"),
        (" \n", "string_too_short"),
        ("a" * 11, "string_too_long"),
        ("e\u0301" * 11, "string_too_long"),
        ("é" * 41, "string_too_long"),
        ("\u0958" * 6, "string_too_long"),
        (5, "string_type"),
        (None, "string_type"),
        ("a\ud800", "string_unicode"),
    ],
)
def test_text_of_the_wrong_length_or_type(sent: object, error: str) -> None:
    """Length counts code points of the normal form, also where normalising makes the text longer."""
    assert refusal(name=sent)[:2] == ("name", error)


@pytest.mark.parametrize(
    ("character", "error"),
    [
        *((chr(code), "text_control") for code in (*range(0x20), *range(0x7F, 0xA0))),
        *((chr(code), "text_bidirectional") for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
        *((chr(code), "text_noncharacter") for code in (*range(0xFDD0, 0xFDF0), 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF)),
    ],
)
def test_refused_characters(character: str, error: str) -> None:
    """Control characters, bidirectional controls and noncharacters are refused by name, in text and inside JSON."""
    assert refusal(name=f"a{character}b")[:2] == ("name", error)
    assert f"U+{ord(character):04X}" in refusal(name=f"a{character}b")[2]
    assert refusal(preferences={"a": [{"b": f"x{character}"}]})[:2] == ("preferences.a.0.b", error)
    assert refusal(preferences={"a": {f"x{character}": 1}})[:2] == ("preferences.a", error)


def test_heaped_marks_are_refused() -> None:
    """A text whose normalisation would take long is refused; 30 marks on one letter pass."""
    adapter = TypeAdapter(Annotated[str, Text(1, 1000)])
    assert adapter.validate_python("a" + "\u0316\u0301" * 15)
    with pytest.raises(ValidationError, match="at most 30 combining marks in a row"):
        adapter.validate_python("a" + "\u0316\u0301" * 1900)


@given(st.text(max_size=40))
def test_text_is_stable(sent: str) -> None:
    """What is kept once is kept as it is when it is sent again, and is NFC, trimmed and within its limits."""
    try:
        kept = Payload(name=sent).name
    except ValidationError:
        return
    assert Payload(name=kept).name == kept
    assert unicodedata.is_normalized("NFC", kept)
    assert 1 <= len(kept) <= 10


@given(st.text())
@example("\u0390\u03aa\u0301")
def test_fold_key_is_nfkc_casefold(text: str) -> None:
    """A key is normal, folds to itself, and is that of texts alike but for case, composition or compatibility."""
    key = fold_key(text)
    assert fold_key(key) == key == unicodedata.normalize("NFKC", key)
    assert fold_key(unicodedata.normalize("NFKC", text)) == key
    assert fold_key(unicodedata.normalize("NFD", text)) == fold_key(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ADA@Example.COM", "ada@example.com"),
        ("stra\u00dfe", "STRASSE"),
        ("\uff21\uff44\uff41", "ada"),
        ("\u212a", "k"),
        ("\u0390", "\u03aa\u0301"),  # iota with dialytika and tonos, and its capital
        ("\u03b0@x.gr", "\u03ab\u0301@X.GR"),
        ("\u1fb7", "\u0391\u0342\u0399"),
        ("\u01f0", "J\u030c"),
        ("\u1e96", "H\u0331"),
        ("\u0149", "\u02bcN"),
        ("a\u00adda", "A\u200dDA"),  # a soft hyphen, a joiner: nobody sees them
        ("\u2764\ufe0f", "\u2764"),
    ],
)
def test_fold_key_brings_together(one: str, other: str) -> None:
    """Case, sharp s, full-width letters and compatibility signs do not tell two names apart."""
    assert fold_key(one) == fold_key(other)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Ada.Lovelace@Example.COM", "Ada.Lovelace@Example.COM"),
        (" a@b.c\n", "a@b.c"),
        ("a+b/c=d!#$%&'*?^_`{|}~-@b-c.d1.de", "a+b/c=d!#$%&'*?^_`{|}~-@b-c.d1.de"),
        ("zoe\u0308@ex\u00e4mple.de", "zoë@exämple.de"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("a" * (EMAIL_MAX_LENGTH - 12) + "@example.com", "a" * (EMAIL_MAX_LENGTH - 12) + "@example.com"),
        # measured once it is composed: of each of these, the text that is sent is longer than what is kept may be
        ("e\u0301" * (EMAIL_MAX_LENGTH - 5) + "@b.de", "\u00e9" * (EMAIL_MAX_LENGTH - 5) + "@b.de"),
        ("a@" + "o\u0308" * (EMAIL_MAX_LENGTH - 5) + ".de", "a@" + "\u00f6" * (EMAIL_MAX_LENGTH - 5) + ".de"),
        (" " * 300 + "a\u0323\u0302" * 150 + "@b.de", "\u1ead" * 150 + "@b.de"),
        ("\u1100\u1161\u11a8" * 200 + "@b.de", "\uac01" * 200 + "@b.de"),
        ("\u03b9\u0308\u0301" * (EMAIL_MAX_LENGTH - 5) + "@b.de", "\u0390" * (EMAIL_MAX_LENGTH - 5) + "@b.de"),
    ],
)
def test_email_is_answered_as_written(sent: str, kept: str) -> None:
    """An address keeps its case; it is trimmed and NFC like every text, and may be of any script."""
    assert Payload(email=sent).email == kept


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "ada",
        "@b.de",
        "a@",
        "a@b",
        "a@@b.de",
        "a@b@c.de",
        "a b@c.de",
        ".a@b.de",
        "a.@b.de",
        "a..b@c.de",
        "a@-b.de",
        "a@b-.de",
        "a@b..de",
        "a@b.de.",
        "a@b_c.de",
        '"a"@b.de',
        "a,b@c.de",
        "Ada <a@b.de>",
        "a\x00@b.de",
        "a\u200b@b.de",
        "a\u202e@b.de",
        "\u037e@b.de",  # NFC makes a semicolon of it
        "a\uff20b@c.de",  # NFKC makes a second @ of it
        "\ufdfa" * 20 + "@b.de",  # NFKC makes 18 characters of each
        "a" * (EMAIL_MAX_LENGTH - 11) + "@example.com",
        "e\u0301" * (EMAIL_MAX_LENGTH - 4) + "@b.de",
        "\ufb2c" * 100 + "@b.de",  # NFC takes it apart: three for each
        "\ufe0f@b.de",  # folding leaves nothing before the @
        "a" + "\u0316" * 31 + "@b.de",
        5,
        None,
    ],
)
def test_what_is_no_email(sent: object) -> None:
    """Whatever is wrong with an address, the message is the same and repeats nothing of it."""
    assert refusal(email=sent) == ("email", "email", "Input should be an e-mail address of at most 254 characters")


def test_json_objects_are_kept_as_sent() -> None:
    """Content, order and numbers of a JSON object stay, quotes and backslashes too; null is allowed where it is."""
    preferences = {"z": 1, "a": [1.5, True, None, {"q": '"\\é'}]}
    kept = Payload(preferences=preferences).preferences
    assert kept == preferences
    assert kept is not None
    assert list(kept) == ["z", "a"]
    assert Payload(preferences=None).preferences is None
    assert Payload.model_validate_json(b'{"preferences":{"a":1}}').preferences == {"a": 1}


@pytest.mark.parametrize(
    ("sent", "field", "error"),
    [
        ([], "preferences", "json_object"),
        ("{}", "preferences", "json_object"),
        ({1: 2}, "preferences", "json_object"),
        ({"a": object()}, "preferences", "json_object"),
        ({"a": "\ud800"}, "preferences.a", "text_noncharacter"),
        ({"a": "x" * 93}, "preferences", "json_too_large"),
        ({"a": {"a": {"a": {"a": {}}}}}, "preferences", "json_too_deep"),
        ({"a": [1e21, 1e41]}, "preferences.a.1", "json_number"),
        ({"a": -1e308}, "preferences.a", "json_number"),
        ({"a": 9e-41}, "preferences.a", "json_number"),
    ],
)
def test_json_objects_are_bounded(sent: object, field: str, error: str) -> None:
    """No other type, no more bytes in canonical form, no deeper than declared, no number that is long written out."""
    assert Payload(preferences={"a": [0.0, 1e40, -1e-40], "b": "1e+99"}).preferences
    assert refusal(preferences=sent)[:2] == (field, error)
    assert Payload(preferences={"a": "x" * 92}).preferences
    assert Payload(preferences={"a": {"a": {"a": {}}}}).preferences


def test_depth_beyond_every_stack() -> None:
    """An object nested thousands of levels deep is refused like any other that is too deep."""
    nested: dict[str, object] = {}
    for _ in range(5000):
        nested = {"a": nested}
    assert refusal(preferences=nested)[:2] == ("preferences", "json_too_deep")


def test_the_contract_tells_the_limits() -> None:
    """The exported JSON Schema carries lengths, the address's form and the bounds of a JSON object."""
    fields = Payload.model_json_schema()["properties"]
    assert (fields["name"]["minLength"], fields["name"]["maxLength"]) == (1, 10)
    assert ("format" in fields["email"], fields["email"]["maxLength"]) == (False, 254)
    assert fields["preferences"]["anyOf"][0] == {
        "type": "object",
        "description": "At most 100 bytes in canonical form (RFC 8785), 4 levels",
    }
