"""Which errors are an operator's to mend: ours are `OperatorError`s, and those of the layers below are made into one.

The layers below know nothing of operators: which of their errors are theirs stands here.
"""

from typing import Final

from contracts.errors import CatalogError
from migrations.runner import MigrationError
from persistence.backfill.definition import DefinitionError
from persistence.phases import PhaseRefusedError, UnknownPhaseError
from persistence.seed import SeedError
from workers.operator_error import OperatorError

BELOW: Final = (CatalogError, DefinitionError, MigrationError, PhaseRefusedError, SeedError, UnknownPhaseError)
"""The errors of the layers below that an operator can mend."""


def mendable(error: BaseException) -> OperatorError | None:
    """Return an error as an operator's; None for a defect of ours, which keeps its traceback."""
    if isinstance(error, OperatorError):
        return error
    return OperatorError(str(error)) if isinstance(error, BELOW) else None
