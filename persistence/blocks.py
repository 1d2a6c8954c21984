"""Whom operators block, and which kinds: read by every worker, changed by the command line alone.

Commands learn it with the statement that looks their batch up; queries read it when their last reading is older than a
second. So a block is obeyed within two, also by a worker that has just been woken.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from persistence.engine import Connection, Engine, connected, transaction
from persistence.faults import Fault, fault_of

Target = Literal["caller", "kind"]

BLOCKS: Final = "(select json_object_agg(target || ' ' || name, true)::text from blocks)"
"""All of them as one text, to ride with another statement; null where there are none."""
FRESH_FOR_S: Final = 1.0
"""How old a reading may be at the beginning of a batch of queries."""
READ_S: Final = 1.0
"""How long a batch waits for a reading; then the last one holds."""

_SHOW: Final = "select target, name, operator, reason, blocked_at from blocks order by target, name"
_LOG: Final = "insert into block_log (action, target, name, operator, reason) values ($1, $2, $3, $4, $5)"
_BLOCK: Final = """
insert into blocks (target, name, operator, reason) values ($1, $2, $3, $4)
on conflict (target, name) do update set operator = excluded.operator, reason = excluded.reason,
    blocked_at = clock_timestamp()"""
_UNBLOCK: Final = "delete from blocks where target = $1 and name = $2 returning 1"


@dataclass(frozen=True, slots=True)
class Blocks:
    """Who and what is blocked. It is false where nobody and nothing is."""

    callers: frozenset[str] = field(default_factory=frozenset)
    kinds: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.callers or self.kinds)

    def stops(self, caller: str, kind: str) -> bool:
        """Tell whether a request of this caller (issuer, a line, subject) for this kind is to be refused."""
        if kind in self.kinds:
            return True
        issuer, _, subject = caller.partition("\n")
        return subject in self.callers or (issuer != "" and f"{issuer} {subject}" in self.callers)


NONE: Final = Blocks()


def read_blocks(text: str | None) -> Blocks:
    """Read the text of `BLOCKS`."""
    if text is None:
        return NONE
    named: Mapping[str, list[str]] = {"caller": [], "kind": []}
    for one in orjson.loads(text):
        target, _, name = one.partition(" ")
        named[target].append(name)
    return Blocks(frozenset(named["caller"]), frozenset(named["kind"]))


@dataclass(frozen=True, slots=True)
class Block:
    """One block, by whom and why."""

    target: str
    name: str
    operator: str
    reason: str
    blocked_at: datetime


async def show_blocks(connection: Connection) -> Sequence[Block]:
    """Return every block, by target and name."""
    return [_shown(row) for row in await connection.fetch(_SHOW)]


async def block(engine: Engine, target: Target, name: str, *, operator: str, reason: str) -> None:
    """Block, and write down who did it and why; of one that is blocked already the reason is the new one."""
    async with transaction(engine) as connection:
        await connection.execute(_BLOCK, target, name, operator, reason)
        await connection.execute(_LOG, "block", target, name, operator, reason)
        await connection.execute("commit")


async def unblock(engine: Engine, target: Target, name: str, *, operator: str, reason: str) -> bool:
    """Take a block back, and write that down; tells whether there was one."""
    async with transaction(engine) as connection:
        if await connection.fetchval(_UNBLOCK, target, name) is None:
            return False
        await connection.execute(_LOG, "unblock", target, name, operator, reason)
        await connection.execute("commit")
        return True


async def nobody() -> Blocks:
    """Block nobody: where no database is asked."""
    return NONE


class BlockReader:
    """Tells a worker what is blocked, by a reading that is at most a second old.

    While the database does not answer, the last reading holds; nobody waits longer than `READ_S` for another.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._read_at = float("-inf")
        self._blocks = NONE
        self._reading = asyncio.Lock()

    async def __call__(self) -> Blocks:
        """Return what is blocked."""
        async with self._reading:
            if self._clock() - self._read_at > FRESH_FOR_S:
                began_at = self._clock()
                try:
                    async with asyncio.timeout(READ_S), connected(self._engine) as connection:
                        self._blocks = read_blocks(await connection.fetchval(f"select {BLOCKS}"))
                except TimeoutError:
                    pass
                except Exception as error:
                    if fault_of(error) is Fault.DEFECT:
                        raise
                self._read_at = began_at
            return self._blocks


def _shown(row: Any) -> Block:  # noqa: ANN401 (a driver's record)
    return Block(row["target"], row["name"], row["operator"], row["reason"], row["blocked_at"])
