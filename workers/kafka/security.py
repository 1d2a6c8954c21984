"""How a client proves who it is to Kafka, and how it knows the broker."""

import importlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from aiokafka.abc import AbstractTokenProvider
from faststream.kafka.security import parse_security
from faststream.security import BaseSecurity, SASLOAuthBearer, SASLPlaintext, SASLScram256, SASLScram512

from workers.operator_error import OperatorError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_WITH_PASSWORD: Final = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


class SecurityConfigError(OperatorError):
    """The security settings cannot work; the text says which one and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Plain values, checked when they are put to use.

    `cafile` is who signs the broker's certificate (without it, the system's authorities do), `certfile` and `keyfile`
    are this client's own. `token_provider` names a class without arguments, `package.module:Class`, whose instances
    have `async def token() -> str` (OAUTHBEARER); it is created once for each client.
    """

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    token_provider: str | None = None

    def faststream(self) -> BaseSecurity:
        """The same for FastStream. Raise SecurityConfigError for what cannot work."""
        context = self._ssl_context()
        if not self.protocol.startswith("SASL"):
            return BaseSecurity(ssl_context=context)
        if self.mechanism is None:
            raise SecurityConfigError(f"Kafka protocol {self.protocol} needs a SASL mechanism")
        if self.mechanism == "OAUTHBEARER":
            return SASLOAuthBearer(ssl_context=context)
        if not self.username or self.password is None:
            raise SecurityConfigError(f"SASL mechanism {self.mechanism} needs a user name and a password")
        return _WITH_PASSWORD[self.mechanism](self.username, self.password, ssl_context=context)

    def token_source(self) -> AbstractTokenProvider | None:
        """The token provider of OAUTHBEARER, freshly made. Raise SecurityConfigError where it cannot be."""
        if self.mechanism != "OAUTHBEARER" or not self.protocol.startswith("SASL"):
            return None
        module, _, name = (self.token_provider or "").partition(":")
        if not module or not name:
            raise SecurityConfigError("OAUTHBEARER needs a token provider, as 'package.module:Class'")
        try:
            source = getattr(importlib.import_module(module), name)()
        except Exception as error:
            raise SecurityConfigError(f"Token provider '{self.token_provider}' cannot be made: {error}") from error
        return _Tokens(source)

    def client_options(self) -> dict[str, Any]:
        """The same as keyword arguments of any aiokafka client. Raise SecurityConfigError for what cannot work."""
        return parse_security(self.faststream()) | {"sasl_oauth_token_provider": self.token_source()}

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self.protocol.endswith("SSL"):
            return None
        for setting, path in (("CA", self.cafile), ("certificate", self.certfile), ("key", self.keyfile)):
            if path is not None and not Path(path).is_file():
                raise SecurityConfigError(f"Kafka's {setting} file '{path}' does not exist")
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except (ssl.SSLError, OSError) as error:
            raise SecurityConfigError(f"Kafka's CA file '{self.cafile}' cannot be read: {error}") from error
        if self.keyfile is not None and self.certfile is None:
            raise SecurityConfigError(f"Kafka's key file '{self.keyfile}' needs its certificate file")
        if self.certfile is not None:
            try:
                context.load_cert_chain(self.certfile, self.keyfile, self.keyfile_password or "")
            except (ssl.SSLError, OSError) as error:
                raise SecurityConfigError(
                    f"Kafka's certificate '{self.certfile}' and key '{self.keyfile or self.certfile}' cannot be used"
                    f" (do they belong together, is the key's password right?): {error}"
                ) from error
        return context


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """aiokafka insists on its own base class; a provider of ours need not know it."""

    def __init__(self, source: Any) -> None:  # noqa: ANN401 - whatever class the setting names
        self._source = source

    async def token(self) -> str:
        return str(await self._source.token())
