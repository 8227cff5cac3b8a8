"""A reverse proxy that misbehaves on request, to stand between the service and a real model.

    python -m service.faults UPSTREAM_URL PORT

Whatever comes is passed on, streams included, and like a model's server it
works on `SLOTS` calls at once while the others wait. POST /faults sets a fault
({"delay_s": 30} or {"fail_next": 2}; {} ends it); GET /faults tells what the
proxy has seen. For a dead model, kill the process.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .disconnect import HeldStream, stop_when_client_leaves

SLOTS = 4  # as many as the local model's server has


def create_app(upstream: str) -> Starlette:
    """The proxy in front of `upstream` (scheme and host, no path)."""
    client = httpx2.AsyncClient(base_url=upstream, timeout=None, limits=httpx2.Limits())
    slots = asyncio.Semaphore(SLOTS)
    faults: dict[str, float] = {}
    seen = Counter(calls=0, finished=0, abandoned=0, refused=0, events=0)

    async def control(request: Request) -> JSONResponse:
        if request.method == "POST":
            faults.clear()
            faults.update(await request.json())
        return JSONResponse(seen)

    async def forward(request: Request) -> Response:
        body = await request.body()
        call = request.method == "POST"  # a GET only asks whether the model is there
        seen["calls"] += call
        if call and faults.get("fail_next", 0) > 0:
            faults["fail_next"] -= 1
            seen["refused"] += 1
            return JSONResponse({"error": {"message": "injected"}}, 503)
        result = "abandoned"

        async def passed_on(answer: httpx2.Response) -> AsyncIterator[bytes]:
            nonlocal result
            async for piece in answer.aiter_raw():
                seen["events"] += piece.count(b"data: {")
                yield piece
            result = "finished"

        async with AsyncExitStack() as held:
            held.callback(lambda: seen.update({result: call}))
            try:
                async with stop_when_client_leaves(request):
                    if call:
                        await held.enter_async_context(slots)
                        await asyncio.sleep(faults.get("delay_s", 0))
                    headers = {
                        name: value
                        for name, value in request.headers.items()
                        if name in ("authorization", "content-type")
                    }
                    forwarded = client.build_request(
                        request.method, request.url.path, content=body, headers=headers
                    )
                    answer = await client.send(forwarded, stream=True)
            except ClientDisconnect:
                return Response(status_code=499)
            held.push_async_callback(answer.aclose)
            return HeldStream(
                passed_on(answer),
                held.pop_all(),
                status_code=answer.status_code,
                media_type=answer.headers["content-type"],
            )

    return Starlette(
        routes=[
            Route("/faults", control, methods=["GET", "POST"]),
            Route("/{path:path}", forward, methods=["GET", "POST"]),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
