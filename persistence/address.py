"""The address of a database, as libpq writes it: a URL whose parameters are honoured, or refused by name.

Nothing is passed over in silence: what somebody wrote down was meant. What can be judged without a server is judged
here, certificate files included.
"""

import re
import ssl
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import asyncpg
from asyncpg.connect_utils import SessionAttribute, SSLMode, SSLNegotiation

CONNECT_TIMEOUT_S: Final = 5.0
"""Longest wait for a connection, where the address does not say `connect_timeout`."""
LONGEST_CONNECT_TIMEOUT_S: Final = 60
FORM: Final = "postgresql://user:password@host:port/name"
SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")

_PARTS: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^:/?#@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?#@]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>.*))?"
)
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\s:\[\]]*))(?::(?P<port>.*))?")
DEFAULT_PORT: Final = 5432
LARGEST_PORT: Final = 65535
_OPTION: Final = re.compile(r"(?:-c|--)[A-Za-z_][A-Za-z0-9_.-]*=.*", re.DOTALL)
_STRICT: Final = ("require", "verify-ca", "verify-full")


class AddressError(ValueError):
    """No address that can be used; the text is one line and names the parameter.

    It holds nothing of user, password or host: what was meant for one may stand in the other's place.
    """


_AWAY_OR_NO_ACCESS: Final = frozenset({"08", "53", "57", "58", "XX", "28", "3D"})
_NO_RIGHT: Final = "42501"
_PROTOCOL_VIOLATION: Final = "08P01"
"""What a pooler says of a parameter that it does not take."""


class NotConnectedError(ConnectionError):
    """The server lets nobody in as we ask for it, whatever we came for; the text is the server's."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is and how to get in."""

    place: Mapping[str, Any] = field(repr=False)
    """Arguments of `asyncpg.connect`: what the address says, but for the session's own."""
    session_name: str | None = None
    """The `application_name` that the address asks for."""

    async def connect(self, session_name: str, *, kind: str = "", **how: Any) -> asyncpg.Connection:  # noqa: ANN401
        """Connect, with whatever else asyncpg is to be told.

        Raises what asyncpg raises: `NotConnectedError` for what is neither an outage nor of user, password or database.
        """
        try:
            return await asyncpg.connect(**self.arguments(session_name, kind=kind), **how)
        except asyncpg.PostgresError as error:
            code = error.sqlstate or ""
            if code != _PROTOCOL_VIOLATION and (code[:2] in _AWAY_OR_NO_ACCESS or code == _NO_RIGHT):
                raise
            raise NotConnectedError(str(error).partition("\n")[0]) from error

    def arguments(self, session_name: str, *, kind: str = "") -> dict[str, Any]:
        """Return asyncpg's arguments for a session of this name, unless the address names its sessions itself."""
        return {**self.place, "server_settings": {"application_name": kind + (self.session_name or session_name)}}


def read_address(url: str) -> Address:
    """Read an address. Raises `AddressError`."""
    parts = _PARTS.fullmatch(url)
    if parts is None or parts["scheme"] not in SCHEMES:
        raise AddressError(f"must be a URL: {FORM} (within user and password @, : and / are written %40, %3A and %2F)")
    try:
        given = dict(parse_qsl(parts["query"] or "", keep_blank_values=True, strict_parsing=bool(parts["query"])))
    except ValueError:
        raise AddressError("its parameters must be written name=value, with & between them") from None
    for name, value in given.items():
        if name not in _PARAMETERS:
            raise AddressError(f"unknown parameter '{_shown(name)}'{_MEANT.get(name, '')}")
        if problem := _PARAMETERS[name](value):
            raise AddressError(f"parameter {name}: {problem}")
    for parameter, part in (("host", "hosts"), ("user", "user"), ("password", "password"), ("dbname", "database")):
        if parts[part]:
            if parameter in given:
                raise AddressError(f"parameter {parameter}: the URL says it already, before its parameters")
            given[parameter] = unquote(parts[part])
    hosts, ports = _hosts(given.get("host", ""), given.get("port", ""))
    passed = urlencode({name: value for name, value in given.items() if name in _PASSED}, quote_via=quote)
    place = {
        "dsn": "postgresql://?" + passed if passed else None,
        "host": hosts,
        "port": ports,
        "user": given.get("user") or None,
        "password": given.get("password"),
        "database": given.get("dbname") or None,
        "timeout": float(given.get("connect_timeout", CONNECT_TIMEOUT_S)),
    }
    if (tls := _tls(given)) is not None:
        place["ssl"] = tls
    return Address(place, given.get("application_name") or None)


def _hosts(listed: str, ports: str) -> tuple[list[str], list[int]]:
    """Read a list of hosts, each a name, an address, an IPv6 address in brackets, or a socket's folder; and its ports.

    A port stands behind its host, or all of them (or one for all) in the parameter `port`.
    """
    if not listed:
        raise AddressError(f"names no host: {FORM}")
    given = [_port(one) for one in ports.split(",")] if ports else [DEFAULT_PORT]
    hosts: list[str] = []
    own: list[int | None] = []
    for one in listed.split(","):
        found = None if one.startswith("/") else _HOST.fullmatch(one)
        if not one.startswith("/") and (found is None or not (found["v6"] or found["name"])):
            raise AddressError(f"names a host that is none: {FORM}, an IPv6 address in brackets")
        hosts.append(found["v6"] or found["name"] if found else one)
        own.append(_port(found["port"]) if found and found["port"] is not None else None)
    if len(given) not in {1, len(hosts)}:
        raise AddressError(f"parameter port: {len(given)} ports for {len(hosts)} hosts")
    if ports and any(own):
        raise AddressError("parameter port: a host has its port already")
    shared = given * len(hosts) if len(given) == 1 else given
    return hosts, [one or other for one, other in zip(own, shared, strict=True)]


def _port(port: str) -> int:
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) <= LARGEST_PORT):  # noqa: PLR2004
        raise AddressError(f"its port is no number from 1 to {LARGEST_PORT}")
    return int(port)


def _shown(value: str) -> str:
    """Show what was written, were it a whole file."""
    return value if len(value) <= 40 else value[:40] + "…"  # noqa: PLR2004 - a line's worth


# Certificates ------------------------------------------------------------------------------------------------------
def _tls(given: Mapping[str, str]) -> ssl.SSLContext | None:
    """Make what TLS is spoken with, where it must be; asyncpg makes it where it only may be.

    As in libpq, `require` trusts anybody unless there is an `sslrootcert`. Without one (or with `system`) the machine's
    own authorities are believed.
    """
    mode, roots = given.get("sslmode", "prefer"), given.get("sslrootcert", "system")
    if given.get("sslnegotiation") == SSLNegotiation.direct and mode not in _STRICT:
        raise AddressError("parameter sslnegotiation: direct needs sslmode=require, verify-ca or verify-full")
    if "sslkey" in given and "sslcert" not in given:
        raise AddressError("parameter sslkey: needs sslcert, the certificate that the key is of")
    trusts_anybody = mode == "require" and "sslrootcert" not in given
    believes_machine = roots == "system" and mode in _STRICT and not trusts_anybody
    # Reading a hundred authorities takes 40 ms, for each address that is read: only for who asks them.
    context = ssl.create_default_context() if believes_machine else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots != "system":
        _believe(context, "sslrootcert", roots)
    context.check_hostname = mode == "verify-full"
    if trusts_anybody:
        context.verify_mode = ssl.CERT_NONE
    if "sslcrl" in given:
        _believe(context, "sslcrl", given["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.minimum_version = _TLS_VERSIONS[given.get("ssl_min_protocol_version", "TLSv1.2")]
    if "ssl_max_protocol_version" in given:
        context.maximum_version = _TLS_VERSIONS[given["ssl_max_protocol_version"]]
        if context.maximum_version < context.minimum_version:
            raise AddressError("parameter ssl_max_protocol_version: is below ssl_min_protocol_version")
    if "sslcert" in given:
        _show_ourselves(context, given)
    return context if mode in _STRICT else None


def _believe(context: ssl.SSLContext, parameter: str, file: str) -> None:
    try:
        context.load_verify_locations(file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise AddressError(f"parameter {parameter}: the file cannot be used: {_why(error)}") from None


def _show_ourselves(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    for parameter in ("sslcert", "sslkey"):
        try:
            Path(given.get(parameter, given["sslcert"])).read_bytes()
        except OSError as error:
            raise AddressError(f"parameter {parameter}: the file cannot be used: {_why(error)}") from None
    try:
        context.load_cert_chain(given["sslcert"], given.get("sslkey"), lambda: given.get("sslpassword", ""))
    except (OSError, ValueError) as error:
        raise AddressError(f"parameter sslcert: certificate and key cannot be used: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").lower().replace("_", " ")
    return getattr(error, "strerror", None) or type(error).__name__


# Parameters --------------------------------------------------------------------------------------------------------
Judge = Callable[[str], str | None]
"""Says what is wrong with a parameter's value; None where it is honoured."""


def _any(_: str) -> None:
    return None


def _one_of(*values: str, why: str = "") -> Judge:
    def judge(value: str) -> str | None:
        return None if value in values else f"'{_shown(value)}' is none of {', '.join(values)}{why}"

    return judge


def _not_served(remedy: str) -> Judge:
    return lambda _: f"is not served: {remedy}"


def _connect_timeout(value: str) -> str | None:
    fits = value.isascii() and value.isdecimal() and 1 <= int(value) <= LONGEST_CONNECT_TIMEOUT_S
    return None if fits else f"'{_shown(value)}' is no number of seconds from 1 to {LONGEST_CONNECT_TIMEOUT_S}"


def _encoding(value: str) -> str | None:
    if value.lower().replace("-", "").replace("_", "") in {"utf8", "auto", "unicode"}:
        return None
    return f"'{_shown(value)}': the workers speak UTF8 alone"


def _options(value: str) -> str | None:
    """Take what libpq's documentation shows: `-c name=value` and `--name=value`, with blanks between."""
    joined = re.sub(r"(?<!\S)-c\s+", "-c", value)
    words = re.findall(r"(?:\\.|[^\s\\])+", joined)
    if words and all(_OPTION.fullmatch(one) for one in words):
        return None
    return "must be -c name=value, or --name=value, with blanks between several (each blank written %20)"


def _passfile(value: str) -> str | None:
    """Judge what asyncpg would pass over in silence."""
    try:
        mode = Path(value).stat().st_mode
        Path(value).read_bytes()
    except OSError as error:
        return f"the file cannot be used: {error.strerror}"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return "the file may be read by others: its mode must be 0600"
    return None


_TLS_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_OWN_TIMEOUTS: Final = _not_served("the workers set time-outs of their own; take it out")
_PASSWORD_OR_CERTIFICATE: Final = _not_served("the workers log in by password or certificate; take it out")
_BY_DEFAULT: Final = "; take it out"

_PARAMETERS: Final[Mapping[str, Judge]] = {
    "application_name": _any,
    "channel_binding": _one_of("prefer", "disable", why=": the driver binds no channel; sslmode=verify-full does more"),
    "client_encoding": _encoding,
    "connect_timeout": _connect_timeout,
    "dbname": _any,
    "fallback_application_name": _any,  # each session has a name
    "gssdelegation": _one_of("0", why=_BY_DEFAULT),
    "gssencmode": _one_of("disable", "prefer", why=": the driver encrypts by TLS alone, sslmode=require"),
    "gsslib": _PASSWORD_OR_CERTIFICATE,
    "host": _any,
    "hostaddr": _not_served("write the address as the host"),
    "keepalives": _OWN_TIMEOUTS,
    "keepalives_count": _OWN_TIMEOUTS,
    "keepalives_idle": _OWN_TIMEOUTS,
    "keepalives_interval": _OWN_TIMEOUTS,
    "krbsrvname": _PASSWORD_OR_CERTIFICATE,
    "load_balance_hosts": _one_of("disable", why=": hosts are tried in their order"),
    "max_protocol_version": _one_of("3.0", "latest", why=_BY_DEFAULT),
    "min_protocol_version": _one_of("3.0", why=_BY_DEFAULT),
    "oauth_client_id": _PASSWORD_OR_CERTIFICATE,
    "oauth_client_secret": _PASSWORD_OR_CERTIFICATE,
    "oauth_issuer": _PASSWORD_OR_CERTIFICATE,
    "oauth_scope": _PASSWORD_OR_CERTIFICATE,
    "options": _options,
    "passfile": _passfile,
    "password": _any,
    "port": _any,
    "replication": _not_served("take it out"),
    "require_auth": _not_served("take it out; sslmode=verify-full says who the server is"),
    "requirepeer": _not_served("take it out"),
    "requiressl": _not_served("write sslmode=require"),
    "scram_client_key": _PASSWORD_OR_CERTIFICATE,
    "scram_server_key": _PASSWORD_OR_CERTIFICATE,
    "service": _not_served("write what the service's file says into the URL"),
    "servicefile": _not_served("write what the service's file says into the URL"),
    "ssl_max_protocol_version": _one_of(*_TLS_VERSIONS),
    "ssl_min_protocol_version": _one_of(*_TLS_VERSIONS),
    "sslcert": _any,
    "sslcertmode": _one_of("allow", why=_BY_DEFAULT),
    "sslcompression": _one_of("0", why=_BY_DEFAULT),
    "sslcrl": _any,
    "sslcrldir": _not_served("write sslcrl, a file"),
    "sslkey": _any,
    "sslkeylogfile": _not_served("take it out"),
    "sslmode": _one_of(*(mode.name.replace("_", "-") for mode in SSLMode)),
    "sslnegotiation": _one_of(*(str(one.value) for one in SSLNegotiation)),
    "sslpassword": _any,
    "sslrootcert": _any,
    "sslsni": _one_of("1", why=_BY_DEFAULT),
    "target_session_attrs": _one_of(*(str(one.value) for one in SessionAttribute)),
    "tcp_user_timeout": _OWN_TIMEOUTS,
    "user": _any,
}
"""All that libpq 18 knows."""

_PASSED: Final = frozenset(
    {"options", "passfile", "sslcert", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "target_session_attrs"}
    | {"ssl_max_protocol_version", "ssl_min_protocol_version"}
)
"""What asyncpg reads itself, or hands to the server (`options`)."""

_MEANT: Final = {
    "ssl": ": write sslmode=require, or verify-full",
    "sslRootCert": ": write sslrootcert",
    "timeout": ": write connect_timeout",
    "database": ": write dbname",
    "statement_cache_size": ": statements are kept always, which PgBouncer in session mode allows",
    "prepared_statement_cache_size": ": statements are kept always, which PgBouncer in session mode allows",
    "pgbouncer": ": the workers need PgBouncer in session mode, or a direct URL",
    "schema": ": write options=-c search_path=…",
    "currentSchema": ": write options=-c search_path=…",
}
"""What other drivers call it."""
