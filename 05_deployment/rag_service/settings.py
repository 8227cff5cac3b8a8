"""What the service adds to the chat service's settings; each field is the variable SERVICE_<NAME>."""

from pathlib import Path

from pydantic import Field
from service.settings import Settings


class RagSettings(Settings):
    embedding_base_url: str | None = (
        None  # None: the server of OPENAI_BASE_URL; vLLM serves one model a server
    )
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"

    database_url: str = "sqlite+aiosqlite:///rag.db"  # or postgresql+psycopg://user@host/name
    redis_url: str | None = None  # None: a cache for each process
    prompts: Path = Path(__file__).with_name("prompts")

    # Below this cosine between question and best passage it says that it does not know: chosen on recipe 5.11's dev questions.
    refuse_below: float = Field(0.30, ge=-1, le=1)
    cache_ttl_s: int = 3600
    cache_entries: int = 10_000  # of the cache in memory
    dependency_timeout_s: float = Field(0.2, gt=0)  # Redis; a slow cache is worse than none
    release_poll_s: float = Field(0.5, gt=0)  # how soon a roll-back reaches every replica
    gate_every: int = Field(1, ge=1)  # 4: only each fourth case is asked
    gate_may_lose: int = Field(
        1, ge=0
    )  # cases that a released prompt may get wrong more than the one before
    outbox: int = 1000  # answers that wait in memory while the database is away
