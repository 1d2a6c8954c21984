"""What can go wrong with the embedded stack."""

from workers.operator_error import OperatorError


class StackError(OperatorError):
    """The embedded stack cannot do what was asked; the text is one readable line that says what to do about it."""
