"""The cache of what queries show, in Redis: JSON objects, at most `TTL_S` old, never older than an answered command.

**A fill needs a lease.** Whoever misses takes one (a random token, 5 s) and loads from the primary *after* that; a fill
counts only while its own token stands. Clearing deletes value and lease together, so what was loaded before a change is
never put back after it. Who finds another's lease waits a little for its fill, then loads for itself: no stampede.

**A change is out of the cache before its reply goes out.** Where Redis cannot be reached for that, the keys are written
down in Postgres, and cleared as soon as anybody can (`clear_recorded`); until then a reader may see the old value, at
most `TTL_S` long. With `strict` each batch of reads asks Postgres for such keys first, and loads them.

**A value counts only in the server that it was filled in, and while that is the primary.** A server that was restarted
from its disk, or a replica that took over, may have values and leases whose clearing it never heard of; so each carries
the `run_id` of its server and the `master_replid`, which every fail-over changes. A server that is no primary any more
answers nothing, and whatever fails drops the connections. Before it knows, what is cleared there may still stand in the
new primary: what was cleared within `DOUBT_S` before a failure is cleared once more after it.

Without Redis everything is loaded. Value and lease of a name share a hash slot, and no call touches two names in a
cluster.
"""

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from contracts.envelope import MAX_REPLY_BYTES
from persistence.engine import Engine, connected
from persistence.redis_client import CALL_TIMEOUT_S, ON_PRIMARY, RedisClient, drop_connections

TTL_S: Final = 1800
LEASE_MS: Final = 5_000
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
"""How many bytes of values are read at once, the last one apart: a batch may ask for hundreds of the largest."""
NAMES_AT_ONCE: Final = 16
"""In a cluster each name is a call of its own: so many together, until these are enough bytes."""
AWAIT_PAUSES_S: Final = (0.005, 0.01, 0.02, 0.04, 0.08)
"""How long somebody else's fill is waited for: a load takes a few milliseconds."""
DOUBT_S: Final = 60.0
"""How long an old primary may take the writes of connections that stayed open, before it hears of the new one."""
MAX_DOUBTFUL: Final = 10_000
"""Keys remembered for that."""
BREAK_S: Final = 1.0
"""How long Redis is left alone after it failed: an outage costs one call a second, not one a batch."""

Argument = bytes | str | int
Load = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
Whole = Callable[[bytes], bool]
"""Tells whether a value has every field."""

_RUN: Final = (
    ON_PRIMARY
    + """
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local term = type(replication) == 'string' and string.match(replication, 'master_replid:(%x+)') or ''
local mark = ',"redis_run":"' .. run .. '-' .. term .. '"}'
"""
)
# KEYS: value and lease of each name. ARGV: token, milliseconds, bytes. Returns for each name its value, 1 (the lease is
# ours now), 0 (it is somebody else's) or 2 (it was not looked at, as the values before it are more bytes than that).
_LOOK: Final = (
    _RUN
    + """
local answers = {}
local bytes = 0
for at = 1, #KEYS, 2 do
  local value = bytes <= tonumber(ARGV[3]) and redis.call('GET', KEYS[at])
  if bytes > tonumber(ARGV[3]) then
    answers[#answers + 1] = 2
  elseif value and string.sub(value, -#mark) == mark then
    bytes = bytes + #value
    answers[#answers + 1] = string.sub(value, 1, -#mark - 1) .. '}'
  elseif redis.call('SET', KEYS[at + 1], ARGV[1] .. mark, 'NX', 'PX', ARGV[2]) then
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
"""
)
# KEYS: value and lease of each name. ARGV: token, seconds, then a JSON object for each name, or '' to give the lease
# back. Returns how many were filled.
_FILL: Final = (
    _RUN
    + """
local filled = 0
for at = 1, #KEYS, 2 do
  if redis.call('GET', KEYS[at + 1]) == ARGV[1] .. mark then
    redis.call('DEL', KEYS[at + 1])
    local value = ARGV[2 + (at + 1) / 2]
    if value ~= '' then
      redis.call('SET', KEYS[at], string.sub(value, 1, -2) .. mark, 'EX', ARGV[2])
      filled = filled + 1
    end
  end
end
return filled
"""
)
_CLEAR: Final = ON_PRIMARY + "for at = 1, #KEYS do redis.call('DEL', KEYS[at]) end"
_SHA: Final = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_LOOK, _FILL, _CLEAR)
}

_RECORD: Final = """
insert into cache_invalidations (key) select key from unnest($1::text[]) as k(key) order by key
on conflict (key) do update set asked_at = clock_timestamp()"""
_RECORDED: Final = "select key from cache_invalidations where key = any($1::text[])"
_OLDEST: Final = "select key, asked_at from cache_invalidations order by asked_at limit $1"
# A key that was asked for again meanwhile stays; rows that a writer has at hand are left for the next time.
_FORGET: Final = """
delete from cache_invalidations where key in (
  select c.key from cache_invalidations c
  join unnest($1::text[], $2::timestamptz[]) as done(key, asked_at) on done.key = c.key and done.asked_at = c.asked_at
  order by c.key for update of c skip locked)"""

_FAILURES: Final = (RedisError, RedisClusterException, OSError)


class CacheWatch(Protocol):
    """Counts what the cache does."""

    def on_cache_read(self, hits: int, misses: int) -> None:
        """So many names were found, and so many were not."""
        ...

    def on_cache_delayed(self, keys: int) -> None:
        """So many keys could not be cleared before the reply: they are written down."""
        ...


def cache_key(space: str, name: str) -> str:
    """Name the key of a value."""
    return f"{space}:{name}"


def _pair(key: str) -> tuple[str, str]:
    """Name a value and its lease: the value's whole key is the hash tag, so both are in one slot."""
    return key, f"lease:{{{key}}}"


class _Breaker:
    """Keeps away from a server that failed just now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._closed_at = float("-inf")

    @property
    def is_open(self) -> bool:
        return self._clock() < self._closed_at

    def trip(self) -> None:
        self._closed_at = self._clock() + BREAK_S


class _Recent:
    """Keys that were cleared a short time ago."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: deque[tuple[float, str]] = deque(maxlen=MAX_DOUBTFUL)

    def note(self, keys: Iterable[str]) -> None:
        """Remember these."""
        now = self._clock()
        self._keys.extend((now, key) for key in keys)

    def take(self) -> set[str]:
        """Give out the keys of the last `DOUBT_S`, and forget all."""
        since = self._clock() - DOUBT_S
        found = {key for at, key in self._keys if at >= since}
        self._keys.clear()
        return found


@dataclass(slots=True)
class _Looked:
    """What a look into Redis told."""

    found: dict[str, bytes]
    leased: list[str]
    """Absent, and to be loaded now; the lease is ours, or was not asked for."""
    busy: list[str]
    """Absent; somebody else is about to fill it."""
    later: list[str]
    """Not looked at: what was found before it is enough at once."""


def _take(looked: _Looked, names: Sequence[str], answers: Sequence[Any]) -> int:
    """Take in what a look answered; returns the bytes of the values."""
    taken = 0
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, bytes):
            looked.found[name] = answer
            taken += len(answer)
        else:
            (looked.busy, looked.leased, looked.later)[answer].append(name)
    return taken


class RedisCache:
    """What was shown before; made once a process. `redis` is None where there is no Redis."""

    def __init__(
        self,
        redis: RedisClient | None,
        primary: Engine,
        watch: CacheWatch | None = None,
        *,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._primary = primary
        self._watch = watch
        self._strict = strict
        self._reading = _Breaker(clock)
        self._clearing = _Breaker(clock)
        self._cleared = _Recent(clock)
        self._again: set[str] = set()
        """Keys that may have been cleared in a server that was lost since."""

    # Reading -------------------------------------------------------------------------------------------------------
    async def get_many(
        self, space: str, names: Sequence[str], load: Load, is_whole: Whole = lambda _: True
    ) -> Mapping[str, bytes | None]:
        """Find values, load and keep what is not there; one call to Redis where all is, two where something is not.

        None: those before it are as much as is read at once. What is not `is_whole` is cleared, and loaded.

        `load` reads the primary, and returns JSON objects. Raises whatever it raises, and where `strict` what asking
        Postgres raises; Redis being away raises nothing.
        """
        if self._redis is None or self._reading.is_open:
            return await load(names)
        barred = await self._recorded(space, names) if self._strict else frozenset[str]()
        token = secrets.token_hex(16)
        looked = await self._look(space, [name for name in names if name not in barred], token, is_whole)
        if looked is None:
            return await load(names)
        if self._watch is not None:
            self._watch.on_cache_read(len(looked.found), len(names) - len(looked.found) - len(looked.later))
        found: dict[str, bytes | None] = {**looked.found, **dict.fromkeys(looked.later)}
        if looked.leased or barred:
            found.update(await self._load(space, looked.leased, barred, token, load))
        if looked.busy:
            found.update(await self._await_fills(space, looked.busy, load, is_whole))
        return found

    async def _load(
        self, space: str, leased: Sequence[str], barred: Collection[str], token: str, load: Load
    ) -> Mapping[str, bytes]:
        """Load names, and keep those whose lease is ours; a lease that is of no use any more is given back."""
        loaded: Mapping[str, bytes] = {}
        try:
            loaded = await load([*leased, *barred])
        finally:
            if leased:
                bodies = [loaded.get(name, b"") for name in leased]
                await self._fill(space, leased, token, [b"" if len(one) > MAX_REPLY_BYTES else one for one in bodies])
        return loaded

    async def _await_fills(
        self, space: str, names: Sequence[str], load: Load, is_whole: Whole
    ) -> Mapping[str, bytes | None]:
        """Wait for the fills of others; load what does not come, and keep it where the lease has become ours."""
        found: dict[str, bytes | None] = {}
        waiting = list(names)
        for pause_s in AWAIT_PAUSES_S:
            await asyncio.sleep(pause_s)
            token = secrets.token_hex(16)
            looked = await self._look(space, waiting, token, is_whole)
            if looked is None:
                break
            found.update(looked.found)
            found.update(dict.fromkeys(looked.later))
            if looked.leased:
                found.update(await self._load(space, looked.leased, (), token, load))
            waiting = looked.busy
            if not waiting:
                return found
        found.update(await load(waiting))
        return found

    async def _look(self, space: str, names: Sequence[str], token: str, is_whole: Whole) -> _Looked | None:
        """Read values, and take the lease of each that is not there; None where Redis is away."""
        looked = _Looked({}, [], [], [])
        if not names:
            return looked
        bytes_left, at_once = BYTES_AT_ONCE, len(names)
        if isinstance(self._redis, RedisCluster):
            at_once = NAMES_AT_ONCE
        for at in range(0, len(names), at_once):
            if bytes_left < 0:
                looked.later += names[at:]
                break
            some = names[at : at + at_once]
            try:
                answers = await self._run(_LOOK, _pairs(space, some), [token, LEASE_MS, bytes_left])
            except _FAILURES:
                self._reading.trip()
                return None
            bytes_left -= _take(looked, some, answers)
        return await self._without_old(space, looked, is_whole)

    async def _without_old(self, space: str, looked: _Looked, is_whole: Whole) -> _Looked | None:
        """Clear what a release before kept without a field that there is now; None where Redis is away.

        It is loaded now, and kept by whoever misses it next: no lease is ours.
        """
        old = [name for name, value in looked.found.items() if not is_whole(value)]
        if not old:
            return looked
        try:
            await self._clear([cache_key(space, name) for name in old])
        except _FAILURES:
            self._reading.trip()
            return None
        found = {name: value for name, value in looked.found.items() if name not in old}
        return _Looked(found, [*looked.leased, *old], looked.busy, looked.later)

    async def _fill(self, space: str, names: Sequence[str], token: str, bodies: Sequence[bytes]) -> None:
        """Put values where our lease still stands. That Redis went away meanwhile does no harm."""
        try:
            await self._run(_FILL, _pairs(space, names), [token, TTL_S], bodies)
        except _FAILURES:
            self._reading.trip()

    async def _recorded(self, space: str, names: Sequence[str]) -> frozenset[str]:
        """Ask which names could not be cleared yet: *before* the look into Redis, where they are cleared first."""
        keys = {cache_key(space, name): name for name in names}
        async with connected(self._primary) as connection:
            rows = await connection.fetch(_RECORDED, list(keys))
        return frozenset(keys[row["key"]] for row in rows)

    # Clearing ------------------------------------------------------------------------------------------------------
    async def clear(self, keys: Sequence[str]) -> None:
        """Take values out, before the reply to what changed them. Where Redis is away, the keys are written down.

        Raises what Postgres raises when neither can be reached: then the reply must wait.
        """
        if self._redis is None or not keys:
            return
        if not self._clearing.is_open:
            try:
                await self._clear([*keys, *self._again])
            except _FAILURES:
                self._clearing.trip()
            else:
                self._cleared.note(keys)
                return
        if self._watch is not None:
            self._watch.on_cache_delayed(len(keys))
        async with connected(self._primary) as connection:
            await connection.execute(_RECORD, sorted(keys))

    async def clear_recorded(self, at_most: int = 1_000) -> int:
        """Clear keys that were written down, the oldest first; returns how many: none while Redis is away.

        Safe in several workers at once; who dies in between clears them again.
        """
        if self._redis is None or self._clearing.is_open:
            return 0
        if self._again:
            try:
                await self._clear(list(self._again))
            except _FAILURES:
                self._clearing.trip()
                return 0
        async with connected(self._primary) as connection:
            rows = await connection.fetch(_OLDEST, at_most)
            if not rows:
                return 0
            keys = [row["key"] for row in rows]
            try:
                await self._clear(keys)
            except _FAILURES:
                self._clearing.trip()
                return 0
            await connection.execute(_FORGET, keys, [row["asked_at"] for row in rows])
        return len(keys)

    async def _clear(self, keys: Sequence[str]) -> None:
        await self._run(_CLEAR, [_pair(key) for key in keys], [])
        self._again.difference_update(keys)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    # Calling -------------------------------------------------------------------------------------------------------
    async def _run(
        self,
        script: str,
        pairs: Sequence[tuple[str, str]],
        shared: Sequence[Argument],
        own: Sequence[Argument] = (),
    ) -> Sequence[Any]:
        """Run a script over the keys of all names: in one call, in a cluster in one a name. `own`: an argument a name.

        Raises one of `_FAILURES` within half a second; then the next call connects anew.
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if not isinstance(self._redis, RedisCluster):
                    answers = [await self._call(script, pairs, [*shared, *own])]
                else:
                    calls = (self._call(script, [pair], [*shared, *own[at : at + 1]]) for at, pair in enumerate(pairs))
                    answers = await asyncio.gather(*calls)
        except _FAILURES:
            self._again |= self._cleared.take()
            if self._redis is not None:
                await drop_connections(self._redis)
            raise
        return [one for answer in answers if isinstance(answer, list) for one in answer]

    async def _call(self, script: str, pairs: Iterable[tuple[str, str]], args: Sequence[Argument]) -> object:
        if self._redis is None:
            return []
        keys = [key for pair in pairs for key in pair]
        try:
            return await self._redis.evalsha(_SHA[script], len(keys), *keys, *args)
        except NoScriptError:  # a new server, or one that was restarted: EVAL makes it known again
            return await self._redis.eval(script, len(keys), *keys, *args)


def _pairs(space: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [_pair(cache_key(space, name)) for name in names]
