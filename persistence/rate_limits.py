"""The sliding windows that all replicas share, in Redis.

The law. A caller's accepted requests stand in a sorted set by the broker's timestamp. A request stamped `t` passes if no
window of the limit's length *containing t* would hold more than the limit with it; windows are half open, so that two
requests exactly one length apart never share one. Partitions may lag behind each other: timestamps come in any order,
and what comes after `t` counts like what came before. Put the other way round: `limit` accepted requests in a row, the
first at `a`, the last at `b`, less than a window apart, block every time between `b - window` and `a + window`.

The member is the log position. A position that is in the set passes again and is not charged again. Requests are
remembered for an hour of the log's time before the caller's newest; one older than that (a partition that lags by more
than an hour) cannot be judged any more: it passes, uncharged.

`workers.admission.rate_window` is the same law in Python; the tests hold both to the same decisions.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

KEEP_MS: Final = 3_600_000
"""How long a request is remembered, by the log's time: a redelivery after a longer time is not recognised."""

_CONNECT_TIMEOUT_S: Final = 0.5
_CALL_TIMEOUT_S: Final = 0.5

# ARGV[1] is JSON: for each key [limit, window in ms, [[timestamp, member], …]]; ARGV[2] is KEEP_MS. The result is flat:
# for each refused request its number, counted from 1 through all keys, and after how many ms it would pass.
#
# What it costs: requests far from the limit are judged together, by one count and one ZADD a caller. Near the limit a
# request costs a few calls of O(log n); only where accepted ones stand on both sides of it are the runs between them
# looked at. The span in which a refused request was blocked is kept for the rest of the batch, until something is
# accepted: a flood of refusals costs one look-up each, and writes nothing.
_SCRIPT: Final = """
local function score(number) return string.format('%.0f', number) end

local function runs(key, first, last, limit)
  local starts = redis.call('ZRANGE', key, first, last, 'WITHSCORES')
  local ends = redis.call('ZRANGE', key, first + limit - 1, last + limit - 1, 'WITHSCORES')
  return starts, ends
end

-- When would a request of time t pass? t itself, if it passes now.
local function passes_at(key, t, limit, window)
  local total = redis.call('ZCOUNT', key, '(' .. score(t - window), '(' .. score(t + window))
  if total < limit then return t end
  local first = redis.call('ZCOUNT', key, '-inf', score(t - window))
  local size = redis.call('ZCARD', key)
  local at, step = t, 1
  while first + limit <= size do
    local starts, ends = runs(key, first, first + step - 1, limit)
    for i = 2, #ends, 2 do
      local a, b = tonumber(starts[i]), tonumber(ends[i])
      if b - window >= at then return at end
      if b - a < window and a + window > at then at = a + window end
    end
    first = first + step
    step = math.min(step * 4, 256)
  end
  return at
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
        local at = blocked_until
        if t < blocked_from or t >= blocked_until then
          at = passes_at(key, t, limit, window)
        end
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
