"""Run the command line many times at once, and import it once; a script, started with an environment of its own.

Standard input: JSON, for each name the arguments and the environment. Standard output: JSON, for each name the exit
code (None: it had to be killed) and what was written to standard output and standard error.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from workers.cli import main

PATIENCE_S = 15


def run(arguments: list[str], settings: dict[str, str], output: Path, errors: Path) -> int:
    """Fork; the child is a command of its own. Returns its process id."""
    child = os.fork()
    if child:
        return child
    os.environ.update(settings)
    sys.argv = ["catalog", *arguments]
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    code = 70
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def outcome(child: int, ends_at: float) -> int | None:
    """Wait for a child; kill it when its time is up."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends_at:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.02)


def everything() -> None:
    """Run all commands of standard input."""
    cases = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: (Path(folder) / f"{at}.out", Path(folder) / f"{at}.err") for at, name in enumerate(cases)}
        children = {name: run(case[0], case[1], *files[name]) for name, case in cases.items()}
        ends_at = time.monotonic() + PATIENCE_S
        codes = {name: outcome(child, ends_at) for name, child in children.items()}
        texts = {name: [path.read_text() if path.exists() else "" for path in files[name]] for name in cases}
    json.dump({name: [codes[name], *texts[name]] for name in cases}, sys.stdout)


if __name__ == "__main__":
    everything()
