"""One question: the cache, the nearest passage, a refusal or the model's answer, a check of it."""

import asyncio
import json
import re
from dataclasses import asdict, dataclass, replace

import numpy as np
from openai import AsyncOpenAI
from service.limits import Gate
from service.upstream import ChatModel

from . import cache as caches
from .index import Index
from .prompts import Prompt
from .settings import RagSettings

REFUSAL = "The documents do not say."


@dataclass(frozen=True)
class Result:
    """`outcome` is "answered", "refused" (the documents do not say), "unchecked" (the answer failed the check) or "cached"."""

    outcome: str
    answer: str
    passage: str
    source: str
    score: float
    prompt: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


def sentences(text: str) -> list[str]:
    """What the model may copy: sentences, bullets and rows, without repetition."""
    parts = re.split(r"(?<=[.!?])\s+(?=[\"'(A-Z])|(?<=[。！？])|\n+", text)
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def chunks(text: str, words: int = 40) -> list[str]:
    """Pieces of whole sentences, a line each, of about so many words at most: recipe 2.4 compares sizes."""
    found: list[list[str]] = [[]]
    for sentence in sentences(text):
        size = sum(len(other.split()) for other in [*found[-1], sentence])
        if found[-1] and size > words:
            found.append([])
        found[-1].append(sentence)
    return ["\n".join(chunk) for chunk in found if chunk]


class Pipeline:
    """Shared by all requests of a process."""

    def __init__(
        self, settings: RagSettings, index: Index, cache: caches.Cache, gate: Gate, model: ChatModel
    ):
        self._settings, self.index, self._cache, self._gate = settings, index, cache, gate
        self._chat = model.client
        self._embeddings = (
            self._chat.with_options(base_url=settings.embedding_base_url)
            if settings.embedding_base_url
            else self._chat
        )

    async def ask(self, question: str, prompt: Prompt, *, cached: bool = True) -> Result:
        """Answer a question with one version of the prompt.

        Raises:
            service.errors.ApiError: 503, too many requests are waiting for the model.
            service.errors.UPSTREAM_ERRORS: the model's server failed or was late.
        """
        key = caches.key(
            self.index.fingerprint, prompt.version, self._settings.openai_model, question
        )
        if cached and (found := await self._cache.get(key)):
            return replace(
                Result(**json.loads(found)), outcome="cached", prompt_tokens=0, completion_tokens=0
            )
        async with self._gate.slot(), asyncio.timeout(self._settings.request_timeout_s):
            result = await self._answer(question, prompt)
        if (
            cached and result.outcome == "answered"
        ):  # a refusal is cheap, and a failed check may pass next time
            await self._cache.put(key, json.dumps(asdict(result)).encode())
        return result

    async def _answer(self, question: str, prompt: Prompt) -> Result:
        vector = await embed(self._embeddings, self._settings.embedding_model, [question])
        score, passage = self.index.best(question, vector[0])
        result = Result(
            "refused",
            REFUSAL,
            passage.id,
            passage.source,
            round(score, 4),
            prompt.version,
            self._settings.openai_model,
        )
        if score < self._settings.refuse_below:
            return result
        allowed = sentences(passage.text)
        if prompt.copies and len(allowed) == 1:  # one choice is none: nobody is asked
            return replace(result, outcome="answered", answer=allowed[0])
        completion = await self._chat.chat.completions.create(
            model=self._settings.openai_model,
            messages=prompt.messages(passage.whole, question),
            temperature=0,
            max_tokens=prompt.max_tokens,
            **({"response_format": one_of(allowed)} if prompt.copies else {}),
        )
        text, usage = completion.choices[0].message.content or "", completion.usage
        if prompt.copies:
            text = copied(text, allowed)
        return replace(
            result,
            outcome="answered" if text else "unchecked",
            answer=text or REFUSAL,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


async def embed(client: AsyncOpenAI, model: str, texts: list[str]) -> np.ndarray:
    """Unit vectors, float32, shape (len(texts), dimensions)."""
    response = await client.embeddings.create(model=model, input=texts)
    vectors = np.array([row.embedding for row in response.data], dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_of(texts: list[str]) -> dict:
    """A `response_format` that allows only `{"answer": one of these}`."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": texts}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "copy", "strict": True, "schema": schema},
    }


def copied(content: str, allowed: list[str]) -> str:
    """The sentence if it is one of those allowed, else nothing: not every server keeps to a schema, and an answer may be cut off."""
    try:
        answer = json.loads(content)["answer"]
    except (ValueError, TypeError, KeyError):
        return ""
    return answer if answer in allowed else ""
