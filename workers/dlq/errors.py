"""What can be wrong with what an operator asks for."""


class DeskError(Exception):
    """It cannot be done so; the text says why, in one line. Nothing was changed."""
