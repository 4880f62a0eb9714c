"""The least a proxy can do: Starlette and aiohttp hand bytes on, and look at none of them.

    python benchmarks/gateway_passthrough.py --upstream http://127.0.0.1:9000 --port 9100

`benchmarks/gateway.py` starts it as the yardstick for throughput.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def make_app(upstream: str) -> Starlette:
    """POST /v1/chat/completions goes to `upstream` and its answer comes back."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, headers={"Accept-Encoding": "identity"}
        ) as session:
            app.state.session = session
            yield

    async def chat(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        answer = await session.post(
            f"{upstream}/v1/chat/completions",
            data=await request.body(),
            headers={"Content-Type": "application/json"},
        )
        kind = answer.headers["content-type"]
        if kind.startswith("text/event-stream"):
            return StreamingResponse(answer.content.iter_any(), answer.status, media_type=kind)
        return Response(await answer.read(), answer.status, media_type=kind)

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        make_app(options.upstream),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
        ws="none",
    )


if __name__ == "__main__":
    main()
