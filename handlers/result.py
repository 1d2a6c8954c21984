"""What a use case returns: it never raises for a business reason."""

from collections.abc import Sequence

from contracts.envelope import Envelope
from contracts.errors import CatalogError
from contracts.values import value


@value(frozen=True, slots=True)
class Success:
    """It was done (or there was nothing to do).

    `subjects` are the customers whose personal data the request or the envelope holds: when one of them is deleted,
    the stored outcome is erased. `erases` are the customers whose data this very message erased.
    """

    value: Envelope
    subjects: Sequence[str] = ()
    erases: Sequence[str] = ()


@value(frozen=True, slots=True)
class Failure:
    """A business "no". The unit of work forgets whatever the use case changed before it.

    One that is not `stored` says nothing of the message for ever: another delivery of it may pass.
    """

    error: CatalogError
    subjects: Sequence[str] = ()
    stored: bool = True


Result = Success | Failure
