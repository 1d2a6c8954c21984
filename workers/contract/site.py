"""The contract over HTTP: three files, made once, the same for everybody who asks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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

    async def __call__(self, request: Request) -> Response:
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


def contract_routes(deployment: Deployment) -> Sequence[Route]:
    """Make the page and the documents of a deployment, and the routes that serve them."""
    made = document(deployment)
    files = {
        "/contract": _File.of(page(made), "text/html"),
        "/asyncapi.json": _File.of(as_json(made), "application/json"),
        "/asyncapi.yaml": _File.of(as_yaml(made), "application/yaml"),
    }
    return [Route(path, file.__call__) for path, file in files.items()]
