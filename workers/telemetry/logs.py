"""Logs: one JSON object a line on stdout. No personal data, no secret, in any line.

An exception is logged by its type, its place and, where it comes from the database, its SQLSTATE and constraint: never
by its text, which may repeat what somebody sent. Below an error, one event (or one text of a library) has so many lines
a minute: what a stranger can bring about may not fill a disk.
"""

import logging
import math
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog

SERVICE: Final = "catalog-workers"
MAX_FRAMES: Final = 12
_ALWAYS_TOLD: Final = frozenset({"error", "critical", "exception"})
LINES_A_MINUTE: Final = 600
"""Of one event of a worker, below an error. Outcomes (`end`) have bounds of their own, by who sent the message."""


def configure(
    level: str,
    form: Literal["json", "console"],
    worker: str,
    *,
    stream: TextIO | None = None,
    lines_a_minute: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send our own lines and those of the libraries the same way; call it once, at the start of a process.

    `stream` is standard output, unless something else is asked for: a tool's output is not its log. A
    tool's lines are not bounded: they are its record.
    """
    stream = stream or sys.stdout
    bounded = _Bounded(lines_a_minute, clock)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Naming(worker),
        _safe_exception,
    ]
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_dump)
    else:
        renderer = structlog.dev.ConsoleRenderer(event_key="message", colors=stream.isatty())
    structlog.configure(
        processors=[bounded, *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(bounded.of_a_library)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # The libraries tell at INFO and DEBUG what our own lines and metrics tell better.
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)


def _dump(value: object, **_: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()


class _Bounded:
    """Drops an event's lines beyond so many a minute; the first one of the next minute tells how many.

    Events and the texts of the libraries are constants of some code, so that there are not many to remember.
    """

    def __init__(self, lines_a_minute: float, clock: Callable[[], float]) -> None:
        self._most = lines_a_minute
        self._clock = clock
        self._minute = 0
        self._lines: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
        name = event.get("event")
        if method in _ALWAYS_TOLD or "end" in event or not isinstance(name, str):
            return event
        if not self._grants(name):
            raise structlog.DropEvent
        if left_out := self._left_out.pop(name, 0):
            event["left_out"] = left_out
        return event

    def of_a_library(self, record: logging.LogRecord) -> bool:
        """Tell whether a line of a library goes on."""
        if record.levelno >= logging.ERROR:
            return True
        name = f"{record.name}:{record.lineno}"
        if not self._grants(name):
            return False
        if left_out := self._left_out.pop(name, 0):
            record.msg = f"{record.msg} ({left_out} such lines were left out)"
        return True

    def _grants(self, name: str) -> bool:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._lines.clear()
        self._lines[name] += 1
        if self._lines[name] > self._most:
            self._left_out[name] += 1
            return False
        return True


class _Naming:
    """Give each line the names that every line has."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
        operation = event.pop("event", "")
        event["message"] = operation
        event.setdefault("operation", operation if isinstance(operation, str) and " " not in operation else "library")
        event["service"] = SERVICE
        event["worker"] = self._worker
        return event


def _safe_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()[1]
    elif isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = describe(given)
    return event


def describe(error: BaseException) -> dict[str, Any]:
    """Describe an exception without its text: type, place, SQLSTATE, constraint, and what caused it."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "at": [
            f"{frame.filename.rsplit('/', 2)[-2]}/{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            for frame in frames
        ],
    }
    for name in ("sqlstate", "constraint_name"):
        value = getattr(error, name, None)
        if value is not None:
            found[name] = value
    cause = error.__cause__ or error.__context__
    if cause is not None:
        found["cause"] = describe(cause)
    return found
