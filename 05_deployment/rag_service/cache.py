"""Answers given before, in Redis or in this process. Whatever happens to it, the service goes on without."""

import hashlib
import json
import time
from typing import Protocol

from cachetools import TTLCache
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from service.limits import PAUSE_S

from .settings import RagSettings


def key(index: str, prompt: str, model: str, question: str) -> str:
    """Everything that the answer depends on: what is new gets new keys, and a roll-back finds its old ones."""
    content = json.dumps(
        [index, prompt, model, " ".join(question.casefold().split()).rstrip(" ?!.")]
    )
    return f"answer:{hashlib.sha256(content.encode()).hexdigest()}"


class Cache(Protocol):
    """`up` says what the last attempt found. While it is away, `get` finds nothing and `put` does nothing."""

    up: bool

    async def get(self, key: str) -> bytes | None: ...
    async def put(self, key: str, value: bytes) -> None: ...
    async def close(self) -> None: ...


def open_cache(settings: RagSettings) -> "Cache":
    """In Redis, if one is configured."""
    if settings.redis_url:
        return RedisCache(settings.redis_url, settings.cache_ttl_s, settings.dependency_timeout_s)
    return MemoryCache(settings.cache_entries, settings.cache_ttl_s)


class MemoryCache:
    """For one process."""

    up = True

    def __init__(self, entries: int, ttl_s: int):
        self._entries: TTLCache[str, bytes] = TTLCache(entries, ttl_s)

    async def get(self, key: str) -> bytes | None:
        return self._entries.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self._entries[key] = value

    async def close(self) -> None:
        self._entries.clear()


class RedisCache:
    """For all replicas."""

    def __init__(self, url: str, ttl_s: int, timeout_s: float):
        self._ttl_s, self._away_until, self.up = ttl_s, 0.0, True
        self._redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )

    async def get(self, key: str) -> bytes | None:
        return await self._try(self._redis.get, key)

    async def put(self, key: str, value: bytes) -> None:
        await self._try(self._redis.set, key, value, ex=self._ttl_s)

    async def _try(self, command, *args, **options):
        if time.monotonic() < self._away_until:
            return None
        try:
            result = await command(*args, **options)
        except RedisError:
            self.up, self._away_until = False, time.monotonic() + PAUSE_S
            return None
        self.up = True
        return result

    async def close(self) -> None:
        await self._redis.aclose()
