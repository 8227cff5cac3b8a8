"""What may be asked and what is answered. The limits here stand in the OpenAPI document, so clients see them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=8_000)


def whole(value: Any) -> Any:
    """8.0 is an integer in JSON Schema, and some languages write it so (found by fuzzing)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class ChatRequest(BaseModel):
    # Unknown fields are refused: a caller who misspells max_tokens should hear of it.
    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[Message] = Field(min_length=1, max_length=32)
    max_tokens: Annotated[int, BeforeValidator(whole)] = Field(128, ge=1, le=512)
    temperature: float = Field(0.0, ge=0, le=2)
    stream: bool = False

    @property
    def chars(self) -> int:
        """Characters of all messages together."""
        return sum(len(message.content) for message in self.messages)


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class ChatAnswer(BaseModel):
    request_id: str
    model: str
    content: str
    finish_reason: str
    usage: Usage


class Token(BaseModel):
    """The data of the event `token`."""

    text: str


class StreamEnd(BaseModel):
    """The data of the event `done`."""

    finish_reason: str
    usage: Usage


class KeyUsage(Usage):
    """What one key has used since this process started."""

    key_id: str
    requests: int


class Status(BaseModel):
    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """RFC 9457 problem details, with the extensions `code`, `request_id` and `errors`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = Field(description="what a program switches on; the detail is for people")
    request_id: str
    errors: list[str] = Field([], description="for code invalid_request: what is wrong, and where")
