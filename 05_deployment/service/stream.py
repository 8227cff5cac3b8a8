"""Server-sent events: any number of `token`, then exactly one `done` or `error`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi.sse import format_sse_event
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from .errors import UPSTREAM_ERRORS, ApiError
from .schemas import Problem, StreamEnd, Token

# The second is for nginx, which otherwise collects a stream before it passes it on.
SSE_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _documented(name: str, data: type[BaseModel]) -> dict:
    schema = data.model_json_schema(ref_template="#/components/schemas/{model}")
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"const": name}, "data": text},
    }


# For the OpenAPI document, in the form that OpenAPI 3.2 has for streams.
EVENT_STREAM = {
    "itemSchema": {
        "oneOf": [
            _documented("token", Token),
            _documented("done", StreamEnd),
            _documented("error", Problem),
        ]
    }
}


@dataclass
class Tally:
    """A stream so far. The model's server counts its tokens at the very end; until then each piece of text is taken for one."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = True
    finish_reason: str | None = None

    @property
    def tokens(self) -> tuple[int, int]:
        return self.prompt_tokens, self.completion_tokens

    def add(self, chunk: ChatCompletionChunk) -> str | None:
        """Count this chunk; returns its text, if it has any."""
        if chunk.usage:
            self.prompt_tokens, self.completion_tokens = (
                chunk.usage.prompt_tokens,
                chunk.usage.completion_tokens,
            )
            self.estimated = False
        if not chunk.choices:
            return None
        self.finish_reason = chunk.choices[0].finish_reason or self.finish_reason
        text = chunk.choices[0].delta.content
        self.completion_tokens += bool(text and self.estimated)
        return text


async def events(
    chunks: AsyncIterator[ChatCompletionChunk],
    tally: Tally,
    deadline: float,
    done: Callable[[], BaseModel],
    failed: Callable[[Exception], BaseModel],
) -> AsyncIterator[bytes]:
    """The bytes of the stream. `deadline` is in the event loop's time; `done` and `failed` make the last event's data."""

    def event(name: str, data: BaseModel) -> bytes:
        return format_sse_event(event=name, data_str=data.model_dump_json())

    try:
        while True:
            # Around each chunk: a timeout around a yield would strike in whoever holds the generator then.
            async with asyncio.timeout_at(deadline):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            if text := tally.add(chunk):
                yield event("token", Token(text=text))
        if tally.finish_reason is None:
            raise ApiError(
                502, "upstream_error", "The model's server stopped in the middle of the answer."
            )
        yield event("done", done())
    except (*UPSTREAM_ERRORS, ApiError) as error:
        yield event("error", failed(error))
