"""Reaching a broker: waiting for one that is away, and saying plainly when it refuses us."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from workers.kafka.security import KafkaSecurity
from workers.operator_error import OperatorError
from workers.ports import BrokerAwayError

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
"""The longest wait between two attempts of anything, as the contract promises for outages."""

REACH_TIMEOUT_S: Final = 5.0
"""One attempt to connect, authenticate and get an answer."""

_SAY_AGAIN_S: Final = 30.0
"""Between two log lines that say the same of a broker that stays away."""

_REFUSALS: Final = (
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_FORBIDDEN: Final = {
    errors.GroupAuthorizationFailedError: "READ on the consumer group is missing",
    errors.TopicAuthorizationFailedError: "a right on the topic is missing",
    errors.ClusterAuthorizationFailedError: "WRITE on a topic (or IDEMPOTENT_WRITE on the cluster) is missing",
    errors.InvalidGroupIdError: "it does not accept the name of the consumer group",
    errors.InconsistentGroupProtocolError: "the group's other members assign partitions by other rules",
    errors.InvalidSessionTimeoutError: "the session time-out is outside of what the broker accepts",
}
_TLS_MISFITS: Final = ("WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "HANDSHAKE_FAILURE", "CERTIFICATE", "UNKNOWN_CA")
"""Parts of OpenSSL's reasons that another attempt would not change. Of the version 1.3 on, a client hears that its
certificate is missing or refused only when it reads the first answer."""

_log = structlog.get_logger(__name__)


class KafkaAccessError(OperatorError):
    """Kafka refuses us, and would again: credentials, certificates, access rights or its own settings are wrong.

    The text says what, and where it can the remedy, in one line.
    """


class Backoff:
    """Waits that grow from `first_s` to `longest_s`, with jitter, so that a fleet does not come back in step."""

    def __init__(
        self,
        first_s: float = FIRST_WAIT_S,
        longest_s: float = LONGEST_WAIT_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        full = min(self._first_s * 2.0 ** min(self._failures, 30), self._longest_s)
        self._failures += 1
        return full * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """It worked: the next failure waits shortest again."""
        self._failures = 0


async def reach_broker(bootstrap_servers: str, security: KafkaSecurity, client_id: str) -> None:
    """Return once any of the servers has let us in and answered.

    Raise KafkaAccessError when one refuses us, BrokerAwayError when none could be asked. aiokafka's own clients say
    "unable to bootstrap" for both, so that nobody could tell a wrong password from a broker that is being restarted.
    """
    options = security.client_options()
    reasons = []
    for host, port, _ in collect_hosts(bootstrap_servers):
        try:
            async with asyncio.timeout(REACH_TIMEOUT_S):
                connection = await create_conn(host, port, client_id=client_id, **options)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    await _closed(connection)
            return
        except _REFUSALS as error:
            raise KafkaAccessError(f"Kafka at {host}:{port} refuses our credentials: {_plain(error)}") from error
        except ssl.SSLCertVerificationError as error:
            raise KafkaAccessError(
                f"The certificate of Kafka at {host}:{port} cannot be trusted: {error.verify_message}"
            ) from error
        except (OSError, TimeoutError, errors.KafkaError) as error:
            cause = error if isinstance(error, ssl.SSLError) else error.__cause__
            if isinstance(cause, ssl.SSLError) and any(misfit in str(cause) for misfit in _TLS_MISFITS):
                raise KafkaAccessError(
                    f"Kafka at {host}:{port} does not speak TLS as we do, or refuses our certificate: {cause.reason}"
                ) from error
            reasons.append(f"{host}:{port}: {_plain(error)}")
    raise BrokerAwayError("; ".join(reasons))


async def any_broker_answers(bootstrap_servers: str, security: KafkaSecurity, client_id: str) -> str | None:
    """Ask all of the servers at once; returns why none answers, None where one does, be it with a refusal."""
    hosts = [f"{host}:{port}" for host, port, _ in collect_hosts(bootstrap_servers)]
    asking = {asyncio.create_task(reach_broker(host, security, client_id)) for host in hosts}
    reasons: list[str] = []
    try:
        for answer in asyncio.as_completed(asking):
            try:
                await answer
            except BrokerAwayError as error:
                reasons.append(str(error))
                continue
            except KafkaAccessError:
                pass
            return None
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return "; ".join(reasons)


async def wait_for_broker(
    bootstrap_servers: str, security: KafkaSecurity, client_id: str, clock: Callable[[], float] = time.monotonic
) -> None:
    """Return once a broker answers, however long that takes. Raise KafkaAccessError when it refuses us."""
    backoff = Backoff()
    say_at = clock()
    while True:
        try:
            await reach_broker(bootstrap_servers, security, client_id)
            return
        except BrokerAwayError as error:
            if clock() >= say_at:
                _log.warning("waiting_for_kafka", reason=str(error), protocol=security.protocol)
                say_at = clock() + _SAY_AGAIN_S
        await asyncio.sleep(backoff.next_s())


def refusal(error: BaseException, doing: str) -> KafkaAccessError | None:
    """`error` in plain words, if it says that Kafka will not let us do this; None for everything else."""
    if isinstance(error, _REFUSALS):
        return KafkaAccessError(f"Kafka refuses our credentials: {_plain(error)}")
    for kind, why in _FORBIDDEN.items():
        if isinstance(error, kind):
            return KafkaAccessError(f"Kafka does not allow {doing}: {why}")
    return None


def broken_by_kafka(error: BaseException) -> str | None:
    """Say in a line that Kafka failed, where it did."""
    if not isinstance(error, errors.KafkaError):
        return None
    refused = refusal(error, "this")
    return str(refused) if refused is not None else f"Kafka cannot be used: {_plain(error)}"


async def _closed(connection: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
    with suppress(errors.KafkaError, OSError):
        await connection.close()


def _plain(error: BaseException) -> str:
    return str(error) or type(error).__name__
