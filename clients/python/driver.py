"""Performs rows of the table of scenarios by the Python client: rows on stdin, what came of them on stdout.

The protocol stands at the head of `clients/scenarios.json`.
"""

import asyncio
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from catalog_client import SASL, TLS, CatalogClient, CatalogError, NotSent, Refused, Reply, ReplyTimeout
from catalog_client.errors import WithIncident
from catalog_client.testing import Answer, FakeCatalog

JSON = Mapping[str, Any]
_POLL_S: Final = 0.02


class Performance:
    """One row, on one client."""

    def __init__(self, row: JSON, catalog: CatalogClient) -> None:
        self._row = row
        self._catalog = catalog
        self._errors: dict[int, BaseException] = {}

    async def results(self) -> list[Any]:
        """Perform the steps; return what came of each."""
        found: list[Any] = []
        async with asyncio.TaskGroup() as group:
            for number, step in enumerate(self._row["steps"]):
                if step.get("background"):
                    found.append(group.create_task(self._step(number, step)))
                    await asyncio.sleep(0)
                else:
                    found.append(await self._step(number, step))
        return [one.result() if isinstance(one, asyncio.Task) else one for one in found]

    async def _step(self, number: int, step: JSON) -> Any:  # noqa: ANN401 - one for each kind of step
        catalog = self._catalog
        match step["do"]:
            case "call" if "times" in step:
                return await self._many(step)
            case "call":
                return await self._call(number, step)
            case "send":
                message_id = await getattr(catalog.send, step["kind"])(**_given(step))
                return {"message_id": message_id}
            case "record":
                record = getattr(catalog.record, step["kind"])(**_given(step))
                headers = {name: value.decode() for name, value in record.headers}
                key, body = record.key.decode(), json.loads(record.body)
                return {"topic": record.topic, "key": key, "headers": headers, "body": body}
            case "outcome":
                outcome = await catalog.outcome(step["message_id"])
                return outcome and {
                    "status_code": outcome.status_code,
                    "type": outcome.type,
                    "message": outcome.message,
                    "data": outcome.data,
                }
            case "settled":
                return await self._settled(step)
            case "counter":
                async with asyncio.timeout(step["timeout_s"]):
                    while getattr(catalog.counters, step["counter"]) < step["least"]:  # noqa: ASYNC110 - a number
                        await asyncio.sleep(_POLL_S)
                return getattr(catalog.counters, step["counter"])
            case "act":
                _write({"row": self._row["name"], "act": step["act"]})
                await asyncio.to_thread(sys.stdin.readline)
                return None
            case unknown:
                raise ValueError(f"no such step: {unknown}")

    async def _call(self, number: int, step: JSON) -> Any:  # noqa: ANN401 - any JSON value
        try:
            return _answer(await self._reply(step))
        except CatalogError as error:
            self._errors[number] = error
            return _failure(error)

    async def _reply(self, step: JSON) -> Reply[Any]:
        given = _given(step)
        if step.get("untyped"):
            return await self._catalog.call(step["kind"], step["payload"], **_options(step))
        name = step["kind"] if step.get("version") is None else f"{step['kind']}_v{step['version']}"
        method: Callable[..., Any] = getattr(self._catalog.with_raw_response, name)
        reply: Reply[Any] = await method(**given)
        return reply

    async def _many(self, step: JSON) -> JSON:
        steps = [_numbered(step, number) for number in range(step["times"])]
        ended = await asyncio.gather(*(self._reply(one) for one in steps), return_exceptions=True)
        own = step["own"]
        refused: Counter[str] = Counter()
        counts = Counter({"answered": 0, "own": 0, "timed_out": 0})
        for one, end in zip(steps, ended, strict=True):
            match end:
                case Reply():
                    counts["answered"] += 1
                    counts["own"] += end.envelope.data[own] == one["payload"][own]
                case Refused():
                    refused[end.error_code] += 1
                case ReplyTimeout():
                    counts["timed_out"] += 1
                case _:
                    raise end
        return {**counts, "refused": refused}

    async def _settled(self, step: JSON) -> Any:  # noqa: ANN401 - any JSON value
        error = self._errors[step["of"]]
        if not isinstance(error, WithIncident):
            raise TypeError(f"step {step['of']} ended with {error!r}")
        try:
            return asdict(await error.settled(step["timeout_s"]))
        except CatalogError as later:
            return _failure(later)


def _given(step: JSON) -> dict[str, Any]:
    return {**step["payload"], **_options(step)}


def _options(step: JSON) -> dict[str, Any]:
    options = {"message_id": step.get("message_id"), "timeout": step.get("timeout_s")}
    return {name: value for name, value in options.items() if value is not None}


def _numbered(step: JSON, number: int) -> JSON:
    numbered: JSON = json.loads(json.dumps(step).replace("{n}", str(number)))
    return numbered


def _answer(reply: Reply[Any]) -> JSON:
    return {
        "status_code": reply.status_code,
        "type": reply.type,
        "message": reply.message,
        "data": reply.envelope.data,
        "replayed": reply.replayed,
        "deprecation": reply.deprecation and reply.deprecation.isoformat(),
    }


def _failure(error: CatalogError) -> JSON:
    told: dict[str, Any] = {"repeatable": error.repeatable, "message_id": getattr(error, "message_id", None)}
    match error:
        case Refused():
            told |= {"error": "refused", "status_code": error.status_code, "error_code": error.error_code}
            told |= {"message": error.message, "details": error.details}
        case ReplyTimeout():
            told |= {"error": "timeout"}
        case NotSent():
            told |= {"error": "not_sent"}
        case _:
            raise error
    if isinstance(error, WithIncident):
        told |= {"incident": error.incident, "parked": error.parked}
    return told


def client_of(row: JSON) -> CatalogClient:
    """Make the client that a row asks for."""
    if "client" not in row:
        fake = FakeCatalog()
        fake.answer_all([[_scripted(one) for one in answers] for answers in row["script"]])
        options = {"repeat_after": row["repeat_after_s"]} if "repeat_after_s" in row else {}
        return fake.client(**options)
    asked = row["client"]
    tokens = list(asked["tokens"])

    def token() -> str:
        return str(tokens.pop(0) if len(tokens) > 1 else tokens[0])

    return CatalogClient(
        asked["servers"],
        token=token,
        name=asked["name"],
        instance=asked["instance"],
        prefix=asked["prefix"],
        reply_topic=asked.get("reply_topic"),
        tls=TLS(**asked["tls"]) if "tls" in asked else None,
        sasl=SASL(**asked["sasl"]) if "sasl" in asked else None,
    )


def _scripted(told: JSON) -> Answer:
    envelope = told["envelope"]
    return Answer(
        data=envelope["data"],
        status_code=envelope["statusCode"],
        type=envelope["type"],
        message=envelope["message"],
        headers=told.get("headers", {}),
        after_s=told.get("after_s", 0.0),
    )


async def perform(row: JSON) -> JSON:
    """Perform a row; return the line about it."""
    try:
        async with client_of(row) as catalog:
            results = await Performance(row, catalog).results()
            counters = catalog.counters
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are performed
        return {"row": row["name"], "failed": "".join(traceback.format_exception(error))}
    names = ("sent", "repeated", "answered", "timed_out", "late", "duplicate")
    return {
        "row": row["name"],
        "results": results,
        "counters": {name: getattr(counters, name) for name in names},
    }


def _write(line: JSON) -> None:
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Perform rows until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        _write(await perform(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())
