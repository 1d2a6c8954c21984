"""Connections to Redis, or to a Redis Cluster, that never hold a batch up for long: nothing rests on Redis."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from persistence.address import LARGEST_PORT

CONNECT_TIMEOUT_S: Final = 0.5
CALL_TIMEOUT_S: Final = 0.5

RedisClient = Redis | RedisCluster

FORM: Final = "redis://user:password@host:port/0"
SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_OF_TLS: Final = "ssl_"
_BOOLEAN: Final = frozenset({"true", "false", "yes", "no", "1", "0", "t", "f", "y", "n"})


ON_PRIMARY: Final = """
local replication = redis.pcall('INFO', 'replication')
if type(replication) == 'string' and string.find(replication, 'role:slave', 1, true) then
  return redis.error_reply('READONLY this server is not the primary any more')
end
"""
"""Begins each script. After a fail-over the connections to the old primary may stay open: it answers reads as it did,
and takes no writes, or takes them for itself alone where it is set up so."""


class RedisUrlError(ValueError):
    """No URL that can be used; the text is one line, names the option, and holds nothing of user, password or host."""


def create_redis(url: str) -> RedisClient:
    """Make a client; connects only when first used, and repeats nothing by itself.

    `redis+cluster://` (with TLS `rediss+cluster://`) names any node of a cluster.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": CALL_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # every server speaks it, and its connections are made in fewer steps
    }
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+cluster"):
        return RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **options)
    return Redis.from_url(url, **options)


async def drop_connections(client: RedisClient) -> None:
    """Let the next call connect anew: where a server refuses (READONLY, LOADING …), another may be in its place.

    Raises nothing. A call that is under way keeps its connection.
    """
    with suppress(Exception):
        async with asyncio.timeout(CALL_TIMEOUT_S):
            if isinstance(client, RedisCluster):
                await client.aclose()  # it is set up anew by the next call
            else:
                await client.connection_pool.disconnect(inuse_connections=False)


def check_redis_url(url: str) -> None:
    """Judge a URL without a server. Raises `RedisUrlError`: every option is honoured, or refused by name."""
    try:
        parts = urlsplit(url)
        if parts.port == 0 or parts.netloc.endswith(":"):
            raise ValueError
    except ValueError:
        raise RedisUrlError(f"its port is no number from 1 to {LARGEST_PORT}, or its host is none: {FORM}") from None
    if parts.scheme not in SCHEMES:
        raise RedisUrlError(f"must be a URL: {FORM}, or with {', '.join(f'{one}://' for one in SCHEMES[1:])}")
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise RedisUrlError("its options must be written name=value, with & between them") from None
    _check_place(parts)
    _check_database(parts, options)
    for name, value in options.items():
        _check_option(name, value, with_tls=parts.scheme.startswith("rediss"))
    if parts.scheme.startswith("rediss"):
        _check_tls(url)


def _check_place(parts: SplitResult) -> None:
    if parts.scheme == "unix":
        if parts.hostname or not parts.path.strip("/"):
            raise RedisUrlError("names no socket: unix:///path/of/redis.sock?db=0")
    elif not parts.hostname or "," in parts.netloc or any(one.isspace() for one in unquote(parts.hostname)):
        raise RedisUrlError(f"must name one host: {FORM}; of a cluster any node, redis+cluster://host:port")


def _check_database(parts: SplitResult, options: Mapping[str, str]) -> None:
    path = parts.path.strip("/") if parts.scheme != "unix" else ""
    if path and "db" in options:
        raise RedisUrlError("option db: the URL says the database already, as its path")
    number = options.get("db", path)
    if number and not (number.isascii() and number.isdecimal()):
        raise RedisUrlError(f"the database must be a number, as in {FORM}")
    if parts.scheme.endswith("+cluster") and int(number or 0):
        raise RedisUrlError("a cluster has database 0 alone")


def _check_option(name: str, value: str, *, with_tls: bool) -> None:
    if name not in _OPTIONS:
        raise RedisUrlError(f"unknown option '{name[:40]}'{_MEANT.get(name, '')}")
    if name.startswith(_OF_TLS) and not with_tls:
        raise RedisUrlError(f"option {name}: needs rediss://")
    if problem := _OPTIONS[name](value):
        raise RedisUrlError(f"option {name}: {problem}")


def _check_tls(url: str) -> None:
    """Make a connection, which connects nowhere, and what TLS it would speak."""
    try:
        pool = Redis.from_url(url.replace("+cluster", "", 1)).connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        assert isinstance(connection, SSLConnection)
        connection.ssl_context.get()
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").lower().replace("_", " ")
        raise RedisUrlError(f"its ssl_ options cannot be used together: {reason}") from None
    except (OSError, ValueError, TypeError) as error:
        raise RedisUrlError(f"its ssl_ options cannot be used together: {type(error).__name__}") from None
    except Exception as error:  # noqa: BLE001 - redis-py's own, of what it does not allow together
        raise RedisUrlError(f"its ssl_ options cannot be used together: {error}") from None


# Options -----------------------------------------------------------------------------------------------------------
Judge = Callable[[str], str | None]
"""Says what is wrong with an option's value; None where it is honoured."""


def _any(value: str) -> str | None:
    return None if value else "is empty"


def _boolean(value: str) -> str | None:
    return None if value.lower() in _BOOLEAN else "must be true or false"


def _one_of(*values: str) -> Judge:
    return lambda value: None if value in values else f"must be {' or '.join(values)}"


def _whole(least: int) -> Judge:
    def judge(value: str) -> str | None:
        fits = value.isascii() and value.isdecimal() and len(value) < 10 and int(value) >= least  # noqa: PLR2004
        return None if fits else f"must be a whole number from {least}"

    return judge


def _seconds(longest_s: float) -> Judge:
    def judge(value: str) -> str | None:
        try:
            fits = 0 < float(value) <= longest_s
        except ValueError:
            fits = False
        return None if fits else f"must be above 0 and at most {longest_s} s: the workers wait no longer for Redis"

    return judge


def _file(value: str) -> str | None:
    try:
        Path(value).read_bytes()
    except OSError as error:
        return f"the file cannot be used: {error.strerror}"
    return None


def _folder(value: str) -> str | None:
    return None if Path(value).is_dir() else "is no folder"


_OPTIONS: Final[Mapping[str, Judge]] = {
    "client_name": _any,
    "db": _whole(0),
    "health_check_interval": _whole(0),
    "max_connections": _whole(1),
    "password": _any,
    "protocol": _one_of("2", "3"),
    "socket_connect_timeout": _seconds(CONNECT_TIMEOUT_S),
    "socket_keepalive": _boolean,
    "socket_timeout": _seconds(CALL_TIMEOUT_S),
    "ssl_ca_certs": _file,
    "ssl_ca_data": _any,
    "ssl_ca_path": _folder,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_certfile": _file,
    "ssl_check_hostname": _boolean,
    "ssl_ciphers": _any,
    "ssl_keyfile": _file,
    "ssl_password": _any,
    "username": _any,
}
"""What redis-py takes from a URL and leaves our use of it as it is."""

_MEANT: Final = {
    "timeout": ": write socket_timeout, at most 0.5",
    "ssl": ": write rediss:// instead of redis://",
    "tls": ": write rediss:// instead of redis://",
    "database": ": write db, or /0 behind the port",
    "retry_on_timeout": ": the workers themselves say what is tried again",
    "retry_on_error": ": the workers themselves say what is tried again",
    "decode_responses": ": the workers read bytes",
}
"""What is not served, or written otherwise."""
