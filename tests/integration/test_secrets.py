"""Personal data and secrets stay where they belong: every value is marked, and the marks are looked for everywhere."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import urlopen

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.command_line import command
from tests.system import Reply, System, WorkerProcess

Payload = Mapping[str, object]


@dataclass
class Marks:
    """Values that occur nowhere else, by what they are."""

    stem: str = field(default_factory=lambda: f"zq{uuid.uuid4().hex[:12]}")

    def name(self, whose: str = "") -> str:
        """Make a name."""
        return f"{self.stem} Name{whose}"

    def email(self, whose: str = "") -> str:
        """Make an e-mail address."""
        return f"{self.stem}{whose}@example.com"

    def preferences(self) -> dict[str, object]:
        """Make preferences: keys and values are personal alike."""
        return {f"{self.stem}-key": {f"{self.stem}-inner": [f"{self.stem}-value"]}}

    def customer(self, whose: str = "") -> dict[str, object]:
        """Make the payload of a creation."""
        return {"name": self.name(whose), "email": self.email(whose), "preferences": self.preferences()}


@dataclass
class Secrets:
    """What the workers are told, and nobody else may hear."""

    jwt: str = field(default_factory=lambda: f"jwt-{uuid.uuid4().hex}{uuid.uuid4().hex}")
    outcomes: str = field(default_factory=lambda: f"outcomes-{uuid.uuid4().hex}")
    letters: str = field(default_factory=lambda: f"letters-{uuid.uuid4().hex}")
    operator: str = field(default_factory=lambda: f"operator-{uuid.uuid4().hex}")

    def settings(self) -> dict[str, str]:
        """Name them as settings."""
        return {
            "OUTCOME_HMAC_KEY": self.outcomes,
            "DLQ_SIGNING_KEY": self.letters,
            "DLQ_OPERATOR_KEY": self.operator,
        }

    def all(self) -> list[str]:
        """List them."""
        return [self.outcomes, self.letters, self.operator]


async def tables_with(database_url: str, mark: str) -> dict[str, int]:
    """Search every column of every table of ours for a text, in any case; bytes are searched as such."""
    connection = await asyncpg.connect(database_url)
    try:
        columns = await connection.fetch(
            "select table_name, array_agg(column_name::text) filter (where udt_name in ('bytea', '_bytea')) as bytes"
            " from information_schema.columns join information_schema.tables using (table_schema, table_name)"
            " where table_schema = 'public' and table_type = 'BASE TABLE' group by table_name"
        )
        found = {}
        for table in columns:
            somewhere = ["strpos(lower(t::text), lower($1)) > 0"]
            somewhere += [
                f"position(convert_to($1, 'UTF8') in coalesce({column}, '')) > 0" for column in table["bytes"] or ()
            ]
            statement = f"select count(*) from {table['table_name']} t where {' or '.join(somewhere)}"
            if number := await connection.fetchval(statement, mark):
                found[table["table_name"]] = number
        return found
    finally:
        await connection.close()


async def redis_contents(url: str) -> AsyncIterator[str]:
    """Go through all keys and values of Redis."""
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter():
            yield key.decode("utf-8", "replace")
            match await redis.type(key):
                case b"string":
                    value: object = await redis.get(key)
                case b"zset":
                    value = await redis.zrange(key, 0, -1)
                case b"hash":
                    value = await redis.hgetall(key)
                case kind:
                    pytest.fail(f"a {kind!r} in Redis, which nobody looks into")
            yield repr(value)


# Logs, metrics, dead letters, messages -------------------------------------------------------------------------------


class Scenario:
    """All kinds, with marks in every place that a caller can write into."""

    def __init__(self, system: System, marks: Marks) -> None:
        self.system = system
        self.marks = marks
        self.replies: list[Reply] = []
        self.tokens: list[str] = []

    async def ask(
        self,
        side: str,
        kind: str,
        payload: Payload,
        status: int,
        *,
        token: str | None = None,
        message_id: str | None = None,
    ) -> Reply:
        """Send a request, each by another caller unless told, and remember what it was answered."""
        token = token or self.system.token(f"caller-{len(self.tokens)}")
        self.tokens.append(token)
        body = {"kind": kind, "payload": payload} | ({"version": 2} if kind == "create_product" else {})
        reply = await self.system.reply(await self.system.send(side, body, token=token, message_id=message_id))
        assert reply.status == status, (kind, reply.envelope)
        self.replies.append(reply)
        return reply

    async def commands(self) -> str:
        """Send commands of all kinds, to good and to bad ends; return the customer's id."""
        marks = self.marks
        created = await self.ask("commands", "create_customer", marks.customer(), 201, message_id="first")
        customer = {"customer_id": created.data["id"]}
        other = {"customer_id": (await self.ask("commands", "create_customer", marks.customer("2"), 201)).data["id"]}
        lines = {"lines": [{"mnemonic": "P", "quantity": 1, "unit_price": "2"}]}
        version = {"mnemonic": "P", "version_label": "1", "start_date": "2024-01-01"}
        rule = {"name": "r", "parameters": {"required": ["a"]}, "start_date": "2024-01-01", "end_date": "2024-01-02"}
        for kind, payload, status in (
            ("create_customer", marks.customer() | {"email": marks.email().upper()}, 409),
            ("create_customer", marks.customer() | customer, 409),
            ("create_customer", {"name": marks.name() + "\0", "email": marks.email("@")}, 422),
            ("create_customer", {marks.email(): 1}, 422),
            ("create_customer", marks.customer() | {"preferences": {marks.email(): {marks.name(): "\0"}}}, 422),
            (marks.email(), {}, 400),
            ("update_customer", customer | {"name": marks.name("b"), "preferences": marks.preferences()}, 200),
            ("update_customer", customer | {"name": marks.name("b")}, 200),
            ("update_customer", customer | {"email": marks.email("2")}, 409),
            ("update_customer", customer | {"email": marks.email("c"), "expected_version": 99}, 409),
            ("create_product", {"mnemonic": "P", "overview": "o", "category": "c"}, 201),
            ("update_product", {"mnemonic": "P", "overview": "p"}, 200),
            ("add_product_version", version | {"items": []}, 201),
            ("end_product_version", {"mnemonic": "P", "version_label": "1", "end_date": None}, 200),
            ("set_validation_rules", {"mnemonic": "P", "rules": [rule]}, 200),
            ("import_products", {"products": [{"mnemonic": "Q", "overview": ""}, {"mnemonic": "q"}]}, 200),
            ("place_order", customer | lines, 201),
            ("place_order", other | lines | {marks.email(): marks.name()}, 422),
            ("cancel_order", other | {"order_id": str(uuid.uuid4())}, 404),
            ("delete_product", {"mnemonic": "Q"}, 200),
            ("start_backfill", {"name": "none"}, 404),
        ):
            await self.ask("commands", kind, payload, status)
        await self.ask(
            "commands", "create_customer", marks.customer("x"), 409, message_id="first", token=self.tokens[0]
        )
        return str(created.data["id"])

    async def queries(self, customer_id: str) -> None:
        """Ask queries of all kinds."""
        marks, customer = self.marks, {"customer_id": customer_id}
        for kind, payload, status in (
            ("get_customer", customer, 200),
            ("search_customers", {"name_contains": marks.stem, "email_contains": marks.stem}, 200),
            ("search_customers", {"name_contains": marks.stem, "cursor": marks.email()}, 422),
            ("search_customers", {"name_contains": marks.stem + "\0"}, 422),
            ("get_customer_summary", customer, 200),
            ("get_customer_orders", customer, 200),
            ("customer_analytics", {}, 200),
            ("get_order", {"order_id": customer_id}, 404),
            ("get_product", {"mnemonic": "P"}, 200),
            ("list_products", {}, 200),
            ("search_products", {"mnemonic_contains": "P"}, 200),
            ("find_products_for_date_range", {"start_date": "2024-01-01", "end_date": "2024-01-02"}, 200),
            ("validate_product_data", {"mnemonic": "P", "data": {marks.stem: marks.name()}}, 200),
            ("list_backfills", {}, 200),
        ):
            await self.ask("queries", kind, payload, status)
        await self.ask("queries", "get_outcome", {"message_id": "first"}, 200, token=self.tokens[0])

    async def break_something(self) -> None:
        """Have a command meet a defect whose error repeats its row, and one whose reply has nowhere to go."""
        await self.system.fetch("alter table customers add constraint unlucky check (strpos(name, 'unlucky') = 0)")
        unlucky = self.marks.customer("3") | {"name": self.marks.name() + " unlucky"}
        await self.ask("commands", "create_customer", unlucky, 500)
        absent = {"reply_to": f"{self.system.prefix}.replies.absent"}
        body = {"kind": "create_customer", "payload": self.marks.customer("4")}
        await self.system.send("commands", body, headers=absent)

    async def send_what_is_put_aside(self) -> int:
        """Send what cannot be answered: its dead letter must not tell what was in it. Returns how many there are."""
        marks, system = self.marks, self.system
        quoted = json.dumps(marks.customer())
        odd = marks.customer() | {"preferences": {marks.email(): "\0"}}
        bodies: list[object] = [
            {"kind": "create_customer", "payload": {marks.email(): 1}},
            {"kind": "create_customer", "payload": odd},
            {"kind": marks.email(), "payload": {}},
            {"kind": "create_customer", "payload": marks.customer(), marks.email(): 1},
            f'{{"kind": "create_customer", "payload": {quoted}, "kind": "{marks.email()}"}}'.encode(),
            f"{marks.email()}".encode(),
        ]
        for body in bodies:
            self.tokens.append(system.token(f"nobody-{len(self.tokens)}"))
            capital = [("Authorization", f"Bearer {self.tokens[-1]}".encode())]
            await system.send("commands", body, token=self.tokens[-1], drop=("reply_to",), extra=capital)
        forged = f"Bearer {marks.email()}.{marks.stem}.{marks.stem}"
        await system.send("commands", b"{}", headers={"authorization": forged}, drop=("reply_to",))
        await system.send("commands", b"{}", headers={"reply_to": marks.email()})
        return len(bodies) + 2


def leaks(text: str, marks: Iterable[str]) -> list[str]:
    """Find the lines that hold a mark; what is around it, so that a failure tells where."""
    lowered = [mark.lower() for mark in marks]
    return [line[:2000] for line in text.splitlines() if any(mark in line.lower() for mark in lowered)]


async def page_of(worker: WorkerProcess) -> str:
    """Read a worker's metrics as text."""
    address = worker.metrics_url + "/metrics"
    content: bytes = await asyncio.to_thread(lambda: urlopen(address, timeout=15).read())  # noqa: S310 - our own worker
    return content.decode()


async def test_marks_are_in_no_output(system: System) -> None:
    """Names, e-mails, preferences, tokens and secrets are in no log line, metric, dead letter's note, or message."""
    marks, secrets = Marks(), Secrets()
    system.settings |= secrets.settings() | {"LOG_LEVEL": "DEBUG", "LOG_SUCCESSES_PER_S": "100000"}
    await asyncio.gather(system.start("commands"), system.start("queries"))
    scenario = Scenario(system, marks)
    customer_id = await scenario.commands()
    await scenario.queries(customer_id)
    await scenario.break_something()
    letters = await system.letters(await scenario.send_what_is_put_aside() + 2)
    assert set(await tables_with(system.database_url, marks.stem)) >= {"customers", "outcomes"}

    signatures = [token.rpartition(".")[2] for token in scenario.tokens]
    password = urlsplit(system.database_url).password or ""
    hidden = [marks.stem, *signatures, *secrets.all(), password]
    for worker in system.workers:
        log = worker.log.read_text()
        assert "db_commit" in log or "db_read" in log, "this is no log at DEBUG"
        assert leaks(log, hidden) == []
        assert leaks(await page_of(worker), hidden) == []
    assert '"incident"' in system.workers[0].log.read_text()
    for value, headers in letters:
        notes = "\n".join(content for name, content in headers.items() if name.startswith("dlq."))
        assert leaks(notes, hidden) == [], headers["dlq.reason"]
        assert leaks("\n".join(headers.values()) + (value or b"").decode("utf-8", "replace"), signatures) == []
    for reply in scenario.replies:
        assert leaks(reply.envelope["message"], hidden) == []
        assert leaks(reply.raw.decode(), signatures + secrets.all()) == []
    assert leaks("\n".join([text async for text in redis_contents(system.servers.env.redis_url)]), hidden) == []
    if system.servers.parts is not None:
        postgres = (system.servers.parts.state / "log" / "postgres.log").read_text()
        assert "unlucky" in postgres, "the broken constraint is not in Postgres' log: is this the log?"
        assert leaks(postgres, hidden) == []


# Erasure -------------------------------------------------------------------------------------------------------------


async def test_erased_for_good(system: System) -> None:
    """After delete_customer nothing personal is left in any table, whoever's outcome held it; ids stay usable."""
    marks, worker = Marks(), await system.start("commands")
    await system.start("queries")
    ada, eve = system.token("ada"), system.token("eve")
    created = await system.command("create_customer", marks.customer(), token=ada, message_id="1")
    customer = {"customer_id": created.data["id"]}
    eves = await system.command("create_customer", {"name": "Eve", "email": "eve@example.com"}, token=eve)
    await system.command("create_product", {"mnemonic": "P", "overview": ""}, version=2)
    line = {"mnemonic": "P", "quantity": 1, "unit_price": "2"}
    held: dict[tuple[str, str], tuple[str, dict[str, object], int]] = {
        (ada, "2"): ("update_customer", customer | {"name": marks.name("b"), "email": marks.email("b")}, 200),
        (ada, "3"): ("update_customer", customer | {"name": marks.name("b")}, 200),
        (ada, "4"): ("update_customer", customer | {"name": marks.name("c"), "expected_version": 9}, 409),
        (eve, "1"): ("create_customer", marks.customer("b"), 409),
        (eve, "2"): ("create_customer", marks.customer("d") | customer, 409),
        (eve, "3"): ("update_customer", {"customer_id": eves.data["id"], "email": marks.email("b")}, 409),
        (eve, "4"): (
            "update_customer",
            {"customer_id": eves.data["id"], "email": marks.email("b"), "expected_version": 9},
            409,
        ),
        (eve, "5"): ("update_customer", {"customer_id": str(uuid.uuid4()), "email": marks.email("b")}, 404),
    }
    for (token, message_id), (kind, payload, status) in held.items():
        assert (await system.command(kind, payload, token=token, message_id=message_id)).status == status
    placed = await system.command("place_order", customer | {"lines": [line]}, token=eve, message_id="order")
    assert placed.status == 201
    assert set(await tables_with(system.database_url, marks.stem)) >= {"customers", "outcomes"}

    deletion = await system.command("delete_customer", customer, token=eve, message_id="delete")
    assert deletion.envelope["data"] is None
    assert await tables_with(system.database_url, marks.stem) == {}
    left = await system.fetch(
        "select caller, message_id from outcomes where content_hmac is not null or envelope is not null"
    )
    kept = {(row["caller"], row["message_id"]) for row in left if row["caller"] in {"\nada", "\neve"}}
    created_by_eve = next(reply for reply in system.replies.values() if reply[0].data == eves.data)[0]
    assert kept == {("\neve", "order"), ("\neve", "delete"), ("\neve", created_by_eve.headers["in_reply_to"])}
    held[ada, "1"] = ("create_customer", marks.customer(), 201)
    for (token, message_id), (kind, payload, _) in held.items():
        again = await system.command(kind, payload, token=token, message_id=message_id)
        asked = await system.query("get_outcome", {"message_id": message_id}, token=token)
        assert (again.status, again.code) == (410, "OUTCOME_ERASED")
        assert asked.status == 200
        assert asked.data == again.envelope
    assert (await system.query("get_order", {"order_id": placed.data["id"]})).data["customer_id"] == customer[
        "customer_id"
    ]
    same = await system.command("place_order", customer | {"lines": [line]}, token=eve, message_id="order")
    assert same.raw == placed.raw
    assert (await system.command("create_customer", marks.customer("b"))).status == 201
    assert (await system.command("create_customer", marks.customer("e") | customer)).status == 409
    assert worker.process.returncode is None


@pytest.mark.parametrize("together", [True, False])
async def test_erased_within_a_batch(system: System, together: bool) -> None:
    """A customer who comes, changes and goes within one batch leaves nothing behind; in several batches neither."""
    marks, customer = Marks(), {"customer_id": str(uuid.uuid4())}
    if not together:
        await system.start("commands")
    sent = []
    for kind, payload, token in (
        ("create_customer", marks.customer() | customer, system.token("ada")),
        ("create_customer", marks.customer(), system.token("eve")),
        ("update_customer", customer | {"name": marks.name("b"), "email": marks.email("b")}, system.token("ada")),
        ("update_customer", customer | {"email": marks.email("c"), "expected_version": 9}, system.token("eve")),
        ("delete_customer", customer, system.token("ada")),
        ("create_customer", marks.customer() | customer, system.token("eve")),
    ):
        sent.append(await system.send("commands", {"kind": kind, "payload": payload}, key="same", token=token))
        if not together:
            await system.reply(sent[-1])
    if together:
        await system.start("commands")
    statuses = [(await system.reply(correlation_id)).status for correlation_id in sent]
    assert statuses == [201, 409, 200, 409, 200, 409]
    assert await tables_with(system.database_url, marks.stem) == {}
    left = await system.fetch("select count(*) from outcomes where envelope is not null")
    assert left[0][0] == 2, "the deletion's own outcome, and the refusal after it, which speaks of an id alone"


# The command line ----------------------------------------------------------------------------------------------------


async def catalog(*arguments: str, **settings: str) -> tuple[int, str]:
    """Run a command with nothing set but this; exit code, and all that it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "JWT_", "DATABASE"))}
    ended = await command(*arguments, env=kept | settings)
    return ended.code, ended.out + ended.err


async def test_settings_show_no_secret() -> None:
    """`catalog settings` masks every secret; a wrong setting is told in lines that do not repeat it."""
    mark = f"s3cret-{uuid.uuid4().hex}"
    secret_settings = (
        "JWT_SECRET", "OUTCOME_HMAC_KEY", "DLQ_SIGNING_KEY", "KAFKA_SECURITY_PASSWORD",
        "KAFKA_SECURITY_KEYFILE_PASSWORD",
    )  # fmt: skip
    given = {name: f"{mark}-{name}" for name in secret_settings}
    given["DATABASE_URL"] = f"postgresql://u:{mark}@localhost:1/db"
    given["REDIS_URL"] = f"redis://:{mark}@localhost:1/0"
    code, output = await catalog("settings", **given)
    assert code == 0
    assert mark not in output
    urls = {"DATABASE_URL": f"postgresql://u:{mark}@localhost:port/db", "REDIS_URL": f"http://:{mark}@localhost"}
    wrong = given | urls | {"JWT_SECRET": mark[:9], "DB_POOL_SIZE": mark, "RATE_LIMIT_OVERRIDES": mark}
    code, output = await catalog("worker", "commands", **wrong)
    assert code == 2
    assert mark[:9] not in output
    names = [line.split(": ")[1] for line in output.splitlines()]
    assert sorted(names) == sorted(["DATABASE_URL", "DB_POOL_SIZE", "JWT_SECRET", "RATE_LIMIT_OVERRIDES", "REDIS_URL"])
