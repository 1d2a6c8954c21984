"""The one error that is an operator's to mend."""


class OperatorError(Exception):
    """Something that an operator can mend: the text says what is wrong, `hint` what to do, both together one line.

    A hint that names a command names it in backticks, as it is typed; the tests read it by the command line's parser.
    """

    def __init__(self, text: str, *, hint: str = "", usage: bool = False) -> None:
        super().__init__(f"{text}: {hint}" if hint else text)
        self.hint = hint
        self.usage = usage
        """Whether arguments or settings are wrong, and nothing was begun."""

    @property
    def lines(self) -> list[str]:
        """Return what is shown: a line, or one for each thing that is wrong."""
        return [str(self)]
