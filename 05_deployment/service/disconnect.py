"""What happens when the client hangs up: the work for it stops, and what it held is given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


@asynccontextmanager
async def stop_when_client_leaves(request: Request) -> AsyncIterator[None]:
    """Cancel what runs inside as soon as the client hangs up.

    Only for a request whose body has been read, and only until the response
    starts: a StreamingResponse then watches for itself.

    Raises:
        starlette.requests.ClientDisconnect: the client hung up.
    """

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    with anyio.CancelScope() as scope:
        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
    if scope.cancelled_caught:
        raise ClientDisconnect


class HeldStream(StreamingResponse):
    """Holds `held` (a slot, a connection) until the last byte is out or the client has gone.

    Not a `finally` in the generator: a client that leaves before the first
    byte never starts it, and the slot would be lost.
    """

    def __init__(self, content: AsyncIterator[bytes], held: AsyncExitStack, **response):
        super().__init__(content, **response)
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.held:
            await super().__call__(scope, receive, send)
