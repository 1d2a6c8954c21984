"""Where in our own code an exception came up: what an operator groups defects by."""

import traceback
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_OURS: Final = frozenset({"contracts", "handlers", "persistence", "workers"})


def raised_at(error: BaseException) -> str:
    """Return file and line of the innermost frame that is ours, such as `handlers/order.py:42`.

    Nothing of the exception's text: it may repeat what somebody sent.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT) and (inside := path.relative_to(_ROOT)).parts[0] in _OURS:
            return f"{inside.as_posix()}:{frame.lineno}"
    return "a library"
