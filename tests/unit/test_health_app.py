"""The probes and the metrics over HTTP, without a worker behind them."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from workers.health import Vitals, health_app


async def asked(app: Any, path: str) -> tuple[int, bytes]:  # noqa: ANN401 - any ASGI application
    """Ask an application; returns status and body."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("w", 80),
    }
    await app(scope, receive, send)
    return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])


def registry() -> CollectorRegistry:
    """Make a registry with one metric."""
    made = CollectorRegistry()
    Counter("catalog_things", "Things", registry=made).inc()
    return made


async def well() -> Vitals:
    """Nothing is wrong."""
    return Vitals(None, None)


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
async def test_the_metrics_answer_at_their_path_itself(path: str) -> None:
    """Without a redirect, which not every scraper follows."""
    status, body = await asked(health_app(well, registry()), path)
    assert status == 200
    assert b"catalog_things_total 1.0" in body


async def test_without_metrics_there_is_no_such_path() -> None:
    """Where they are switched off."""
    assert (await asked(health_app(well, None), "/metrics"))[0] == 404


async def test_a_storm_of_probes_asks_the_database_once() -> None:
    """However many ask at once, from wherever: one look at a time, its result for all; the next looks again."""
    looks, go_on = 0, asyncio.Event()

    async def look() -> Vitals:
        nonlocal looks
        looks += 1
        await go_on.wait()
        return Vitals(None, "away")

    app = health_app(look, None)
    storm = [asyncio.create_task(asked(app, path)) for path in ["/ready", "/live"] * 100]
    await asyncio.sleep(0)
    storm.pop().cancel()  # whoever hangs up takes the answer from nobody
    await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(*storm)
    assert looks == 1
    assert {status for status, _ in answers} == {200, 503}
    await asked(app, "/ready")
    assert looks == 2
