"""PostgreSQL: one cluster with one database, durable, reached over TCP with a password alone."""

import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from workers.stack.accounts import Account
from workers.stack.errors import StackError
from workers.stack.free_ports import HOST
from workers.stack.guarded import Launch, StopPlan

DATABASE: Final = "catalog"
"""The name of the database, and of the role that owns it."""
SUPERUSER: Final = "postgres"

# Defaults that suit tests on a shared machine. Durability is left on: the workers promise it, and their tests kill us.
_CONFIG: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may be too long, and a socket would need a rule of its own
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # a batch takes an advisory lock for each name it touches
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_level": "replica",
    "fsync": "on",
    "synchronous_commit": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "log_error_verbosity": "terse",  # the DETAIL of a broken constraint repeats the row, personal data and all
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_ACCESS: Final = "".join(f"host {target} all {HOST}/32 scram-sha-256\n" for target in ("all", "replication"))
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}  # nothing of the caller's, PG* above all
_CTYPE: Final = "UTF-8" if sys.platform == "darwin" else "C.UTF-8"  # macOS names it without a language
_STARTUP_MESSAGE: Final = struct.pack("!I", 0x0003_0000) + f"user\0{DATABASE}\0database\0{DATABASE}\0\0".encode()
_ANSWER_S: Final = 1.0
_SET_UP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The stack's PostgreSQL. `folder` is given to `account` where there is one; the data are its subfolder."""

    folder: Path
    home: Path
    port: int
    major: str
    password: str = field(repr=False)
    superuser_password: str = field(repr=False)
    account: Account | None
    config: Mapping[str, str]
    say: Callable[[str], None]

    name: ClassVar[str] = "postgres"
    # Fast (roll back and write everything out), then immediate (leave it to recovery).
    stop_plan: ClassVar[StopPlan] = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
    ready_within_s: ClassVar[float] = 120.0  # recovery after a crash may read all of max_wal_size

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Create the cluster, its role and its database where there is none; a crash on the way leaves none.

        Raises:
            StackError: the data are of another version, damaged or somebody else's; or the set-up failed.
        """
        if self.data.exists():
            self._check()
            return
        self.say("creating the database")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            self.account.owns(self.folder)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        # Collation and case by PostgreSQL's own tables: the same order on every system.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--lc-ctype={_CTYPE}"]
        self._run("initdb", "-D", fresh, "-U", SUPERUSER, "-E", "UTF8", "--auth=trust", "--no-instructions", *locale)
        # `trust` has let nobody in: the server has not run yet, and will run with these rules.
        (fresh / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
        self._run(
            "postgres",
            "--single",
            "-j",
            "-D",
            fresh,
            *("-c", "exit_on_error=on"),
            *_given(self.config),  # such as how passwords are kept
            "template1",
            told=self._first_statements(),
        )
        fresh.replace(self.data)

    def launch(self) -> Launch:
        """Return how to run it."""
        return Launch(
            command=[
                *(str(self.home / "bin" / "postgres"), "-D", str(self.data)),
                *_given({**_CONFIG, **self.config, "port": str(self.port)}),
            ],
            folder=self.data,
            stop=self.stop_plan,
            environment=_ENVIRONMENT,
            account=self.account,
            stale=[self.data / "postmaster.pid"],
        )

    @staticmethod
    def answers(port: int) -> bool:
        """Begin a connection: the server asks for a password once it takes connections, and not before."""
        try:
            with socket.create_connection((HOST, port), timeout=_ANSWER_S) as connection:
                connection.sendall(struct.pack("!I", len(_STARTUP_MESSAGE) + 4) + _STARTUP_MESSAGE)
                return connection.recv(1) == b"R"
        except OSError:
            return False

    def _check(self) -> None:
        remedy = "move it away, or start afresh with `catalog stack down --wipe`"
        try:
            found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
            owner = self.data.stat().st_uid
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{self.data} holds no readable PostgreSQL data ({error}); {remedy}") from error
        if found != self.major:
            raise StackError(f"{self.data} is of PostgreSQL {found}, this stack's is {self.major}; {remedy}")
        if self.account is not None and owner != self.account.uid:
            raise StackError(f"{self.data} belongs to uid {owner}, as whom PostgreSQL does not run; {remedy}")

    def _first_statements(self) -> str:
        """Role, database, and the one extension that only a superuser may create.

        The role may make databases (tests clone theirs), see statistics and end its own sessions; it is no superuser,
        so that what needs one shows.
        """
        return "\n\n".join(
            (
                "create extension pg_stat_statements;",
                f"alter role {SUPERUSER} password '{self.superuser_password}';",
                f"create role {DATABASE} login createdb password '{self.password}' in role pg_monitor;",
                f"create database {DATABASE} owner {DATABASE};",
                "",
            )
        )

    def _run(self, program: str, *arguments: str | Path, told: str = "") -> None:
        try:
            ended = subprocess.run(
                [self.home / "bin" / program, *arguments],
                input=told,
                capture_output=True,
                text=True,
                timeout=_SET_UP_S,
                check=False,
                cwd=self.folder,
                env=_ENVIRONMENT,
                **(self.account.options() if self.account is not None else {}),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"PostgreSQL's {program} could not be run: {error}") from error
        if ended.returncode != 0:
            said = [line for line in ended.stderr.splitlines() if line.strip()]
            telling = [line for line in said if "error:" in line or "FATAL" in line or "ERROR" in line]
            raise StackError(f"PostgreSQL's {program} failed: {(telling or said or ['without a word'])[-1]}")


def _given(settings: Mapping[str, str]) -> list[str]:
    """Write settings as the server's arguments."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
