"""Settings from the environment; the service does not start with a wrong one."""

from typing import Annotated

from limits import RateLimitItem, parse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ApiKey(BaseModel):
    """One caller. The name it is filed under is its key id, which may be logged; the secret never is."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    secret: SecretStr = Field(min_length=16)
    rate_limit: Annotated[RateLimitItem, BeforeValidator(parse)] = parse("60/minute")


class Settings(BaseSettings):
    """Each field is the variable SERVICE_<NAME>, save the three of the OpenAI client.

    `python -m service` also takes them from files of these names in the folder SERVICE_SECRETS_DIR.
    """

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_", env_file=".env", extra="ignore", validate_by_name=True, frozen=True
    )

    openai_base_url: str = Field(validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr = Field(validation_alias="OPENAI_API_KEY")
    openai_model: str = Field(validation_alias="OPENAI_MODEL")

    host: str = "127.0.0.1"
    port: int = 8000
    # {"web": {"secret": "...", "rate_limit": "600/minute"}}. No default: an open service must not
    # happen by oversight.
    api_keys: dict[str, ApiKey] = Field(min_length=1)
    # async+redis://... as soon as there are two processes
    rate_limit_storage: str = "async+memory://"

    max_body_bytes: int = 64 * 1024
    max_prompt_chars: int = 8_000  # all messages together, about 2,000 tokens of English

    max_concurrency: int = Field(4, ge=1)  # calls to the model at once
    max_queue: int = Field(12, ge=0)  # callers that may wait for one of those
    queue_timeout_s: float = Field(2.0, gt=0)  # how long they may wait
    connect_timeout_s: float = Field(1.0, gt=0)
    request_timeout_s: float = Field(20.0, gt=0)  # the model's whole answer, retries included
    max_retries: int = Field(2, ge=0)
    # Longer than the load balancer's, so that it closes idle connections and never meets a closed one.
    keep_alive_s: int = 75
    # More than request_timeout_s, less than Kubernetes' terminationGracePeriodSeconds.
    shutdown_grace_s: int = 30

    usd_per_million_prompt_tokens: float = Field(0.0, ge=0)
    usd_per_million_completion_tokens: float = Field(0.0, ge=0)
