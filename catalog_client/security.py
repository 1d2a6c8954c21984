"""How the client proves who it is to Kafka, and how it knows the broker."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.abc import AbstractTokenProvider

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """TLS to the broker.

    `ca_file` is who signs the broker's certificate; without it the system's authorities do. `certificate_file` and
    `key_file` are this client's own, for a broker that asks for one.
    """

    ca_file: str | Path | None = None
    certificate_file: str | Path | None = None
    key_file: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """Load the files. Raise ValueError, which names the one that cannot be used."""
        for name in ("ca_file", "certificate_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"TLS: {name} '{path}' does not exist")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("TLS: a key_file needs its certificate_file")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"TLS: ca_file '{self.ca_file}' cannot be read: {error}") from error
        if self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, self.key_password or "")
            except (ssl.SSLError, OSError) as error:
                raise ValueError(
                    f"TLS: certificate '{self.certificate_file}' and key '{self.key_file or self.certificate_file}'"
                    f" cannot be used (do they belong together, is the key's password right?): {error}"
                ) from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class SASL:
    """A name and a password (PLAIN, SCRAM), or tokens (OAUTHBEARER), which `token` is asked for at each connection."""

    mechanism: Mechanism
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.mechanism == "OAUTHBEARER":
            if self.token is None:
                raise ValueError("SASL: OAUTHBEARER needs token, an async function that returns one")
        elif not self.username or self.password is None:
            raise ValueError(f"SASL: {self.mechanism} needs username and password")


def client_options(tls: TLS | None, sasl: SASL | None) -> dict[str, Any]:
    """Say the same as keyword arguments of any aiokafka client. Raise ValueError for what cannot work."""
    protocol = ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")
    options: dict[str, Any] = {"security_protocol": protocol}
    if tls is not None:
        options["ssl_context"] = tls.context()
    if sasl is not None:
        options["sasl_mechanism"] = sasl.mechanism
        if sasl.token is not None:
            options["sasl_oauth_token_provider"] = _Tokens(sasl.token)
        else:
            options |= {"sasl_plain_username": sasl.username, "sasl_plain_password": sasl.password}
    return options


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """aiokafka insists on its own base class; a function need not know it."""

    def __init__(self, token: Callable[[], Awaitable[str]]) -> None:
        self._token = token

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - it is declared without a type
        return await self._token()
