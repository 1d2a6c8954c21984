"""One bad record costs one record, and the worker goes on."""

import json
import uuid

import pytest

from tests.system import ADMIN, System

Headers = list[tuple[str, bytes | None]]


def creation() -> dict[str, object]:
    """Make a good command."""
    return {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}


BAD: dict[str, tuple[dict[str, object], tuple[int, str] | None, str | None]] = {
    # name: how to send it; the answer (status, code), or None; the dead letter's reason, or None
    "no json": ({"body": b"{"}, (400, "MALFORMED_MESSAGE"), None),
    "empty": ({"body": b""}, (400, "MALFORMED_MESSAGE"), None),
    "a list": ({"body": b"[]"}, (400, "MALFORMED_MESSAGE"), None),
    "not utf-8": ({"body": b"\xff\xfe\x00"}, (400, "MALFORMED_MESSAGE"), None),
    "1 MB body": ({"body": b'{"kind": "' + b"x" * 1_000_000 + b'"}'}, (413, "MESSAGE_TOO_LARGE"), None),
    "unknown field": ({"body": {**creation(), "extra": 1}}, (400, "MALFORMED_MESSAGE"), None),
    "unknown kind": ({"body": {"kind": "nonsense", "payload": {}}}, (400, "UNKNOWN_KIND"), None),
    "unknown version": ({"body": {**creation(), "version": 99}}, (400, "UNSUPPORTED_VERSION"), None),
    "a query": ({"body": {"kind": "search_customers", "payload": {}}}, (400, "MALFORMED_MESSAGE"), None),
    "no message_id": ({"drop": ("message_id",)}, (400, "MALFORMED_MESSAGE"), None),
    "null message_id": ({"drop": ("message_id",), "extra": [("message_id", None)]}, (400, "MALFORMED_MESSAGE"), None),
    "two message_ids": ({"extra": [("message_id", b"x")]}, (400, "MALFORMED_MESSAGE"), None),
    "long message_id": ({"headers": {"message_id": "x" * 129}}, (400, "MALFORMED_MESSAGE"), None),
    "bad deadline": ({"headers": {"deadline": "soon"}}, (400, "MALFORMED_MESSAGE"), None),
    "bad content-type": ({"headers": {"content-type": "text/xml"}}, (400, "MALFORMED_MESSAGE"), None),
    "null authorization": (
        {"drop": ("authorization",), "extra": [("authorization", None)]},
        (400, "MALFORMED_MESSAGE"),
        None,
    ),
    "no authorization": ({"drop": ("authorization",)}, (401, "UNAUTHENTICATED"), None),
    "17 KiB of headers": ({"headers": {"x": "y" * 17 * 1024}}, (413, "MESSAGE_TOO_LARGE"), None),
    "foreign reply_to": ({"headers": {"reply_to": "elsewhere"}}, None, "REPLY_TO_UNUSABLE"),
    "null reply_to": ({"drop": ("reply_to",), "extra": [("reply_to", None)]}, None, "REPLY_TO_UNUSABLE"),
    "two reply_tos": ({"extra": [("reply_to", b"x")]}, None, "REPLY_TO_UNUSABLE"),
    "undecodable header key": ({"extra": [("UNDECODABLE", b"1")]}, None, "UNREADABLE_RECORD"),
    "reader": ({"token": System.token(roles=["catalog_reader"])}, (403, "FORBIDDEN"), None),
    "bad token": ({"token": "nonsense"}, (401, "UNAUTHENTICATED"), None),
    "no reply_to, malformed": ({"body": b"{", "drop": ("reply_to",)}, None, "MALFORMED_MESSAGE"),
}


async def test_each_bad_record_between_two_good_ones(system: System) -> None:
    """Each bad record is answered or dead-lettered as the contract says; its neighbours are applied; no restart."""
    worker = await system.start()
    good, bad = [], {}
    for name, (manner, _, _) in BAD.items():
        good.append(await system.send("commands", creation(), key="same"))
        how = dict(manner)
        body = how.pop("body", None) or (b"" if name == "empty" else creation())
        if name == "undecodable header key":
            await system.send_undecodable("commands", creation(), key="same")
            continue
        bad[name] = await system.send("commands", body, key="same", **how)  # type: ignore[arg-type]
    good.append(await system.send("commands", creation(), key="same"))
    for correlation_id in good:
        assert (await system.reply(correlation_id)).status == 201
    for name, (_, answer, _) in BAD.items():
        if answer is not None:
            reply = await system.reply(bad[name])
            assert (reply.status, reply.code) == answer, (name, reply.envelope)
    expected = sorted(reason for _, _, reason in BAD.values() if reason is not None)
    letters = await system.letters(len(expected))
    assert sorted(headers["dlq.reason"] for _, headers in letters) == expected
    assert all("authorization" not in headers for _, headers in letters)
    assert (await system.fetch("select count(*) from customers"))[0][0] == len(good)
    assert worker.process.returncode is None


async def test_a_query_that_cannot_be_answered(system: System) -> None:
    """A query without reply_to is dead-lettered; one without correlation_id is answered under its message_id."""
    await system.start("queries")
    await system.send("queries", {"kind": "search_customers", "payload": {}}, drop=("reply_to",))
    message_id = uuid.uuid4().hex
    body = {"kind": "search_customers", "payload": {}}
    await system.send("queries", body, message_id=message_id, drop=("correlation_id",))
    reply = await system.reply(message_id)
    assert (reply.status, reply.code) == (400, "MALFORMED_MESSAGE")
    letters = await system.letters(1, "queries")
    assert [headers["dlq.reason"] for _, headers in letters] == ["MALFORMED_MESSAGE"]


@pytest.mark.parametrize("roles", [ADMIN])
async def test_dead_letter_names_its_origin(system: System, roles: tuple[str, ...]) -> None:
    """A dead letter carries the original key and value, where it came from, who sent it, and a signature."""
    await system.start()
    mark = uuid.uuid4().hex
    body = json.dumps(creation()).encode()
    await system.send(
        "commands", body, key=mark, headers={"reply_to": "elsewhere"}, token=system.token("sender", roles)
    )
    ((value, headers),) = await system.letters(1)
    assert value == body
    wanted = {"dlq.reason", "dlq.detail", "dlq.topic", "dlq.partition", "dlq.offset", "dlq.timestamp", "dlq.attempts"}
    assert wanted | {"dlq.failed_at", "dlq.worker", "dlq.signature"} <= headers.keys()
    assert headers["dlq.topic"] == f"{system.prefix}.commands"
