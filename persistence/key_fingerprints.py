"""Which keys the workers of this database share, told by fingerprints: a replica with another key would answer wrongly.

A key is exchanged in two steps, each a rolling restart: all workers get the new one as the second (`…_PREVIOUS`), then
the two are swapped. Both are compared with all the time, so nobody need be in step. The new key's fingerprint is
recorded once no live worker has the old one as its first.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from persistence.engine import Connection
from persistence.phases import LIVE_FOR_S


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key by the name of its setting: `first` makes, and both are compared with."""

    name: str
    first: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)

    @property
    def fingerprints(self) -> list[str]:
        """The fingerprints of both, the first's first."""
        return [fingerprint(self.name, key).hex() for key in (self.first, self.previous) if key is not None]


class Recorded(NamedTuple):
    """The fingerprint in the database, in hex, and since when."""

    fingerprint: str
    recorded_at: datetime


def fingerprint(name: str, key: bytes) -> bytes:
    """Return what tells a key from another, and tells nothing of it."""
    return hmac.digest(key, f"catalog-workers: fingerprint of {name}, 1\n".encode(), hashlib.sha256)


_RECORD: Final = """
insert into key_fingerprints (name, fingerprint)
select name, decode(fingerprint, 'hex') from unnest($1::text[], $2::text[]) as k(name, fingerprint) order by name
on conflict (name) do nothing"""
_RECORDED: Final = "select name, encode(fingerprint, 'hex') as fingerprint, recorded_at from key_fingerprints"
# A worker of the release before does not say which keys it has.
_EXCHANGE: Final = """
update key_fingerprints f set fingerprint = decode($2, 'hex'), recorded_at = now()
where f.name = $1 and f.fingerprint = decode($3, 'hex') and not exists (
    select from worker_heartbeats h where h.seen_at > now() - make_interval(secs => $4)
    and (h.keys is null or h.keys -> $1 ->> 0 = $3))"""
_ACCEPTED: Final = """
select worker from worker_heartbeats
where seen_at > now() - make_interval(secs => $3) and role = $4
  and not coalesce(keys -> $1 ? $2, false)
order by worker"""
_ANY_LIVE: Final = """
select exists (select from worker_heartbeats where seen_at > now() - make_interval(secs => $1) and role = $2)"""


async def recorded(connection: Connection) -> Mapping[str, Recorded]:
    """Return what is recorded, by the names of the settings."""
    rows = await connection.fetch(_RECORDED)
    return {row["name"]: Recorded(row["fingerprint"], row["recorded_at"]) for row in rows}


async def strange_keys(connection: Connection, pairs: Sequence[KeyPair]) -> list[str]:
    """Name the keys that are not those of this database's workers; those of which nothing is recorded are recorded."""
    known = await recorded(connection)
    if new := [one for one in pairs if one.name not in known]:
        await connection.execute(_RECORD, [one.name for one in new], [one.fingerprints[0] for one in new])
        known = await recorded(connection)
    return [one.name for one in pairs if known[one.name].fingerprint not in one.fingerprints]


async def exchange(connection: Connection, pairs: Sequence[KeyPair]) -> list[str]:
    """Record each first key whose previous one is no live worker's first any more; returns their names."""
    exchanged = []
    for pair in pairs:
        if pair.previous is not None:
            new, old = pair.fingerprints
            if await connection.execute(_EXCHANGE, pair.name, new, old, float(LIVE_FOR_S)) == "UPDATE 1":
                exchanged.append(pair.name)
    return exchanged


async def workers_without(connection: Connection, pair: KeyPair, role: str = "commands") -> list[str]:
    """Name the live workers of a role that have this first key neither as their first nor as their second."""
    rows = await connection.fetch(_ACCEPTED, pair.name, pair.fingerprints[0], float(LIVE_FOR_S), role)
    return [row["worker"] for row in rows]


async def why_refused(connection: Connection, pair: KeyPair, role: str) -> str | None:
    """Say why the workers of a role would not believe what is signed by this first key; None where they would.

    Where none of them lives, those that come are taken to have the key that is recorded.
    """
    if without := await workers_without(connection, pair, role):
        return f"{', '.join(without)} would refuse it: {pair.name} is not set there, or is another"
    if await connection.fetchval(_ANY_LIVE, float(LIVE_FOR_S), role):
        return None
    known = (await recorded(connection)).get(pair.name)
    if known is None or known.fingerprint != pair.fingerprints[0]:
        return f"no worker has shown that it has this {pair.name}: start the workers with it"
    return None


def as_heartbeat(pairs: Sequence[KeyPair]) -> str:
    """Write which keys a worker has, as its heartbeat says it."""
    return json.dumps({pair.name: pair.fingerprints for pair in pairs})
