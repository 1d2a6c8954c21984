"""Nobody in between: TLS and passwords for Kafka, TLS for Postgres and Redis; and nobody may do more than it needs.

A stack of its own: Kafka with a SASL_SSL listener, one that asks for certificates, and rights; Postgres with TLS.
The embedded Redis speaks no TLS, so a proxy does that in front of it. The rights are those of `workers/kafka/ACLS.md`.
"""

import asyncio
import base64
import json
import os
import shutil
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAuthorizationFailedError

from contracts.topics import Topics
from migrations import runner
from migrations.roles import grant_worker
from tests.command_line import Finished, command
from tests.kafka_access import Authority, allow, documented, set_password
from tests.servers import Given, Servers
from tests.system import SECRET, System
from workers.kafka.connection import reach_broker
from workers.kafka.observation import SilentObserver
from workers.kafka.producer import PatientProducer
from workers.kafka.replies import Publisher
from workers.kafka.security import KafkaSecurity, Mechanism
from workers.kafka.topics import TopicAdmin
from workers.ports import Message
from workers.stack.accounts import unprivileged_account
from workers.stack.embedded import EmbeddedStack

PASSWORD: Final = "the-right-password-" + uuid.uuid4().hex
PREFIX: Final = f"s{uuid.uuid4().hex[:10]}"
_MODULES: Final = "org.apache.kafka.common.security"


class Unsigned:
    """Gives tokens that name the command worker, unsigned: what the embedded broker's default handler takes."""

    async def token(self) -> str:
        """Make one."""
        parts = ({"alg": "none"}, {"sub": "commander", "iat": 1, "exp": 4_102_444_800})
        return (
            ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
        )


@dataclass(frozen=True)
class Place:
    """A stack with its certificates, and a database whose tables a worker's role may use."""

    stack: EmbeddedStack
    authority: Authority
    strangers: Authority
    servers: Servers
    database_url: str
    """As the workers' role."""

    @property
    def secure(self) -> str:
        """Where Kafka asks for a password."""
        return self.stack.listener_servers("SECURE")

    @property
    def mutual(self) -> str:
        """Where Kafka asks for a certificate."""
        return self.stack.listener_servers("MUTUAL")

    def over_tls(self, mode: str = "verify-full", authority: Authority | None = None) -> str:
        """The database's URL, over TLS."""
        return f"{self.database_url}?sslmode={mode}&sslrootcert={(authority or self.authority).file}"

    def by_password(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """Name the settings for the secure listener."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.secure,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SECURITY_SASL_MECHANISM": mechanism,
            "KAFKA_SECURITY_USERNAME": user,
            "KAFKA_SECURITY_PASSWORD": PASSWORD,
            "KAFKA_SECURITY_CAFILE": str(self.authority.file),
        }

    def by_certificate(self, name: str, signer: Authority | None = None) -> dict[str, str]:
        """Name the settings for the listener that asks for certificates."""
        certificate, key = (signer or self.authority).sign(name)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.mutual,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SECURITY_CAFILE": str(self.authority.file),
            "KAFKA_SECURITY_CERTFILE": str(certificate),
            "KAFKA_SECURITY_KEYFILE": str(key),
        }

    def certified(self, name: str) -> KafkaSecurity:
        """Be somebody with a certificate."""
        certificate, key = self.authority.sign(name)
        return KafkaSecurity("SSL", cafile=str(self.authority.file), certfile=str(certificate), keyfile=str(key))

    async def admin(self) -> AIOKafkaAdminClient:
        """Connect as somebody who may do everything."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.env.kafka_bootstrap_servers)
        await admin.start()
        return admin


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that also Postgres' account may enter."""
    path = Path(tempfile.mkdtemp(prefix="catalog-tls-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def secured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedStack, Authority]]:
    """Start the servers."""
    authority = Authority(folder, "authority")
    certificate, key = authority.sign("server")
    (folder / "server.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    state = tmp_path_factory.mktemp("secured")
    key.chmod(0o600)
    account = unprivileged_account(state / "nothing")
    if account is not None:
        account.owns(key)
    logins = " ".join(f'user_{name}="{PASSWORD}"' for name in ("commander", "halfway", "stranger"))
    stack = EmbeddedStack(
        state,
        kafka_listeners={"SECURE": "SASL_SSL", "MUTUAL": "SSL"},
        kafka_config={
            "group.min.session.timeout.ms": "2000",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "server.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.file),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=([a-z]+)$/$1/,DEFAULT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.secure.plain.sasl.jaas.config": f"{_MODULES}.plain.PlainLoginModule required {logins};",
            "listener.name.secure.scram-sha-256.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.secure.oauthbearer.sasl.jaas.config": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule"
            ' required unsecuredLoginStringClaim_sub="broker";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
        postgres_config={"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)},
    )
    stack.up()
    try:
        yield stack, authority
    finally:
        stack.down()
        stack.wipe()


@pytest.fixture(scope="module")
async def place(secured: tuple[EmbeddedStack, Authority], folder: Path) -> Place:
    """Make the schema, the workers' role, passwords and rights: those of the list."""
    stack, authority = secured
    env = stack.environment()
    servers = Servers(Given(env.kafka_bootstrap_servers, env.database_url, env.redis_url), stack, 2000)
    await runner.upgrade(env.database_url + f"?sslmode=verify-full&sslrootcert={authority.file}")
    role = f"worker_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(env.database_admin_url)
    await connection.execute(
        f"create role {role} login password '{PASSWORD}'; create role beggar login password '{PASSWORD}'"
    )
    await connection.close()
    await grant_worker(env.database_admin_url, role)
    url = urlsplit(env.database_url)._replace(
        netloc=f"{role}:{PASSWORD}@{urlsplit(env.database_url).netloc.rpartition('@')[2]}"
    )
    made = Place(stack, authority, Authority(folder, "strangers"), servers, url.geturl())
    admin = await made.admin()
    for user in ("commander", "halfway", "stranger"):
        await set_password(admin, user, PASSWORD)
    commander = documented("Command worker", PREFIX)
    await allow(admin, "commander", *commander)
    await allow(admin, "asker", *documented("Query worker", PREFIX))
    await allow(admin, "halfway", *(right for right in commander if right.resource != "Group"))
    await allow(admin, "maker", *documented("Whoever runs", PREFIX))
    caller = [replace(right, name=right.name.replace("<name>", "test")) for right in documented("A caller", PREFIX)]
    await allow(admin, "caller", *caller)
    await admin.close()
    async with TopicAdmin(made.mutual, made.certified("maker")) as maker:
        reports = await maker.create_topics(Topics(PREFIX), partitions=4)
    assert {report.outcome for report in reports} == {"created"}
    return made


@asynccontextmanager
async def tls_in_front_of(place: Place) -> AsyncIterator[str]:
    """Speak TLS in front of the stack's Redis; yields the URL that trusts our authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*place.authority.sign("redis"))
    target = urlsplit(place.servers.env.redis_url)

    writers: set[asyncio.StreamWriter] = set()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(passed_on(reader, downstream), passed_on(upstream, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={place.authority.file}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_all_of_it_over_tls(place: Place, tmp_path: Path) -> None:
    """Workers with the listed rights, and no others, do all their work over TLS; what is not listed is denied them."""
    system = System(place.servers, place.database_url, prefix=PREFIX, shares_topics=True, logs=tmp_path)
    async with tls_in_front_of(place) as redis_url, system:
        system.settings |= {"DATABASE_URL": place.over_tls(), "REDIS_URL": redis_url, "LOG_LEVEL": "WARNING"}
        for role, settings in (
            ("commands", place.by_password("commander")),
            ("queries", place.by_certificate("asker")),
        ):
            system.settings |= settings
            await system.start(role)
        created = await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})
        assert created.status == 201
        read = await system.query("get_customer", {"customer_id": created.data["id"]})
        assert read.data == created.data
        await system.send("commands", b"{", drop=("reply_to",))
        await system.letters(1)
        for worker in system.workers:
            metrics = await system.metrics(worker)
            assert metrics["catalog_rate_limit_fallbacks_total"] == 0
            assert "topics_unchecked" not in worker.log.read_text()
        await what_is_not_listed(system, place)
        await what_a_caller_does(system, place)
        assert await sessions(place) == {True}


async def sessions(place: Place) -> set[bool]:
    """Whether the sessions of the workers' role are encrypted."""
    connection = await asyncpg.connect(place.stack.environment().database_admin_url)
    try:
        rows = await connection.fetch(
            "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename like 'worker%'"
        )
        return {row["ssl"] for row in rows}
    finally:
        await connection.close()


def by_password(place: Place, mechanism: Mechanism = "SCRAM-SHA-256", password: str = PASSWORD) -> KafkaSecurity:
    """Be the command worker."""
    provider = f"{__name__}:Unsigned" if mechanism == "OAUTHBEARER" else None
    return KafkaSecurity(
        "SASL_SSL", mechanism, "commander", password, str(place.authority.file), token_provider=provider
    )


async def what_is_not_listed(system: System, place: Place) -> None:
    """Try, as a command worker, what it has no need of."""
    options = by_password(place).client_options() | {"bootstrap_servers": place.secure}
    producer = AIOKafkaProducer(**options)
    await producer.start()
    for topic in (f"{PREFIX}.commands", f"{PREFIX}.queries", f"{PREFIX}.queries.dead-letters"):
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topic, b"{}")
    await producer.stop()
    for topic in (system.reply_to, f"{PREFIX}.commands.dead-letters"):
        async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            with pytest.raises(TopicAuthorizationFailedError):
                await asyncio.wait_for(consumer.getone(), 10)
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    made = await admin.create_topics([NewTopic(f"{PREFIX}.replies.mine", 1, 1)])
    assert [code for _, code, _ in made.topic_errors] == [TopicAuthorizationFailedError.errno]
    deleted = await admin.delete_topics([f"{PREFIX}.commands"])
    assert [code for _, code in deleted.topic_error_codes] == [TopicAuthorizationFailedError.errno]
    await admin.close()


async def what_a_caller_does(system: System, place: Place) -> None:
    """Send a request, and read its reply, with a caller's certificate and rights."""
    options = place.certified("caller").client_options() | {"bootstrap_servers": place.mutual}
    own, system.producer = system.producer, AIOKafkaProducer(**options)
    async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer, system.producer:
        consumer.assign([TopicPartition(system.reply_to, 0)])
        sent = await system.send("queries", {"kind": "search_customers", "payload": {"name_contains": "Ada"}})
        async with asyncio.timeout(20):
            async for record in consumer:
                if record.key == sent.encode():
                    break
        assert json.loads(record.value)["statusCode"] == 200
    system.producer = own


async def test_each_mechanism(place: Place) -> None:
    """PLAIN, both SCRAMs and a token provider let the workers' publisher in, and its replies reach their topic."""
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"):
        security = by_password(place, mechanism)
        await reach_broker(place.secure, security, "test")
        publisher = Publisher(
            partial(PatientProducer, place.secure, "test", security),
            f"{PREFIX}.commands.dead-letters",
            SilentObserver(),
        )
        await publisher.start()
        topic = f"{PREFIX}.replies.{mechanism.lower()}"
        admin = await place.admin()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        assert await publisher.publish([Message(topic, b"k", b"v", [])], closable=True) == []
        await publisher.stop()


async def test_refusals_are_one_line(place: Place) -> None:
    """Whatever is wrong with passwords, certificates or rights: one line says it; exit code 1 (2: a setting)."""
    kafka, strangers = place.by_password("commander"), str(place.strangers.file)
    certified = place.by_certificate("commander")
    nobody = {name: value for name, value in certified.items() if not name.endswith(("CERTFILE", "KEYFILE"))}
    database = place.over_tls()
    other_host = database.replace("127.0.0.1", "localhost")
    async with without_tls() as plain:
        cases: dict[str, tuple[dict[str, str], str]] = {
            "a wrong password": (kafka | {"KAFKA_SECURITY_PASSWORD": "wr0ng"}, "refuses our credentials"),
            "an unknown user": (kafka | {"KAFKA_SECURITY_USERNAME": "nobody"}, "refuses our credentials"),
            "an unknown authority": (kafka | {"KAFKA_SECURITY_CAFILE": strangers}, "cannot be trusted"),
            "another host": (
                kafka | {"KAFKA_BOOTSTRAP_SERVERS": place.secure.replace("127.0.0.1", "localhost")},
                "cannot be trusted: Hostname mismatch",
            ),
            "no certificate": (nobody, "certificate"),
            "a stranger's certificate": (place.by_certificate("commander", place.strangers), "certificate"),
            "no such file": (
                kafka | {"KAFKA_SECURITY_CAFILE": "/nowhere"},
                "KAFKA_SECURITY_CAFILE: the file '/nowhere' does not exist",
            ),
            "no rights": (place.by_password("stranger"), "a right on the topic is missing"),
            "no right to the group": (place.by_password("halfway"), "READ on the consumer group is missing"),
            "a wrong database password": (
                kafka | {"DATABASE_URL": database.replace(PASSWORD, "wr0ng")},
                "Postgres refuses DATABASE_URL: user or password is wrong",
            ),
            "a database of an unknown authority": (
                kafka | {"DATABASE_URL": place.over_tls(authority=place.strangers)},
                "The certificate of Postgres cannot be trusted",
            ),
            "a database of another name": (
                kafka | {"DATABASE_URL": other_host},
                "The certificate of Postgres cannot be trusted: Hostname mismatch",
            ),
            "a database that asks for nothing": (
                kafka | {"DATABASE_URL": plain},
                "Postgres does not speak TLS, which DATABASE_URL asks for",
            ),
            "a database user without rights": (
                kafka | {"DATABASE_URL": database.replace(urlsplit(database).username or "", "beggar")},
                "lacks rights on our tables",
            ),
            "no such file for the database": (
                kafka | {"DATABASE_URL": database.replace(str(place.authority.file), "/nowhere")},
                "DATABASE_URL: parameter sslrootcert: the file cannot be used: No such file or directory",
            ),
        }
        found = await run_workers({name: settings for name, (settings, _) in cases.items()}, place)
    wrong = {}
    for name, (_, expected) in cases.items():
        ended = found[name]
        lines = ended.err.splitlines()
        wanted = 2 if name.startswith("no such file") else 1  # a wrong setting, judged before any server is asked
        if ended.code != wanted or len(lines) != 1 or not lines[0].startswith("error: ") or expected not in lines[0]:
            wrong[name] = ended
        assert PASSWORD not in ended.out + ended.err
        assert "wr0ng" not in ended.out + ended.err
    assert wrong == {}


async def run_workers(cases: dict[str, dict[str, str]], place: Place) -> dict[str, Finished]:
    """Start a command worker with each of these settings, all at once."""
    good = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": place.over_tls(),
        "REDIS_URL": place.servers.env.redis_url,
        "TOPIC_PREFIX": PREFIX,
        "JWT_SECRET": SECRET,
        "OUTCOME_HMAC_KEY": "outcomes-" + SECRET,
        "DLQ_SIGNING_KEY": "dead-letters-" + SECRET,
        "LOG_LEVEL": "ERROR",
    }
    running = [command("worker", "commands", env=os.environ | good | one) for one in cases.values()]
    return dict(zip(cases, await asyncio.gather(*running), strict=True))


@asynccontextmanager
async def without_tls() -> AsyncIterator[str]:
    """Answer like a Postgres that speaks no TLS; yields a URL that asks for it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"postgresql://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/catalog?sslmode=require"
    finally:
        server.close()
