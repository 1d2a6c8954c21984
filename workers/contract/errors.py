"""What the commands about the contract tell an operator."""

from workers.operator_error import OperatorError


class ContractError(OperatorError):
    """It cannot be shown, exported or compared; the text says why, in one line."""
