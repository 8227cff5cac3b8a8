"""Server-sent events: any number of `token`, then exactly one `done` or `error`."""

from collections.abc import AsyncIterator, Callable

from fastapi.sse import format_sse_event
from pydantic import BaseModel

from .errors import UPSTREAM_ERRORS
from .schemas import Problem, StreamEnd, Token

# The second is for nginx, which otherwise collects a stream before it passes it on.
SSE_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _documented(name: str, data: type[BaseModel]) -> dict:
    schema = data.model_json_schema(ref_template="#/components/schemas/{model}")
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    properties = {"event": {"const": name}, "data": text}
    return {"type": "object", "required": ["event", "data"], "properties": properties}


# For the OpenAPI document, in the form that OpenAPI 3.2 has for streams.
EVENTS = {"token": Token, "done": StreamEnd, "error": Problem}
EVENT_STREAM = {"itemSchema": {"oneOf": [_documented(*event) for event in EVENTS.items()]}}


async def events(
    pieces: AsyncIterator[str],
    done: Callable[[], StreamEnd],
    failed: Callable[[Exception], Problem],
) -> AsyncIterator[bytes]:
    """The bytes of the stream; `done` and `failed` make the data of the last event."""

    def event(name: str, data: BaseModel) -> bytes:
        return format_sse_event(event=name, data_str=data.model_dump_json())

    try:
        async for text in pieces:
            yield event("token", Token(text=text))
        yield event("done", done())
    except UPSTREAM_ERRORS as error:
        yield event("error", failed(error))
