"""How much: bytes a request, requests a key, and requests at once."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError
from .settings import ApiKey


class BodyLimit:
    """Counts bytes as they come, because Content-Length may lie or be absent.

    FastAPI's own `max_body_size` does the same, but answers in plain text
    whenever the length is declared.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def counted():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                raise ApiError(
                    413, "body_too_large", f"The body may have at most {self.max_bytes} bytes."
                )
            return message

        await self.app(scope, counted, send)


# Of redis-py, which is the client that is installed; `limits` itself would want coredis. A Redis that does not
# answer may cost a request a quarter of a second, not redis-py's default of five.
REDIS = {
    "implementation": "redispy",
    "wrap_exceptions": True,
    "socket_timeout": 0.25,
    "socket_connect_timeout": 0.25,
}
PAUSE_S = 1.0  # after a failure it is left alone for so long: a Redis that hangs must not delay every request


class RateLimit:
    """Requests per key in a moving window; kept in Redis when several processes share the limit.

    Without its Redis it lets everybody through: a limit that cannot be counted must not
    become an outage, and the gate still bounds what reaches the model.
    """

    def __init__(self, storage_uri: str, keys: dict[str, ApiKey]):
        options = REDIS if storage_uri.startswith("async+redis") else {}
        self._limiter = MovingWindowRateLimiter(storage_from_string(storage_uri, **options))
        self._items = {key_id: key.rate_limit for key_id, key in keys.items()}
        self._away_until = 0.0

    async def hit(self, key_id: str) -> bool:
        """Count one request of this key; False if it could not be counted.

        Raises:
            ApiError: 429, with the seconds until the oldest request leaves the window.
        """
        item = self._items[key_id]
        if time.monotonic() < self._away_until:
            return False
        try:
            within = await self._limiter.hit(item, key_id)
            window = None if within else await self._limiter.get_window_stats(item, key_id)
        except StorageError:
            self._away_until = time.monotonic() + PAUSE_S
            return False
        if window:
            wait = max(1, math.ceil(window.reset_time - time.time()))
            raise ApiError(
                429, "rate_limited", f"This key may make {item} requests.", retry_after=wait
            )
        return True


class Gate:
    """At most `running` requests are at the model and `waiting` behind them; everyone else is refused at once."""

    def __init__(self, running: int, waiting: int, max_wait_s: float):
        self._running, self._waiting, self._max_wait_s = running, waiting, max_wait_s
        self._slots = asyncio.Semaphore(running)
        self._inside = 0
        self._mean_s = 1.0  # moving average of how long a request holds its slot

    def _overloaded(self, detail: str) -> ApiError:
        drain = self._inside * self._mean_s / self._running  # Little's law: W = L / throughput
        return ApiError(503, "overloaded", detail, retry_after=max(1, math.ceil(drain)))

    @property
    def running(self) -> int:
        """Requests that hold a slot now: nobody waits while one is free."""
        return min(self._inside, self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return self._inside - self.running

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a slot; yields the seconds spent waiting for it.

        Raises:
            ApiError: 503, the queue is full, or the wait was longer than `max_wait_s`.
        """
        if self._inside >= self._running + self._waiting:
            raise self._overloaded("Too many requests are waiting already.")
        self._inside += 1
        try:
            arrived = time.perf_counter()
            try:
                async with asyncio.timeout(self._max_wait_s):
                    await self._slots.acquire()
            except TimeoutError:
                raise self._overloaded("The request waited too long for its turn.") from None
            started = time.perf_counter()
            try:
                yield started - arrived
            finally:
                self._slots.release()
                self._mean_s += 0.1 * (time.perf_counter() - started - self._mean_s)
        finally:
            self._inside -= 1
