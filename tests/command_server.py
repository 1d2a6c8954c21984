"""Runs `catalog` in forked processes: each a process of its own, none of which has to import everything again.

Importing takes most of a short command's time. This server imports once and forks for each request; a request is a
line of JSON on standard input (arguments, environment, files for the output), the answer a line with the exit code.
It ends when its standard input does, so also when the tests are killed.
"""

import json
import os
import sys

from workers import cli


def run(arguments: list[str], environment: dict[str, str], out: str, err: str) -> int:
    """Run one command in a child; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for stream, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["catalog", *arguments]
            code = main()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Run the command line as its console script does."""
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{run(**json.loads(line))}\n")
        sys.stdout.flush()
