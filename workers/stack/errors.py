"""What can go wrong with the embedded stack."""


class StackError(Exception):
    """The embedded stack cannot do what was asked; the text is one readable line that says what to do about it."""
