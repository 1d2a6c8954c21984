"""A process that does not outlive the one that starts it: a worker would wait for servers that have gone for ever.

Run as a script of its own (standard library only, some 20 ms) that ties itself and becomes the command. Linux kills the
command then, also a stopped one (PR_SET_PDEATHSIG); elsewhere it goes on.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

# linux/prctl.h; `guardian.py` has it, too: neither script can import the other
_PR_SET_PDEATHSIG: Final = 1


def tied(command: Sequence[str]) -> list[str]:
    """Return the command line that starts a command tied to this process; its first word is an absolute path.

    It is the calling thread that Linux looks at: one that ends before the process takes the command along.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Tie this process to its parent, and become the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(parent):
        sys.exit("the process that started this one has ended already")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
