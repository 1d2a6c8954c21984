"""The closed set of ends that a delivery can come to. What follows from each is said in one place: `consequences`."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import CatalogError


@dataclass(slots=True)
class Applied:
    """The use case ran to a result, good or bad, which is stored. Answered with its envelope."""

    envelope: bytes
    status_code: int
    cache_keys: Sequence[str] = ()
    erases: Sequence[str] = ()


@dataclass(slots=True)
class Repeated:
    """Decided before: the stored envelope is sent to this delivery."""

    envelope: bytes
    cache_keys: Sequence[str] = ()


@dataclass(slots=True)
class Refused:
    """A "no" before any effect; not stored. `dead_letter` asks for an operator's eye as well."""

    error: CatalogError
    dead_letter: bool = False


@dataclass(slots=True)
class Broken:
    """A defect of ours: logged, answered 500 and dead-lettered, under one incident id."""

    incident: str
    error: Exception
    kind: str
    """`unknown` where no use case has the name."""


@dataclass(slots=True)
class Waiting:
    """Parked behind an earlier command of its key that met a defect: answered with its incident and dead-lettered."""

    behind: str
    incident: str


@dataclass(slots=True)
class PutAside:
    """Nobody can be answered: dead-lettered, no effect."""

    reason: str
    detail: str


End = Applied | Repeated | Refused | Broken | Waiting | PutAside
