"""The sliding windows that all replicas share, in Redis.

The law. A caller's accepted requests stand in a sorted set by the broker's timestamp. A request stamped `t` passes if
no window of the limit's length *containing t* would hold more than the limit with it; windows are half open, so that
two requests exactly one length apart never share one. Partitions may lag behind each other: timestamps come in any
order, and what comes after `t` counts like what came before. Put the other way round: `limit` accepted requests in a
row, the first at `a`, the last at `b`, less than a window apart, block every time between `b - window` and
`a + window`.

The member is the log position with the timestamp: a topic made anew uses positions again, never with the same time. A
member that is in the set passes again and is not charged again. Requests are remembered for an hour of the log's time
before the caller's newest; one older than that (a partition that lags by more than an hour) cannot be judged any more:
it passes, uncharged.

`workers.admission.rate_window` is the same law in Python; the tests hold both to the same decisions.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from contracts.values import value
from persistence.redis_client import ON_PRIMARY, create_redis, drop_connections

KEEP_MS: Final = 3_600_000
"""How long a request is remembered, by the log's time: a redelivery after a longer time is not recognised."""

_TRY_TIMEOUT_S: Final = 0.5
"""Of one try with all its steps: a server that answers each of them just in time must not hold a batch up longer."""


@value(frozen=True, slots=True)
class Charge:
    """A request to be judged: who sent it, when the broker stamped it (ms since the epoch), and where it stands."""

    caller: str
    stamped_at_ms: int
    topic: str
    partition: int
    offset: int


class Limit(NamedTuple):
    """How many requests a window may hold, at least 1, and how long a window is."""

    requests: int
    window_ms: int


class RedisAwayError(Exception):
    """Redis did not judge, whatever the reason; the text is for the log."""


# ARGV[1] is JSON: for each key [limit, window in ms, [[timestamp, member], …]]; ARGV[2] is KEEP_MS. The result is flat:
# for each refused request its number, counted from 1 through all keys, and after how many ms it would pass.
#
# What it costs: requests far from the limit are judged together, by one count and one ZADD a caller. Near the limit a
# request costs a few calls of O(log n); only where accepted ones stand on both sides of it are the runs between them
# looked at. The span in which a refused request was blocked is known for the rest of the batch, until something is
# accepted: a flood of refusals costs one look-up each, and writes nothing.
_SCRIPT: Final = (
    ON_PRIMARY
    + """
local function score(number) return string.format('%.0f', number) end

-- When would a request of time t pass? t itself, if it passes now. What blocks a time are the runs that begin less than
-- a window before it, end less than a window after it and are shorter than one; the last of them blocks it longest.
local function passes_at(key, t, limit, window, known_from, known_until)
  local at = t
  while true do
    if at >= known_from and at < known_until then return known_until end
    local first = redis.call('ZCOUNT', key, '-inf', score(at - window))
    local last = redis.call('ZCOUNT', key, '-inf', '(' .. score(at + window)) - limit
    local free, step = at, 1
    while last >= first and at == free do
      local from = math.max(first, last - step + 1)
      local starts = redis.call('ZRANGE', key, from, last, 'WITHSCORES')
      local ends = redis.call('ZRANGE', key, from + limit - 1, last + limit - 1, 'WITHSCORES')
      for i = #starts, 2, -2 do
        local a = tonumber(starts[i])
        if tonumber(ends[i]) - a < window then
          at = a + window
          break
        end
      end
      last = from - 1
      step = math.min(step * 4, 256)
    end
    if at == free then return at end
  end
end

local refused, number, keep = {}, 0, tonumber(ARGV[2])
for k, caller in ipairs(cjson.decode(ARGV[1])) do
  local key, limit, window, requests = KEYS[k], caller[1], caller[2], caller[3]
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  local newest = tonumber(last[2]) or requests[1][1]
  local lowest, highest = requests[1][1], requests[1][1]
  for _, request in ipairs(requests) do
    lowest = math.min(lowest, request[1])
    highest = math.max(highest, request[1])
  end
  local added = 0
  local near = #requests > 1000 or #requests > limit or lowest < math.max(newest, highest) - keep
    or redis.call('ZCOUNT', key, '(' .. score(lowest - window), '(' .. score(highest + window)) + #requests > limit
  if not near then
    local arguments = {}
    for i, request in ipairs(requests) do
      arguments[2 * i - 1] = score(request[1])
      arguments[2 * i] = request[2]
    end
    added = redis.call('ZADD', key, 'NX', unpack(arguments))
    newest = math.max(newest, highest)
    number = number + #requests
  else
    local blocked_from, blocked_until = 0, 0
    for _, request in ipairs(requests) do
      number = number + 1
      local t, member = request[1], request[2]
      if t >= newest - keep and not redis.call('ZSCORE', key, member) then
        local at = passes_at(key, t, limit, window, blocked_from, blocked_until)
        if at > t then
          blocked_from, blocked_until = t, at
          refused[#refused + 1] = number
          refused[#refused + 1] = at - t
        else
          redis.call('ZADD', key, score(t), member)
          added = added + 1
          newest = math.max(newest, t)
          blocked_until = 0
        end
      end
    end
  end
  if added > 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', score(newest - keep - window))
    redis.call('PEXPIRE', key, score(keep + window))
  end
end
return refused
"""
)


def _member(charge: Charge) -> str:
    return f"{charge.topic}/{charge.partition}/{charge.offset}/{charge.stamped_at_ms}"


class RedisWindows:
    """All callers' windows in one Redis, or one Redis Cluster (`redis+cluster://`, with TLS `rediss+cluster://`).

    Every key has the same hash tag, so that one script may touch all of a batch's callers in a cluster. Keys hold a
    digest of the caller, never its name, and expire an hour after the last accepted request. Nothing is connected
    before the first call. A call that fails is made once more: it may have been this process that was late, or a
    connection that broke unseen or leads to a server that is no primary any more, and what is charged already is not
    charged again.
    """

    def __init__(self, url: str, prefix: str) -> None:
        """Take the server's URL, and what the names of this deployment's keys begin with."""
        self._redis = create_redis(url)
        self.failures = 0
        """How often a try failed, were the call made once more with success: by another server, perhaps."""
        self._tag = f"{{{prefix}:rate}}:"
        self._sha = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

    async def judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        """Charge what passes; return for each request after how many ms it would pass, 0 if it does.

        The requests of one caller are judged in the order given, each under the limit of the caller's first. Raises
        `RedisAwayError` within about a second.
        """
        of_caller: dict[str, list[int]] = {}
        for index, charge in enumerate(charges):
            of_caller.setdefault(charge.caller, []).append(index)
        order: list[int] = []
        callers: list[tuple[int, int, list[tuple[int, str]]]] = []
        for indexes in of_caller.values():
            requests = [(charges[index].stamped_at_ms, _member(charges[index])) for index in indexes]
            callers.append((*limits[indexes[0]], requests))
            order += indexes
        refused = await self._run([self._key(caller) for caller in of_caller], orjson.dumps(callers))
        waits = [0] * len(charges)
        for number, wait_ms in zip(refused[::2], refused[1::2], strict=True):
            waits[order[number - 1]] = wait_ms
        return waits

    async def ping(self) -> None:
        """Return when Redis answers. Raises `RedisAwayError`."""
        await self._run([self._key("")], b"[]")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _key(self, caller: str) -> str:
        return self._tag + hashlib.blake2b(caller.encode(), digest_size=16).hexdigest()

    async def _run(self, keys: Sequence[str], callers: bytes) -> Sequence[int]:
        try:
            return await self._try(keys, callers)
        except RedisAwayError:
            return await self._try(keys, callers)

    async def _try(self, keys: Sequence[str], callers: bytes) -> Sequence[int]:
        try:
            async with asyncio.timeout(_TRY_TIMEOUT_S):
                try:
                    found: Sequence[int] = await self._redis.evalsha(self._sha, len(keys), *keys, callers, KEEP_MS)
                except NoScriptError:  # a new server, or one that was restarted: EVAL makes it known again
                    found = await self._redis.eval(_SCRIPT, len(keys), *keys, callers, KEEP_MS)
        except (RedisError, RedisClusterException, OSError) as error:
            self.failures += 1
            await drop_connections(self._redis)
            raise RedisAwayError(f"{type(error).__name__}: {error}") from error
        return found
