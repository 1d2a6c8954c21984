"""What a command does while a server that it needs does not answer: it waits, says for what, and gives up in the end.

Before the work each server is waited for; beside the work each is looked at. So a command that makes progress goes on
for as long as it takes, and one that gets nowhere because a server is away ends with a line that names the server.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import typer
import uvloop

from persistence.address import NotConnectedError, read_address
from persistence.causes import cause_of
from persistence.faults import Fault, fault_of, sqlstate_of
from workers import deployment
from workers.kafka.connection import any_broker_answers, broken_by_kafka
from workers.operator_error import OperatorError
from workers.ports import BrokerAwayError
from workers.settings import Settings

LOOK_EVERY_S: Final = 2.0
LOOK_TIMEOUT_S: Final = 3.0
"""What a server has to answer a look. With the pause between two it is well below the 10 s in which a line is due."""

_AWAY: Final = frozenset({"08", "53", "57"})
"""Classes of SQLSTATEs by which a server lets nobody in for the moment; by others it has answered."""

T = TypeVar("T")


class ServerAwayError(OperatorError):
    """A server cannot be used; the text says which and why, in one line."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a command needs. `why_away` tells why it does not answer; None where it does, be it with a no."""

    name: str
    why_away: Callable[[], Awaitable[str | None]]


def run_attended(
    settings: Settings,
    work: Callable[[], Coroutine[Any, Any, T]],
    *,
    kafka: bool = False,
    database: bool = False,
    wait_first: bool = True,
    give_up_s: float | None = None,
) -> T:
    """Run a command's work while its servers are looked at. What an operator can mend is a `ServerAwayError`.

    `give_up_s` is WAIT_TIMEOUT_S where it is not given. Without `wait_first` the work begins at once, and what is away
    is told and nothing more: for a command that finds out by itself.
    """
    servers = [*([_kafka(settings)] if kafka else []), *([_database(settings)] if database else [])]
    bound_s = settings.process.wait_timeout_s if give_up_s is None else give_up_s
    try:
        return uvloop.run(attended(servers, work, bound_s if wait_first else None, _say))
    except Exception as error:
        told = mended_by_operator(error)
        if told is None or told is error:
            raise
        raise told from error


async def attended(
    servers: Sequence[Server],
    work: Callable[[], Coroutine[Any, Any, T]],
    give_up_s: float | None,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Wait for the servers, then do the work and look at them beside it; without `give_up_s` begin at once.

    Raises `ServerAwayError` once a server has been away for so long; the work is cancelled first.
    """
    watch = _Watch(servers, give_up_s, say, clock)
    if give_up_s is not None:
        while await watch.look():  # noqa: ASYNC110 - what is waited for is elsewhere
            await asyncio.sleep(min(LOOK_EVERY_S, give_up_s) / 4)
    running = asyncio.ensure_future(work())
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=LOOK_EVERY_S)
            if not running.done():
                await watch.look(beside=running)
        return running.result()
    finally:
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await running


class _Watch:
    """Which servers are away, since when."""

    def __init__(
        self,
        servers: Sequence[Server],
        give_up_s: float | None,
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._servers = servers
        self._give_up_s = give_up_s
        self._say = say
        self._clock = clock
        self._away_since: dict[str, float] = {}

    async def look(self, beside: "asyncio.Future[Any] | None" = None) -> bool:
        """Look at all of them; tells whether any is away. Raises `ServerAwayError` where one is for too long.

        What ends meanwhile needs no server any more.
        """
        began_at = self._clock()
        reasons = await asyncio.gather(*(_why_away(server) for server in self._servers))
        if beside is not None and beside.done():
            return False
        for server, reason in zip(self._servers, reasons, strict=True):
            if reason is None:
                if self._away_since.pop(server.name, None) is not None:
                    self._say(f"{server.name} answers")
                continue
            if server.name not in self._away_since:
                self._away_since[server.name] = began_at
                bound = f"; giving up after {self._give_up_s:g} s" if self._give_up_s is not None else ""
                self._say(f"waiting for {server.name}: {reason}{bound}")
            away_s = self._clock() - self._away_since[server.name]
            if self._give_up_s is not None and away_s >= self._give_up_s:
                msg = f"{server.name} did not answer for {self._give_up_s:g} s (WAIT_TIMEOUT_S): {reason}"
                raise ServerAwayError(msg)
        return bool(self._away_since)


async def _why_away(server: Server) -> str | None:
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return await server.why_away()
    except TimeoutError:
        return f"no answer within {LOOK_TIMEOUT_S:.0f} s"


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _kafka(settings: Settings) -> Server:
    kafka, security = settings.kafka, deployment.kafka_security(settings)

    async def why_away() -> str | None:
        return await any_broker_answers(kafka.bootstrap_servers, security, "catalog-look")

    return Server(f"Kafka at {kafka.bootstrap_servers}", why_away)


def _database(settings: Settings) -> Server:
    address = read_address(settings.database.url.get_secret_value())
    hosts, ports = address.place["host"], address.place["port"]

    async def why_away() -> str | None:
        try:
            connection = await address.connect("catalog-look")
        except NotConnectedError:
            return None
        except Exception as error:  # noqa: BLE001 - sorted here: a refusal is told by the work itself
            code = sqlstate_of(error)
            away = code[:2] in _AWAY if code is not None else isinstance(error, OSError)
            return cause_of(error) if away else None
        connection.terminate()
        return None

    places = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=True))
    return Server(f"PostgreSQL at {places}", why_away)


def mended_by_operator(error: Exception) -> OperatorError | None:
    """Return what a server did as an operator's error; None for a defect of ours."""
    if isinstance(error, OperatorError):
        return error
    if isinstance(error, BrokerAwayError):
        return ServerAwayError(str(error))
    if told := broken_by_kafka(error):
        return ServerAwayError(told)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return None
    match fault_of(error):
        case Fault.DEFECT:
            return None
        case Fault.SCHEMA_MOVED:
            return ServerAwayError(
                f"the database lacks a table or a column ({cause_of(error)})", hint="`catalog migrate`"
            )
        case _:
            return ServerAwayError(f"the database cannot be used: {cause_of(error)}")
