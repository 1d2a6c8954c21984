"""Wrong settings: each is one readable line, all of them are told at once, and none of them tells a secret."""

import ssl
from pathlib import Path

import pytest

from persistence.address import AddressError, read_address
from persistence.redis_client import RedisUrlError, check_redis_url, create_redis
from workers.settings import DEVELOPMENT_SECRET, Settings, SettingsError

GOOD = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://u:hunter2@db:5432/catalog?sslmode=require",
    "REDIS_URL": "redis://:hunter2@redis:6379/0",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092",
    "JWT_SECRET": "j" * 32,
    "OUTCOME_HMAC_KEY": "o" * 32,
    "DLQ_SIGNING_KEY": "s" * 32,
    "DLQ_OPERATOR_KEY": "p" * 32,
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    """Load settings from these variables alone."""

    def load(**given: str) -> Settings:
        for name in ("REPLY_TOPICS", "CACHE_STRICT", "FAULT_POINT", "TOPIC_PREFIX"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (GOOD | given).items():
            monkeypatch.setenv(name, value)
        return Settings.load(Path("/nowhere"))

    return load


def lines(load: object, **given: str) -> list[str]:
    """Return what is wrong."""
    with pytest.raises(SettingsError) as refused:
        load(**given)  # type: ignore[operator]
    return refused.value.lines


DB = "postgresql://u:hunter2@db/catalog"
REDIS = "redis://:hunter2@redis:6379"

WRONG = [
    # libpq's parameters: none of these values, or not served
    ("DATABASE_URL", f"{DB}?sslmode=bogus", "parameter sslmode: 'bogus' is none of disable, allow, prefer, require"),
    ("DATABASE_URL", f"{DB}?sslmode=VERIFY-FULL", "parameter sslmode"),
    ("DATABASE_URL", f"{DB}?channel_binding=require", "parameter channel_binding: 'require' is none of"),
    ("DATABASE_URL", f"{DB}?target_session_attrs=master", "parameter target_session_attrs: 'master' is none of"),
    ("DATABASE_URL", f"{DB}?connect_timeout=soon", "parameter connect_timeout: 'soon' is no number of seconds"),
    ("DATABASE_URL", f"{DB}?connect_timeout=0", "parameter connect_timeout"),
    ("DATABASE_URL", f"{DB}?options=work_mem", "parameter options: must be -c name=value"),
    ("DATABASE_URL", f"{DB}?client_encoding=latin1", "parameter client_encoding: 'latin1': the workers speak UTF8"),
    ("DATABASE_URL", f"{DB}?sslmode=verify-full&sslrootcert=/nowhere.crt", "parameter sslrootcert: the file cannot be"),
    ("DATABASE_URL", f"{DB}?sslcert=/nowhere.crt&sslkey=/nowhere.key", "parameter sslcert: the file cannot be used"),
    ("DATABASE_URL", f"{DB}?sslkey=/etc/hostname", "parameter sslkey: needs sslcert"),
    ("DATABASE_URL", f"{DB}?passfile=/nowhere", "parameter passfile: the file cannot be used"),
    ("DATABASE_URL", f"{DB}?krbsrvname=postgres", "parameter krbsrvname: is not served"),
    ("DATABASE_URL", f"{DB}?gssencmode=require", "parameter gssencmode"),
    ("DATABASE_URL", f"{DB}?service=prod", "parameter service: is not served"),
    ("DATABASE_URL", f"{DB}?keepalives_idle=30", "parameter keepalives_idle: is not served"),
    ("DATABASE_URL", f"{DB}?sslnegotiation=direct", "parameter sslnegotiation: direct needs sslmode=require"),
    ("DATABASE_URL", f"{DB}?host=other", "parameter host: the URL says it already"),
    ("DATABASE_URL", f"{DB}?pool_size=3", "unknown parameter 'pool_size'"),
    ("DATABASE_URL", f"{DB}?ssl=true", "unknown parameter 'ssl': write sslmode=require"),
    ("DATABASE_URL", f"{DB}?sslmode", "its parameters must be written name=value"),
    ("DATABASE_READ_URL", f"{DB}?load_balance_hosts=random", "parameter load_balance_hosts"),
    # Where it is
    ("DATABASE_URL", "postgresql://u:hunter2@db:port/catalog", "its port is no number from 1 to 65535"),
    ("DATABASE_URL", "postgresql://u:hunter2@db:0/catalog", "its port is no number"),
    ("DATABASE_URL", "postgresql://u:hunter2@db:99999/catalog", "its port is no number"),
    ("DATABASE_URL", "postgresql://u:hunter2@a:1,b:x/catalog", "its port is no number"),
    ("DATABASE_URL", "postgresql://u:hunter2@a,b/catalog?port=1,2,3", "parameter port: 3 ports for 2 hosts"),
    ("DATABASE_URL", "postgresql://u:hunter2@a,,b/catalog", "names a host that is none"),
    ("DATABASE_URL", "postgresql://u:hunter2@::1/catalog", "names a host that is none"),
    ("DATABASE_URL", "postgresql://u:hunter2@the db/catalog", "names a host that is none"),
    ("DATABASE_URL", "postgresql:///catalog", "names no host"),
    ("DATABASE_URL", "postgresql://u:hunter2@with@db/catalog", "must be a URL: postgresql://user:password@host:port"),
    ("DATABASE_URL", "mysql://u:hunter2@db/catalog", "must be a URL"),
    ("DATABASE_URL", "db:5432", "must be a URL"),
    ("REDIS_URL", f"{REDIS}/0?timeout=5", "unknown option 'timeout': write socket_timeout, at most 0.5"),
    ("REDIS_URL", f"{REDIS}/0?socket_timeout=5", "option socket_timeout: must be above 0 and at most 0.5 s"),
    ("REDIS_URL", f"{REDIS}/0?socket_connect_timeout=never", "option socket_connect_timeout: must be above 0"),
    ("REDIS_URL", f"{REDIS}/0?health_check_interval=-1", "option health_check_interval: must be a whole number"),
    ("REDIS_URL", f"{REDIS}/0?protocol=4", "option protocol: must be 2 or 3"),
    ("REDIS_URL", f"{REDIS}/0?decode_responses=true", "unknown option 'decode_responses': the workers read bytes"),
    ("REDIS_URL", f"{REDIS}/0?ssl_cert_reqs=none", "option ssl_cert_reqs: needs rediss://"),
    ("REDIS_URL", "rediss://redis/0?ssl_ca_certs=/nowhere.crt", "option ssl_ca_certs: the file cannot be used"),
    ("REDIS_URL", "rediss://redis/0?ssl_cert_reqs=maybe", "option ssl_cert_reqs: must be none or optional or required"),
    ("REDIS_URL", "rediss://redis/0?ssl_ca_certs=/etc/hostname", "its ssl_ options cannot be used together"),
    ("REDIS_URL", f"{REDIS}/first", "the database must be a number"),
    ("REDIS_URL", f"{REDIS}/0?db=1", "option db: the URL says the database already"),
    ("REDIS_URL", "redis://:hunter2@redis:port/0", "its port is no number from 1 to 65535"),
    ("REDIS_URL", "redis://:hunter2@redis:70000/0", "its port is no number"),
    ("REDIS_URL", "redis://:hunter2@[::1/0", "its port is no number from 1 to 65535, or its host is none"),
    ("REDIS_URL", "redis+cluster://a:1,b:2", "its port is no number"),
    ("REDIS_URL", "redis+cluster://redis:6379/1", "a cluster has database 0 alone"),
    ("REDIS_URL", "redis+sentinel://redis:26379/mymaster", "must be a URL: redis://"),
    ("REDIS_URL", "redis:///0", "must name one host"),
    ("KAFKA_BOOTSTRAP_SERVERS", ",", "names no broker"),
    ("KAFKA_BOOTSTRAP_SERVERS", "http://kafka:9092", "'http://kafka:9092' is no host:port"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:99999", "'kafka:99999': a port is a number from 1 to 65535"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:0", "a port is a number from 1 to 65535"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:port", "is no host:port"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka 1:9092", "is no host:port"),
    ("KAFKA_BOOTSTRAP_SERVERS", "::1:9092", "an IPv6 address in brackets"),
    ("KAFKA_BOOTSTRAP_SERVERS", "[::1::2]:9092", "an IPv6 address in brackets"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9092;kafka-2:9092", "is no host:port"),
    # The keys of tokens
    ("JWT_PUBLIC_KEY", "no key", "the key without a kid is no public key in PEM"),
    ("JWT_PUBLIC_KEY_FILE", "/nowhere.pem", "the file cannot be read: No such file"),
    ("JWT_PUBLIC_KEY_FILE", "/etc/hostname", "is no public key in PEM"),
    ("JWT_JWKS_FILE", "/nowhere.json", "the JWKS file cannot be read: No such file"),
    ("JWT_JWKS_FILE", "/etc/hostname", "the JWKS file is not JSON"),
    # Of production, and of settings together
    ("JWT_SECRET", DEVELOPMENT_SECRET, "is the development secret"),
    ("OUTCOME_HMAC_KEY", DEVELOPMENT_SECRET, "is the development secret"),
    ("DLQ_OPERATOR_KEY", DEVELOPMENT_SECRET, "is the development secret"),
    ("DLQ_OPERATOR_KEY", GOOD["DLQ_SIGNING_KEY"], "must not be the DLQ_SIGNING_KEY"),
    ("DLQ_SIGNING_KEY", "short", "must be at least 32 bytes long"),
    ("FAULT_POINT", "after_commit", "is for tests"),
    ("REPLY_TOPICS", '{"a": ["elsewhere.*"]}', "does not start with 'catalog.replies.'"),
    ("REPLY_TOPICS", '{"a": "catalog.replies.a"}', "a: input should be a valid list"),
    ("RATE_LIMIT_OVERRIDES", '{"a": -1}', "a: must be 0 (no limit) or more"),
    ("METRICS_PORT", "65536", "input should be less than or equal to 65535"),
    ("KAFKA_MIN_INSYNC_REPLICAS", "3", "must not exceed KAFKA_REPLICATION_FACTOR"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_each_wrong_setting_is_one_line(load: object, name: str, value: str, expected: str) -> None:
    """What can be judged without a server is judged at once: its name, what is wrong, and no part of a password."""
    (line,) = lines(load, **{name: value})
    assert line.startswith(f"{name}: {expected}" if name.endswith("URL") else f"{name}: ")
    assert expected in line
    assert "hunter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "given",
    [
        {"DATABASE_URL": "db", "DB_POOL_SIZE": "many", "DLQ_OPERATOR_KEY": GOOD["DLQ_SIGNING_KEY"]},
        {"OUTCOME_HMAC_KEY": "short", "DLQ_SIGNING_KEY": DEVELOPMENT_SECRET, "REDIS_URL": "redis://redis/x"},
        {"KAFKA_PARTITIONS": "0", "KAFKA_BOOTSTRAP_SERVERS": ",", "KAFKA_MIN_INSYNC_REPLICAS": "2"},
        {"REPLY_TOPICS": "{", "PARK_BEHIND_DEFECTS": '["get_product"]', "RATE_LIMIT_OVERRIDES": "[]"},
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SECURITY_USERNAME": "",
            "KAFKA_SECURITY_PASSWORD": "",
            "KAFKA_SECURITY_CAFILE": "/nowhere",
            "CURRENCY": "euro",
        },
        {"DATABASE_URL": "", "OUTCOME_HMAC_KEY": "", "JWT_SECRET": "", "LOG_LEVEL": "LOUD", "FAULT_POINT": "x"},
    ],
)
def test_all_that_is_wrong_is_told_at_once(load: object, given: dict[str, str]) -> None:
    """Fields and what they say of each other, also of one group: one line for each, in one go."""
    harmless = {"KAFKA_SECURITY_PROTOCOL"}
    assert {line.partition(":")[0] for line in lines(load, **given)} == given.keys() - harmless


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"{DB}?application_name=shop&connect_timeout=7", {"timeout": 7.0, "host": ["db"], "port": [5432]}),
        (
            "postgres://u:p%40ss%2F@a:1,[::1]:2,c/x",
            {"host": ["a", "::1", "c"], "port": [1, 2, 5432], "password": "p@ss/"},
        ),
        ("postgresql+asyncpg://%2Fvar%2Fpg/x?user=u", {"host": ["/var/pg"], "user": "u", "database": "x"}),
        ("postgresql:///?host=/var,db&port=6000&dbname=x", {"host": ["/var", "db"], "port": [6000, 6000]}),
        (f"{DB}?channel_binding=prefer&gssencmode=prefer&sslsni=1", {"dsn": None}),
        (f"{DB}?options=-c%20work_mem%3D8MB%20--a.b%3Dc%5C%20d", {"host": ["db"]}),
        (f"{DB}?target_session_attrs=read-write&sslmode=prefer", {"host": ["db"]}),
    ],
)
def test_what_an_address_says_is_handed_on(url: str, place: dict[str, object]) -> None:
    """Lists of hosts, sockets, IPv6, escaped passwords and libpq's parameters reach the driver."""
    read = read_address(url)
    assert {name: read.place[name] for name in place} == place


@pytest.mark.parametrize(
    ("parameters", "reads"),
    [
        ("", 0),
        ("?sslmode=disable", 0),
        ("?sslmode=allow", 0),
        ("?sslmode=prefer&sslrootcert=system", 0),
        ("?sslmode=require", 0),
        ("?sslmode=require&sslrootcert=system", 1),
        ("?sslmode=verify-ca", 1),
        ("?sslmode=verify-full&sslrootcert=system", 1),
    ],
)
def test_who_believes_the_machine_reads_its_authorities(
    parameters: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a hundred certificates, 40 ms for each address that is read: of each process several."""
    read: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *given: read.append(given))
    read_address(DB + parameters)
    assert len(read) == reads


def test_an_address_is_judged_for_certain() -> None:
    """Nothing but `AddressError` comes of any text, and it repeats none of it that may be a password."""
    for url in (
        "",
        "postgresql://",
        "postgresql://u:secret",
        "postgresql://[",
        "postgresql://h/?%zz=1",
        "\0",
        "a" * 9999,
    ):
        with pytest.raises(AddressError) as refused:
            read_address(url)
        assert "secret" not in str(refused.value)
    for url in ("", "redis://", "redis://u:secret", "redis://[", "redis://h/?%zz=1", "\0", "unix://", "rediss://a b"):
        with pytest.raises(RedisUrlError) as judged:
            check_redis_url(url)
        assert "secret" not in str(judged.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://u:p%40@redis:6379/3?health_check_interval=30&client_name=x",
        "redis://[::1]:6379/?db=2&protocol=3&max_connections=50",
        "rediss://redis:6379/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss+cluster://redis:6379?socket_timeout=0.2&socket_keepalive=yes",
        "unix:///run/redis.sock?db=1",
    ],
)
async def test_good_redis_urls_make_a_client(url: str) -> None:
    """What is let through, redis-py takes."""
    check_redis_url(url)
    await create_redis(url).aclose()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("kafka", "kafka"),
        (" kafka-1:9092 , kafka_2.example.org:1 ,", "kafka-1:9092,kafka_2.example.org:1"),
        ("[::1]:9092,[fe80::1]", "[::1]:9092,[fe80::1]"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("a,b,c", "a,b,c"),
    ],
)
def test_good_brokers(load: object, given: str, read: str) -> None:
    """Blanks and empty places between brokers mean nothing."""
    assert load(KAFKA_BOOTSTRAP_SERVERS=given).kafka.bootstrap_servers == read  # type: ignore[operator]
