"""What can be wrong with what an operator asks for."""

from workers.operator_error import OperatorError


class DeskError(OperatorError):
    """It cannot be done so; the text says why, in one line. Nothing was changed."""
