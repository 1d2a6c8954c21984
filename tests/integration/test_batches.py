"""What one batch, and two workers at once, make of the same names."""

import asyncio
import uuid

from tests.system import Reply, System

Command = tuple[str, dict[str, object]]


async def in_one_batch(system: System, *commands: Command, ids: dict[int, str] | None = None) -> list[Reply]:
    """Publish commands to one partition before a worker starts, so that they arrive as one batch; their replies."""
    sent = []
    for place, (kind, payload) in enumerate(commands):
        body = {"kind": kind, "payload": payload}
        sent.append(await system.send("commands", body, partition=0, message_id=(ids or {}).get(place)))
    await system.flush()
    worker = await system.start()
    replies = [await system.reply(correlation_id) for correlation_id in sent]
    metrics = await system.metrics(worker)
    assert metrics["catalog_batch_messages_count"] == 1, "not one batch"
    return replies


def customer(email: str, customer_id: str) -> Command:
    """Make a creation."""
    return "create_customer", {"name": "N", "email": email, "customer_id": customer_id}


async def test_swap_of_two_emails(system: System) -> None:
    """Two customers trade their e-mails through a third one, within one batch."""
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    replies = await in_one_batch(
        system,
        customer("one@example.com", one),
        customer("two@example.com", two),
        ("update_customer", {"customer_id": one, "email": "third@example.com"}),
        ("update_customer", {"customer_id": two, "email": "one@example.com"}),
        ("update_customer", {"customer_id": one, "email": "two@example.com"}),
    )
    assert [reply.status for reply in replies] == [201, 201, 200, 200, 200]
    rows = await system.fetch("select id::text, email from customers")
    assert {row["id"]: row["email"] for row in rows} == {one: "two@example.com", two: "one@example.com"}


async def test_swap_of_stored_emails(system: System) -> None:
    """The same trade between customers that were stored before the batch."""
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    worker = await system.start()
    for kind, payload in (customer("one@example.com", one), customer("two@example.com", two)):
        assert (await system.command(kind, payload)).status == 201
    worker.process.terminate()
    await worker.ended()
    replies = await in_one_batch(
        system,
        ("update_customer", {"customer_id": one, "email": "third@example.com"}),
        ("update_customer", {"customer_id": two, "email": "one@example.com"}),
        ("update_customer", {"customer_id": one, "email": "two@example.com"}),
    )
    assert [reply.status for reply in replies] == [200, 200, 200]
    rows = await system.fetch("select id::text, email from customers")
    assert {row["id"]: row["email"] for row in rows} == {one: "two@example.com", two: "one@example.com"}


async def test_create_delete_create_of_one_email(system: System) -> None:
    """An e-mail is free again right after its customer was deleted; the deleted id stays taken."""
    one = str(uuid.uuid4())
    replies = await in_one_batch(
        system,
        customer("a@example.com", one),
        ("delete_customer", {"customer_id": one}),
        customer("A@example.com", str(uuid.uuid4())),
        customer("b@example.com", one),
    )
    assert [reply.status for reply in replies] == [201, 200, 201, 409]
    assert (await system.fetch("select count(*) from customers where deleted_at is null"))[0][0] == 1


async def test_the_same_id_twice_in_a_batch(system: System) -> None:
    """The second delivery of an id is answered from the first one's outcome; with other content it is refused."""
    create: Command = ("create_customer", {"name": "N", "email": "a@example.com"})
    other: Command = ("create_customer", {"name": "M", "email": "b@example.com"})
    first, second, third = await in_one_batch(system, create, create, other, ids={0: "x", 1: "x", 2: "x"})
    assert (first.status, first.headers.get("replayed")) == (201, None)
    assert (second.raw, second.headers.get("replayed")) == (first.raw, "true")
    assert (third.status, third.code) == (409, "MESSAGE_ID_REUSED")


async def test_update_of_a_customer_created_in_the_batch(system: System) -> None:
    """A message sees what earlier messages of its batch did."""
    one = str(uuid.uuid4())
    replies = await in_one_batch(
        system,
        customer("a@example.com", one),
        customer("b@example.com", str(uuid.uuid4())),
        customer("a@example.com", str(uuid.uuid4())),
        ("update_customer", {"customer_id": one, "name": "New", "expected_version": 1}),
    )
    assert [reply.status for reply in replies] == [201, 201, 409, 200]
    assert replies[3].data["version"] == 2


async def test_erasure_reaches_the_outcomes_of_its_own_batch(system: System) -> None:
    """Create, update and delete in one batch leave no personal data in any row, and the ids stay used."""
    one = str(uuid.uuid4())
    await in_one_batch(
        system,
        ("create_customer", {"name": "Secret Name", "email": "secret@example.com", "customer_id": one}),
        ("create_customer", {"name": "Other", "email": "SECRET@example.com"}),
        ("update_customer", {"customer_id": one, "name": "Secret Too"}),
        ("delete_customer", {"customer_id": one}),
        ids={0: "c", 1: "d", 2: "u", 3: "e"},
    )
    rows = await system.fetch("select message_id, envelope is null as erased, content_hmac is null as h from outcomes")
    assert {row["message_id"]: (row["erased"], row["h"]) for row in rows} == {
        "c": (True, True),
        "d": (True, True),
        "u": (True, True),
        "e": (False, False),
    }
    again = await system.command(
        "create_customer", {"name": "Secret Name", "email": "secret@example.com"}, message_id="c"
    )
    assert (again.status, again.code) == (410, "OUTCOME_ERASED")


async def test_two_workers_race_for_one_email(system: System) -> None:
    """200 rounds: two workers get the same e-mail at once; one answers 201, the other 409, and nothing is a defect."""
    await asyncio.gather(system.start(), system.start())
    rounds = []
    for _ in range(200):
        email = f"{uuid.uuid4().hex}@example.com"
        body = {"kind": "create_customer", "payload": {"name": "N", "email": email}}
        rounds.append([await system.send("commands", body, partition=partition) for partition in range(4)])
    for sent in rounds:
        statuses = sorted([(await system.reply(correlation_id)).status for correlation_id in sent])
        assert statuses == [201, 409, 409, 409]
    assert await system.dead_letters() == []


async def test_statements_do_not_grow_with_the_batch(system: System) -> None:
    """A batch of 400 creations takes as many statements as a batch of 4."""
    counts = []
    await system.fetch("create extension if not exists pg_stat_statements")
    for number in (4, 400):
        sent = []
        for _ in range(number):
            body = {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}
            sent.append(await system.send("commands", body, partition=0))
        await system.flush()
        before = await statements(system)
        worker = await system.start()
        for correlation_id in sent:
            assert (await system.reply(correlation_id)).status == 201
        counts.append(await statements(system) - before)
        metrics = await system.metrics(worker)
        assert metrics["catalog_batch_messages_count"] == 1
        worker.process.terminate()
        await worker.ended()
    assert counts[0] == counts[1] > 0, counts


async def statements(system: System) -> int:
    """Count the statements about our tables, transactions and locks, that this database has run."""
    rows = await system.fetch(
        "select coalesce(sum(calls), 0) as calls from pg_stat_statements s join pg_database d on d.oid = s.dbid "
        "where d.datname = current_database() and query ~ 'outcome|customers|products|orders|advisory|^commit|^begin' "
        "and query !~ 'pg_stat|alembic|from outcome_erasures order by'"
    )
    return int(rows[0]["calls"])


async def test_an_id_used_again_after_its_customer_was_deleted_in_the_same_batch(system: System) -> None:
    """Create, delete, and the creation's id again, with the same and with other content: 410 both times."""
    one = str(uuid.uuid4())
    replies = await in_one_batch(
        system,
        customer("a@example.com", one),
        ("delete_customer", {"customer_id": one}),
        customer("a@example.com", one),
        customer("b@example.com", one),
        ids={0: "m", 2: "m", 3: "m"},
    )
    assert [(reply.status, reply.code) for reply in replies] == [
        (201, None),
        (200, None),
        (410, "OUTCOME_ERASED"),
        (410, "OUTCOME_ERASED"),
    ]
