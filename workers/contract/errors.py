"""What the commands about the contract tell an operator."""


class ContractError(Exception):
    """It cannot be shown, exported or compared; the text says why, in one line."""
