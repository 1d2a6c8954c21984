"""Health that tells the truth, and the metrics, over HTTP.

`/live` is about being stuck: work there, and no progress for a set time, or a part beyond repair; then the process
should be replaced. `/ready` is about having joined the group (with no partition, too) and having a database.
A broker or a database that is away makes nobody unlive: waiting is what a worker does then. Anybody may ask, and often:
the database is asked once at a time, for all who ask meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the checks go by. `stuck` and `unready` hold a reason, or None."""

    stuck: str | None
    unready: str | None


def health_app(
    vitals: Callable[[], Awaitable[Vitals]], registry: CollectorRegistry | None, others: Sequence[Route] = ()
) -> Starlette:
    """Make the ASGI application of a worker; without a registry there is no `/metrics`. `others` are served beside."""
    shared = _Shared(vitals)

    async def live(_: Request) -> JSONResponse:
        return _answer((await shared()).stuck)

    async def ready(_: Request) -> JSONResponse:
        return _answer((await shared()).unready)

    routes = [Route("/live", live), Route("/ready", ready), *others]
    if registry is not None:
        exposition = _Exposition(registry)
        routes += [Route("/metrics", exposition), Route("/metrics/", exposition)]
    return Starlette(routes=routes)


class _Exposition:
    """The metrics as an ASGI application, which answers at whatever path it is put at."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._app = make_asgi_app(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Shared:
    """Has one look under way at a time, whose result goes to all who asked meanwhile."""

    def __init__(self, vitals: Callable[[], Awaitable[Vitals]]) -> None:
        self._vitals = vitals
        self._look: asyncio.Future[Vitals] | None = None

    async def __call__(self) -> Vitals:
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._vitals())
        return await asyncio.shield(self._look)


def _answer(problem: str | None) -> JSONResponse:
    if problem is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "failing", "reason": problem}, status_code=503)
