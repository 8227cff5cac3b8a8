"""The model: any server that speaks the OpenAI API.

It is always asked for a stream, also for a client that wants the answer in one
piece: every server notices when the connection of a stream closes and stops
writing, and when something fails, what has been written so far is known.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpx2 import Timeout
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from .schemas import ChatRequest
from .settings import Settings

CHARS_PER_TOKEN = 4  # of English, roughly


class Answer:
    """One answer while it is being written.

    The model's server counts tokens at the very end; until then each piece of
    text is taken for one token, as are `CHARS_PER_TOKEN` characters of the
    prompt, and `estimated` is true. So an answer whose client leaves is not free.
    """

    def __init__(
        self,
        chunks: AsyncStream[ChatCompletionChunk],
        deadline: float,
        retries: int,
        prompt_chars: int,
    ):
        self._chunks, self._deadline, self.retries = chunks, deadline, retries
        self.prompt_tokens = math.ceil(prompt_chars / CHARS_PER_TOKEN)
        self.completion_tokens = 0
        self.estimated = True
        self.finish_reason: str | None = None

    async def pieces(self) -> AsyncIterator[str]:
        """Its text, piece by piece.

        Raises:
            TimeoutError: the deadline has come.
            EOFError: the stream ended before the answer did.
            openai.APIError, json.JSONDecodeError: it broke.
        """
        while True:
            # Around each chunk: a timeout around a yield would strike in whoever holds the generator.
            async with asyncio.timeout_at(self._deadline):
                chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            if chunk.usage:
                self.prompt_tokens = chunk.usage.prompt_tokens
                self.completion_tokens = chunk.usage.completion_tokens
                self.estimated = False
            for choice in chunk.choices:
                self.finish_reason = choice.finish_reason or self.finish_reason
                if text := choice.delta.content:
                    self.completion_tokens += self.estimated
                    yield text
        if self.finish_reason is None:
            raise EOFError


class ChatModel:
    """Retries are the SDK's own: refused connections, 408, 409, 429 and 5xx, with backoff, jitter and Retry-After.

    It would also repeat a request that timed out, when the model is slowest and
    repeating hurts most. So its timeout lies above the deadline around it, and
    is never reached. Once a stream has begun, nothing is repeated.
    """

    def __init__(self, settings: Settings):
        self.name, self._timeout_s = settings.openai_model, settings.request_timeout_s
        self.client = AsyncOpenAI(
            base_url=settings.openai_base_url,
            api_key=settings.openai_api_key.get_secret_value(),
            max_retries=settings.max_retries,
            timeout=Timeout(self._timeout_s + 1, connect=settings.connect_timeout_s),
        )

    @asynccontextmanager
    async def answer(self, ask: ChatRequest) -> AsyncIterator[Answer]:
        """Open an answer; leaving the block closes the connection, and the model stops writing.

        Raises:
            TimeoutError: it has not begun by the deadline.
            openai.APIError: after the last retry.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        async with asyncio.timeout_at(deadline):
            response = await self.client.chat.completions.with_raw_response.create(
                model=self.name,
                messages=[message.model_dump() for message in ask.messages],
                max_tokens=ask.max_tokens,
                temperature=ask.temperature,
                stream=True,
                stream_options={"include_usage": True},
            )
        async with response.parse() as chunks:
            yield Answer(chunks, deadline, response.retries_taken, ask.chars)

    async def ping(self) -> None:
        """Raises openai.APIError unless the model's server answers within a second."""
        await self.client.with_options(timeout=1.0, max_retries=0).models.list()
