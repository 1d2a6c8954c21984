"""Health that tells the truth, and the metrics, over HTTP.

`/live` is about being stuck: work there, and no progress for a set time, or a part beyond repair; then the process
should be replaced. `/ready` is about having joined the group (with no partition, too) and having a database.
A broker or a database that is away makes nobody unlive: waiting is what a worker does then.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the checks go by. `stuck` and `unready` hold a reason, or None."""

    stuck: str | None
    unready: str | None


def health_app(vitals: Callable[[], Awaitable[Vitals]], registry: CollectorRegistry | None) -> Starlette:
    """Make the ASGI application of a worker; without a registry there is no `/metrics`."""

    async def live(_: Request) -> JSONResponse:
        return _answer((await vitals()).stuck)

    async def ready(_: Request) -> JSONResponse:
        return _answer((await vitals()).unready)

    routes: list[Route | Mount] = [Route("/live", live), Route("/ready", ready)]
    if registry is not None:
        routes.append(Mount("/metrics", make_asgi_app(registry)))
    return Starlette(routes=routes)


def _answer(problem: str | None) -> JSONResponse:
    if problem is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "failing", "reason": problem}, status_code=503)
