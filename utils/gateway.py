"""What stands between an OpenAI client and the local model server.

llama.cpp's server speaks the OpenAI API but gives a small model no tool calls,
and serves one model at a time. This layer, an ASGI app in front of it, adds

- ``tools`` and ``tool_choice``: written into the prompt in the form of
  :mod:`utils.toolformat`, the output constrained to the tools' JSON schemas by a
  grammar, the answer returned as standard ``tool_calls``, streamed too;
- ``/v1/embeddings``, computed by the book's embedding model;
- the errors of a real provider: 401 for a wrong key, 404 for an unknown model.

Everything else goes through unchanged.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from utils import toolformat

Embedder = Callable[[list[str]], Sequence[Sequence[float]]]  # one vector for each text

# The head of a tool call as the model writes it; the arguments follow.
_CALL_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"(?P<name>[^"]+)"\s*,\s*"arguments"\s*:\s*(?=\{)')


def create_app(
    upstream: str,
    api_key: str,
    model: str,
    embedder: tuple[str, Embedder] | None = None,
    own_tools: bool = False,
) -> Starlette:
    """Build the gateway.

    Args:
        upstream: address of the model server, without ``/v1``.
        api_key: what clients must send, and what the gateway sends on.
        model: the chat model's public name.
        embedder: name of the embedding model and its function (texts to vectors).
        own_tools: the model server does tool calls itself: leave them to it.
    """
    client = httpx.AsyncClient(
        base_url=upstream,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=httpx.Timeout(10, read=600),
        limits=httpx.Limits(max_connections=None),
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def chat(request: Request) -> Response:
        body = await _json(request)
        _check_model(body, model)
        if own_tools or not _uses_tools(body):
            return await _forward(client, request, "/v1/chat/completions", body)
        sent = _with_tools(body)
        if body.get("stream"):
            response = await _open(client, "/v1/chat/completions", sent)
            return StreamingResponse(_stream_calls(response), media_type="text/event-stream")
        response = await client.post("/v1/chat/completions", json=sent)
        answer = response.json()
        if response.is_success:
            for choice in answer["choices"]:
                _extract_call(choice)
        return JSONResponse(answer, response.status_code)

    async def embeddings(request: Request) -> Response:
        body = await _json(request)
        name, embed = embedder
        _check_model(body, name)
        texts = body.get("input", [])
        texts = [texts] if isinstance(texts, str) else texts
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise ApiError(
                400, "input must be a text or a list of texts, none of them empty (no token ids)"
            )
        vectors = await asyncio.to_thread(embed, texts)
        return JSONResponse(_embedding_answer(name, vectors, body.get("encoding_format", "float")))

    async def models(request: Request) -> Response:
        names = [model] + ([embedder[0]] if embedder else [])
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    {"id": n, "object": "model", "created": 0, "owned_by": "local"} for n in names
                ],
            }
        )

    async def anything_else(request: Request) -> Response:
        body = await request.body()
        response = await client.request(
            request.method,
            request.url.path,
            content=body,
            headers={"Content-Type": "application/json"},
        )
        return Response(
            response.content, response.status_code, media_type=response.headers.get("content-type")
        )

    def checked(handler):
        """A handler that wants the key first."""

        async def handle(request: Request) -> Response:
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), api_key.encode()):
                raise ApiError(401, "Incorrect API key provided.", "invalid_api_key")
            return await handler(request)

        return handle

    routes = [
        Route("/v1/chat/completions", checked(chat), methods=["POST"]),
        Route("/v1/models", checked(models)),
        Route("/{path:path}", checked(anything_else), methods=["GET", "POST"]),
    ]
    if embedder:
        routes.insert(0, Route("/v1/embeddings", checked(embeddings), methods=["POST"]))
    handlers = {ApiError: _show_error, httpx.TransportError: _show_dead_upstream}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


class ApiError(Exception):
    """An error in the form that OpenAI clients turn into their own exceptions."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def _show_error(request: Request, error: ApiError) -> Response:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    content = {"message": str(error), "type": kind, "param": None, "code": error.code}
    return JSONResponse({"error": content}, error.status)


async def _show_dead_upstream(request: Request, error: httpx.TransportError) -> Response:
    return await _show_error(
        request, ApiError(502, f"The model server does not answer ({error!r}).")
    )


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise ApiError(400, f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return body


def _check_model(body: dict[str, Any], served: str) -> None:
    if body.get("model") != served:
        raise ApiError(
            404,
            f"The model {body.get('model')!r} is not served here, {served!r} is.",
            "model_not_found",
        )


async def _forward(
    client: httpx.AsyncClient, request: Request, path: str, body: dict[str, Any]
) -> Response:
    if not body.get("stream"):
        response = await client.post(path, json=body)
        return Response(response.content, response.status_code, media_type="application/json")
    response = await _open(client, path, body)
    return StreamingResponse(_relay(response), media_type="text/event-stream")


async def _open(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    """Start a streamed answer; an error is raised before the first byte goes to the client."""
    response = await client.send(client.build_request("POST", path, json=body), stream=True)
    if not response.is_success:
        await response.aread()
        await response.aclose()
        error = response.json().get("error", {})
        raise ApiError(response.status_code, error.get("message", response.text), error.get("type"))
    return response


async def _relay(response: httpx.Response) -> AsyncIterator[bytes]:
    # Closing the upstream response is what makes llama.cpp stop writing when
    # the client has gone.
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    finally:
        await response.aclose()


# --- tool calls --------------------------------------------------------------


def _uses_tools(body: dict[str, Any]) -> bool:
    messages = body.get("messages") or []
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise ApiError(400, "messages must be a list of objects with a role.")
    return bool(body.get("tools")) or any(
        m["role"] == "tool" or m.get("tool_calls") for m in messages
    )


def _with_tools(body: dict[str, Any]) -> dict[str, Any]:
    """The same request for a server that knows nothing of tools."""
    tools = body.get("tools") or []
    if tools and (body.get("response_format") or {}).get("type", "text") != "text":
        raise ApiError(400, "tools and response_format cannot be combined on this server.")
    own = ("tools", "tool_choice", "parallel_tool_calls", "messages", "logprobs", "top_logprobs")
    sent = {key: value for key, value in body.items() if key not in own}
    try:
        sent["messages"] = toolformat.render(body["messages"], tools)
        grammar = toolformat.grammar(tools, body.get("tool_choice") or "auto")
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    if tools:  # without them any text will do, or what response_format asks for
        sent["grammar"] = grammar
    return sent


def _new_call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _arguments(text: str) -> str:
    """What stands between the head of a call and the brace that closes it."""
    return text.rstrip().removesuffix("}").rstrip()


def _extract_call(choice: dict[str, Any]) -> None:
    """Turn a choice whose text is a call into one with ``tool_calls``, in place.

    A call that ``max_tokens`` cut off keeps its unfinished arguments and
    ``finish_reason: "length"``, as with other providers.
    """
    text = choice["message"].get("content") or ""
    head = _CALL_HEAD.match(text)
    if not head:
        return
    cut = choice["finish_reason"] == "length"
    rest = text[head.end() :]
    choice["message"]["content"] = None
    choice["message"]["tool_calls"] = [_new_call(head["name"], rest if cut else _arguments(rest))]
    if not cut:
        choice["finish_reason"] = "tool_calls"


class _CallStream:
    """Turns the pieces of one streamed text into deltas of content or of a tool call.

    Text goes through at once, unless it starts like a call; then the arguments
    follow as they are written, held back by the closing braces, of which the
    last one belongs to the call and not to its arguments.
    """

    def __init__(self) -> None:
        self.text = ""
        self.start: int | None = None  # where the arguments begin
        self.sent = 0  # up to where text or arguments have gone out

    def push(self, piece: str) -> dict[str, Any] | None:
        self.text += piece
        if self.start is None:
            if not self.text.lstrip().startswith("{"):
                return self._content() if self.text.strip() else None
            head = _CALL_HEAD.match(self.text)
            if not head:
                return None
            self.start = self.sent = head.end()
            call = _new_call(head["name"], "")
            return {"tool_calls": [{"index": 0, **call}]}
        return self._more(len(self.text[self.start :].rstrip("} \n")) + self.start)

    def finish(self, reason: str) -> tuple[dict[str, Any] | None, str]:
        """The last delta, if anything was held back, and the reason to report."""
        if self.start is None:
            return self._content(), reason
        rest = self.text[self.start :]
        end = self.start + len(rest if reason == "length" else _arguments(rest))
        return self._more(end), reason if reason == "length" else "tool_calls"

    def _content(self) -> dict[str, Any] | None:
        piece, self.sent = self.text[self.sent :], len(self.text)
        return {"content": piece} if piece else None

    def _more(self, end: int) -> dict[str, Any] | None:
        piece, self.sent = self.text[self.sent : end], max(end, self.sent)
        return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} if piece else None


async def _stream_calls(response: httpx.Response) -> AsyncIterator[str]:
    """Server-sent events from the model server, rewritten choice by choice."""
    streams: dict[int, _CallStream] = {}

    def event(
        chunk: dict[str, Any],
        choice: dict[str, Any],
        delta: dict[str, Any],
        reason: str | None = None,
    ) -> str:
        changed = choice | {"delta": delta, "finish_reason": reason}
        return f"data: {json.dumps(chunk | {'choices': [changed]})}\n\n"

    try:
        async for line in response.aiter_lines():
            data = line.removeprefix("data: ")
            if data == line:  # a blank line or a comment
                continue
            chunk = None if data == "[DONE]" else json.loads(data)
            if not chunk or not chunk.get("choices"):
                yield f"data: {data}\n\n"
                continue
            for choice in chunk["choices"]:
                stream = streams.setdefault(choice["index"], _CallStream())
                delta = choice.get("delta", {})
                if "role" in delta:
                    yield event(chunk, choice, {"role": "assistant", "content": None})
                if delta.get("content") and (out := stream.push(delta["content"])):
                    yield event(chunk, choice, out)
                if choice.get("finish_reason"):
                    out, reason = stream.finish(choice["finish_reason"])
                    if out:
                        yield event(chunk, choice, out)
                    yield event(chunk, choice, {}, reason)
    finally:
        await response.aclose()


# --- embeddings --------------------------------------------------------------


def _embedding_answer(
    model: str, vectors: Sequence[Sequence[float]], encoding: str
) -> dict[str, Any]:
    """OpenAI's form; its own client asks for base64 of little-endian float32."""
    import base64

    import numpy as np

    def encode(vector: Sequence[float]) -> list[float] | str:
        numbers = np.asarray(vector, dtype="<f4")
        return (
            base64.b64encode(numbers.tobytes()).decode()
            if encoding == "base64"
            else numbers.tolist()
        )

    data = [
        {"object": "embedding", "index": i, "embedding": encode(v)} for i, v in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}  # local: nothing to bill
    return {"object": "list", "model": model, "data": data, "usage": usage}
