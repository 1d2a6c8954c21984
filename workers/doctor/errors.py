"""What can be wrong with what an operator asks for."""


class DoctorError(Exception):
    """It cannot be done so; the text says why, in one line. Nothing was moved."""
