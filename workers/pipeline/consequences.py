"""All that follows from an end: reply, dead letter, cache keys, place in a key's queue, labels. Judged once, here.

Whoever answers, counts, acks or keeps queues reads the consequences, and never the class of an end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from contracts.envelope import failure, status_of
from contracts.errors import CatalogError, DeadlineExceededError, InternalError, RateLimitedError
from workers.pipeline.ends import Applied, Broken, End, PutAside, Refused, Repeated, Waiting
from workers.pipeline.raised_at import raised_at

PARKED: Final = "PARKED"
_PASSING: Final = frozenset({RateLimitedError.error_code, DeadlineExceededError.error_code})
_UNANSWERED: Final = 0
"""The status of what nobody is told."""


@dataclass(slots=True)
class Queued:
    """A place in the queue of a key: at its head, or behind it, under the incident that the head met."""

    incident: str
    is_head: bool
    """It met the defect: where its kind asks for it, what follows waits behind it."""


@dataclass(slots=True)
class Letter:
    """Why a message is put aside: an error code, and one readable line without internals."""

    reason: str
    detail: str
    incident: str | None = None


@dataclass(slots=True)
class Defect:
    """What met a message through our fault, and the number under which its caller is told of it."""

    incident: str
    kind: str
    error: Exception


@dataclass(slots=True)
class Consequences:
    """What follows from one end, for one delivery."""

    label: str
    status_code: int
    """0 where nobody is answered."""
    envelope: bytes | None = None
    """What the reply holds, for whoever wants one."""
    error_code: str | None = None
    """Of a result it stands in the envelope."""
    is_result: bool = False
    """A use case came to it: now, or before."""
    is_replayed: bool = False
    cache_keys: Sequence[str] = ()
    """To be cleared before the reply goes out."""
    erases: Sequence[str] = ()
    """Customers of whom no stored envelope may be shown any more."""
    letter: Letter | None = None
    defect: Defect | None = None
    queued: Queued | None = None
    """None: it has left the queue of its key, and what waited behind it may go on."""
    says_nothing: bool = False
    """It tells nothing of the message itself, which came too often, or too late."""
    is_unsure: bool = False
    """It only tells that nothing was done: by this worker, and so far."""


def consequences_of(end: End, *, wants_reply: bool) -> Consequences:
    """Judge an end. Without a reply, who is refused has it dead-lettered, unless it only came too often or too late."""
    match end:
        case Applied():
            return Consequences(
                "applied",
                end.status_code,
                end.envelope,
                is_result=True,
                cache_keys=end.cache_keys,
                erases=end.erases,
            )
        case Repeated():
            return Consequences(
                "repeated",
                status_of(end.envelope),
                end.envelope,
                is_result=True,
                is_replayed=True,
                cache_keys=end.cache_keys,
            )
        case Refused():
            return _of_refusal(end, wants_reply=wants_reply)
        case Broken():
            return _of_defect(end)
        case Waiting():
            return Consequences(
                "parked",
                InternalError.status_code,
                failure(_waits_behind(end.incident)).encode(),
                InternalError.error_code,
                letter=Letter(
                    PARKED, f"waits behind {end.behind} (partition/offset), which met a defect", end.incident
                ),
                queued=Queued(end.incident, is_head=False),
                is_unsure=True,
            )
        case PutAside():
            return Consequences("put_aside", _UNANSWERED, None, end.reason, letter=Letter(end.reason, end.detail))
        case _ as never:
            assert_never(never)


def _of_refusal(end: Refused, *, wants_reply: bool) -> Consequences:
    error = end.error
    says_nothing = error.error_code in _PASSING
    is_put_aside = end.dead_letter or not (wants_reply or says_nothing)
    return Consequences(
        "refused",
        error.status_code,
        failure(error).encode(),
        error.error_code,
        letter=Letter(error.error_code, error.summary) if is_put_aside else None,
        says_nothing=says_nothing,
        is_unsure=error.error_code == DeadlineExceededError.error_code,
    )


def _of_defect(end: Broken) -> Consequences:
    detail = f"{type(end.error).__name__} in {end.kind} at {raised_at(end.error)}"
    return Consequences(
        "broken",
        InternalError.status_code,
        failure(_internal_error(end.incident)).encode(),
        InternalError.error_code,
        letter=Letter(InternalError.error_code, detail, end.incident),
        defect=Defect(end.incident, end.kind, end.error),
        queued=Queued(end.incident, is_head=True),
    )


def _internal_error(incident: str) -> CatalogError:
    """Say that it is our fault, and under which number the log has it."""
    return InternalError("An internal error occurred; it was recorded and may be tried again", {"incident": incident})


def _waits_behind(incident: str) -> CatalogError:
    """Say that an earlier command of the key has to be mended first; the caller is answered again when it was."""
    text = "An earlier command of the same key met an internal error; this one waits until that is mended"
    return InternalError(text, {"incident": incident, "parked": True})
