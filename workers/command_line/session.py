"""One call of a command that talks to servers: its settings, its loop, its engine, and the name of who calls."""

import getpass
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self, TypeVar

import typer

from persistence.engine import Engine, PoolSettings, create_engine
from workers.attendance import run_attended
from workers.operator_error import OperatorError
from workers.settings import Settings
from workers.telemetry import logs

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, for a program.")]
Operator = Annotated[
    str | None,
    typer.Option("--operator", envvar="CATALOG_OPERATOR", help="Your name, for the record; the user's else."),
]

_NAME: Final = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, slots=True)
class Session:
    """What a command starts with. `name` is how the servers see it: `catalog-<name>`."""

    name: str
    settings: Settings

    @classmethod
    def begin(cls, name: str, *, log_level: str = "WARNING") -> Self:
        """Read the settings; log lines go to standard error, as standard output is for what was asked for.

        Raises `SettingsError` with a line for each setting that is wrong.
        """
        settings = Settings.load()
        logs.configure(log_level, settings.observing.log_format, name, stream=sys.stderr)
        return cls(name, settings)

    @property
    def client_id(self) -> str:
        """Return the name that Kafka and Postgres see."""
        return f"catalog-{self.name}"

    def run(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        kafka: bool = False,
        database: bool = False,
        wait_first: bool = True,
        give_up_s: float | None = None,
    ) -> T:
        """Run the work, attended as `run_attended` does for the servers that are named.

        Raises `OperatorError` for what an operator can mend.
        """
        return run_attended(
            self.settings, work, kafka=kafka, database=database, wait_first=wait_first, give_up_s=give_up_s
        )

    def run_with_engine(self, work: Callable[[Engine], Awaitable[T]], *, attended: bool = True) -> T:
        """Run work that needs the database alone, with at most two connections."""

        async def with_engine() -> T:
            async with self.engine() as engine:
                return await work(engine)

        return self.run(with_engine, database=attended)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """Give an engine to the primary for as long as it is needed."""
        url = self.settings.database.url.get_secret_value()
        engine = create_engine(url, PoolSettings(size=1, max_overflow=1), self.client_id)
        try:
            yield engine
        finally:
            await engine.dispose()


def operator_name(given: str | None) -> str:
    """Return who acts, for the record: the name that was given, else the user's. Raises `OperatorError`."""
    try:
        name = given or getpass.getuser()
    except (KeyError, OSError, ImportError):
        msg = "who are you? Give your name by --operator or CATALOG_OPERATOR, for the record"
        raise OperatorError(msg) from None
    if not _NAME.fullmatch(name):
        raise OperatorError("--operator: 1-100 printable ASCII characters without blanks")
    return name


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one value on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def print_json_lines(values: Iterable[Any]) -> None:
    """Print one value a line."""
    for value in values:
        print_json(value)
