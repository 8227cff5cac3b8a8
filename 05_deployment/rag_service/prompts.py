"""Prompt versions: files that never change once released, named by the hash of what they say."""

import hashlib
import json
import tomllib
from pathlib import Path
from string import Formatter

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

ARMS = 10_000


class Prompt(BaseModel):
    """One version. `copies`: the model may write nothing but a sentence of the passage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    system: str
    user: str
    copies: bool = False
    max_tokens: int = Field(48, ge=1, le=512)

    @field_validator("user")
    @classmethod
    def _has_both_variables(cls, text: str) -> str:
        if (found := {name for _, name, _, _ in Formatter().parse(text) if name is not None}) != {
            "passage",
            "question",
        }:
            raise ValueError(f"must have {{passage}} and {{question}}, and has {sorted(found)}")
        return text

    @property
    def version(self) -> str:
        """A short hash: the same words, the same version."""
        content = json.dumps(self.model_dump(), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def messages(self, passage: str, question: str) -> list[dict[str, str]]:
        """The chat that the model is sent."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self.user.format(passage=passage, question=question)},
        ]


def load(folder: Path) -> dict[str, Prompt]:
    """Every prompt of a folder, by version.

    Raises:
        ValueError: a file is no valid prompt; the message names it.
    """
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            prompt = Prompt(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"{path.name}: {said}") from None
        except ValueError as error:  # tomllib's
            raise ValueError(f"{path.name}: {error}") from None
        found[prompt.version] = prompt
    if not found:
        raise ValueError(f"{folder} holds no prompt (*.toml)")
    return found


class Release(BaseModel):
    """What is in production, and what a share of the callers tries."""

    production: str
    candidate: str | None = None
    share: float = Field(0.0, ge=0, le=1)

    def version_for(self, caller: str) -> str:
        """The same caller gets the same version, and stays with the candidate when its share grows."""
        if self.candidate is None:
            return self.production
        digest = hashlib.sha256(f"{self.candidate}:{caller}".encode()).digest()
        return (
            self.candidate
            if int.from_bytes(digest[:8], "big") % ARMS < self.share * ARMS
            else self.production
        )
