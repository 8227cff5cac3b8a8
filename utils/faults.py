"""A reverse proxy that fails on purpose, between an OpenAI client and a real model server.

What a provider does on a bad day, at a rate and with a seed of your own, so that
two clients can be compared under the very same faults: which fault a call meets
depends on the seed, its key and how often that key has been tried, and not on
when it comes. Every call is noted, with the time it arrived and whether the model
worked for it ("paid").

The proxy speaks raw HTTP/1.1 on asyncio, one call for each connection, because a
web framework gives no way to reset a connection or to cut an answer short.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

FREE = ("429", "500", "reset")
"""Faults that come before the model is asked: nothing is paid."""

PAID = ("lost", "cut", "slow")
"""Faults that come after the model has begun to answer: paid for, and of no use."""

KINDS = FREE + PAID


@dataclass
class Call:
    """What the proxy knows of one call.

    Attributes:
        key: the client's ``Idempotency-Key`` header, the same for each retry.
        attempt: how many calls came with this key before.
        arrived: `time.monotonic()` when the request's headers were there.
        fault: one of `KINDS`, or None.
        paid: the model was asked.
        whole: the answer went out to its last byte, as far as the proxy can know.
        answer_id: the `id` that the model's server gave the answer.
        tokens: prompt and answer, as the server counted; 0 if it did not say.
        pieces: how many pieces of a streamed text went out.
    """

    key: str
    attempt: int
    arrived: float
    fault: str | None = None
    paid: bool = False
    whole: bool = False
    answer_id: str | None = None
    tokens: int = 0
    pieces: int = 0


def draw(
    seed: int, key: str, attempt: int, rate: float, kinds: Sequence[str] = KINDS
) -> str | None:
    """The fault that this attempt meets: one of `kinds`, equally likely, or None."""
    rng = random.Random(f"{seed}/{key}/{attempt}")
    return rng.choice(kinds) if rng.random() < rate else None


def busiest(times: Sequence[float], weights: Sequence[float], window: float) -> float:
    """The largest sum of weights in any half-open window of this many seconds.

    A largest window can always be moved until it begins at one of the times, so
    those are all that need looking at.
    """
    order = sorted(zip(times, weights, strict=True))
    return max(
        (sum(w for t, w in order[i:] if t < start + window) for i, (start, _) in enumerate(order)),
        default=0,
    )


class FaultProxy:
    """Passes calls on to `upstream` and spoils some of them.

    Faults: "429" (with ``Retry-After`` and ``retry-after-ms``), "500", "reset" (the
    connection is reset before the model is asked), "lost" (reset after it has
    answered), "cut" (half of the answer, then an orderly end), "slow" (the answer
    comes in small pieces, over `slow_s` seconds or more).

    Args:
        upstream: an OpenAI base URL, ending in ``/v1``.
        rate: share of the calls that meet a fault.
        seed: of the faults.
        kinds: which of them occur.
        retry_after_s: what a 429 asks its client to wait.
        slow_s: how long a slow answer takes.

    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        rate: float = 0.3,
        seed: int = 0,
        kinds: Sequence[str] = KINDS,
        retry_after_s: float = 0.3,
        slow_s: float = 10.0,
    ) -> None:
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"unknown faults: {sorted(unknown)}; there are {KINDS}")
        self.upstream, self.rate, self.seed, self.kinds = upstream.rstrip("/"), rate, seed, kinds
        self.retry_after_s, self.slow_s = retry_after_s, slow_s
        self.calls: list[Call] = []
        self._tried: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="faults")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._client = httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=None))
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, drop what is under way, and end the thread."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def paid(self, key: str | None = None) -> int:
        """How many calls the model has worked for, with this key or in all."""
        return sum(call.paid for call in list(self.calls) if key in (None, call.key))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            arrived = time.monotonic()
            method, target, _ = head[0].split(" ")
            headers = {
                k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            await self._answer(method, target, headers, body, arrived, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone; the call stays in the log as it is
        except asyncio.CancelledError:
            writer.transport.abort()
            return
        writer.close()

    async def _answer(self, method, target, headers, body, arrived, writer) -> None:
        key = headers.get("idempotency-key", "")
        attempt = self._tried.get(key, 0)
        self._tried[key] = attempt + 1
        fault = draw(self.seed, key, attempt, self.rate, self.kinds)
        call = Call(key, attempt, arrived, fault)
        self.calls.append(call)
        if fault == "reset":
            return _reset(writer)
        if fault in ("429", "500"):
            return await self._refuse(call, writer)
        passed = {k: headers[k] for k in ("authorization", "content-type") if k in headers}
        request = self._client.build_request(
            method, self.upstream + target.removeprefix("/v1"), content=body, headers=passed
        )
        call.paid = True
        response = await self._client.send(request, stream=True)
        try:
            if "event-stream" in response.headers.get("content-type", ""):
                await self._relay(call, response, writer)
            else:
                await self._pass_on(call, response, writer)
        finally:
            await response.aclose()  # the model's server stops writing when its client has gone

    async def _refuse(self, call: Call, writer: asyncio.StreamWriter) -> None:
        content = json.dumps(
            {"error": {"message": "injected", "type": "injected", "code": call.fault}}
        ).encode()
        wait = {
            "Retry-After": str(max(1, round(self.retry_after_s))),  # whole seconds, by the standard
            "retry-after-ms": str(round(self.retry_after_s * 1000)),  # what OpenAI and Azure add
        }
        more = wait if call.fault == "429" else {}
        await _send(
            writer, _head(int(call.fault), "application/json", len(content), more) + content
        )

    async def _pass_on(
        self, call: Call, response: httpx.Response, writer: asyncio.StreamWriter
    ) -> None:
        """An answer in one piece."""
        content = await response.aread()
        if response.is_success:
            _note(call, json.loads(content))
        if call.fault == "lost":
            return _reset(writer)
        if call.fault == "cut":
            content = content[: len(content) // 2]
        await _send(
            writer, _head(response.status_code, response.headers["content-type"], len(content))
        )
        step = max(1, len(content) // 21) if call.fault == "slow" else len(content)
        for start in range(0, len(content), step):
            if start:  # between the pieces: once the client has the last one, the call is over
                await asyncio.sleep(self.slow_s / 20)
            await _send(writer, content[start : start + step])
        call.whole = call.fault != "cut"

    async def _relay(
        self, call: Call, response: httpx.Response, writer: asyncio.StreamWriter
    ) -> None:
        """A streamed answer, event by event."""
        await _send(writer, _head(response.status_code, "text/event-stream", None))
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                _note(call, event)
                call.pieces += bool(
                    event["choices"] and event["choices"][0]["delta"].get("content")
                )
            if call.fault == "cut" and call.pieces:
                return  # an orderly end, after the first piece of text
            if call.fault == "lost" and call.pieces:
                return _reset(writer)
            if line:
                await _send(writer, f"{line}\n\n".encode())
            if line == "data: [DONE]":
                break  # the client has all that it waits for
            if line and call.fault == "slow":
                await asyncio.sleep(self.slow_s / 3)  # a short stream has three events or more
        call.whole = True


def _note(call: Call, answer: dict) -> None:
    call.answer_id = answer.get("id", call.answer_id)
    call.tokens = (answer.get("usage") or {}).get("total_tokens", call.tokens)


def _head(status: int, kind: str, length: int | None, more: dict[str, str] | None = None) -> bytes:
    """Status line and headers. Without a length the body ends where the connection does."""
    headers = {"Content-Type": kind, "Connection": "close"} | (more or {})
    if length is not None:
        headers["Content-Length"] = str(length)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} \r\n{lines}\r\n".encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST. Without `SO_LINGER` it would be FIN, which looks like an orderly end."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
