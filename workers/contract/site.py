"""The contract over HTTP: three files, made when somebody first asks, the same for everybody from then on."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.asyncapi import Deployment, document
from workers.contract.formats import as_json, as_yaml
from workers.contract.page import POLICY, page


@dataclass(frozen=True, slots=True)
class _File:
    """What is served at a path. The tag tells one content from another."""

    body: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, text: str, media_type: str) -> Self:
        """Encode a text."""
        body = text.encode()
        return cls(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def answer(self, request: Request) -> Response:
        """Answer with it, or say that the asker has it already."""
        headers = {
            "ETag": self.tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
        if self.tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


class _Files:
    """The files of a deployment. To make them takes a fifth of a second of CPU, of a thread beside the event loop."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._made: asyncio.Future[Mapping[str, _File]] | None = None

    async def __call__(self, path: str, request: Request) -> Response:
        """Answer a request with one of them."""
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(_make, self._deployment))
        return (await asyncio.shield(self._made))[path].answer(request)


def _make(deployment: Deployment) -> Mapping[str, _File]:
    made = document(deployment)
    return {
        "/contract": _File.of(page(made), "text/html"),
        "/asyncapi.json": _File.of(as_json(made), "application/json"),
        "/asyncapi.yaml": _File.of(as_yaml(made), "application/yaml"),
    }


def contract_routes(deployment: Deployment) -> Sequence[Route]:
    """Give the routes that serve the page and the documents of a deployment."""
    files = _Files(deployment)
    return [Route(path, partial(files.__call__, path)) for path in ("/contract", "/asyncapi.json", "/asyncapi.yaml")]
