"""The model: any server that speaks the OpenAI API."""

from httpx2 import Timeout
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from .errors import ApiError
from .schemas import ChatRequest
from .settings import Settings


class ChatModel:
    """Retries are the SDK's own: a refused connection, 408, 409, 429 and 5xx, with exponential backoff, jitter and Retry-After.

    It would also repeat a request that timed out, when the model is slowest
    and repeating hurts most. So its timeout lies above the deadline that the
    caller of `create` sets around everything, and is never reached.
    """

    def __init__(self, settings: Settings):
        self.name = settings.openai_model
        self.client = AsyncOpenAI(
            base_url=settings.openai_base_url,
            api_key=settings.openai_api_key.get_secret_value(),
            max_retries=settings.max_retries,
            timeout=Timeout(settings.request_timeout_s + 1, connect=settings.connect_timeout_s),
        )

    async def create(
        self, ask: ChatRequest
    ) -> tuple[ChatCompletion | AsyncStream[ChatCompletionChunk], int]:
        """The answer, or the open stream of it when `ask.stream`; and how often it was retried.

        Raises:
            openai.APIError: after the last retry.
            json.JSONDecodeError, ApiError: what came is not JSON, or not a chat completion.
        """
        raw = await self.client.chat.completions.with_raw_response.create(
            model=self.name,
            messages=[message.model_dump() for message in ask.messages],
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            stream=ask.stream,
            **({"stream_options": {"include_usage": True}} if ask.stream else {}),
        )
        answer = raw.parse()
        if not ask.stream and not (
            isinstance(answer, ChatCompletion) and answer.choices and answer.usage
        ):
            raise ApiError(502, "upstream_error", "The model's server sent no usable answer.")
        return answer, raw.retries_taken

    async def ping(self) -> None:
        """Raises openai.APIError unless the model's server answers within a second."""
        await self.client.with_options(timeout=1.0, max_retries=0).models.list()
