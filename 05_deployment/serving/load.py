"""One load for every engine: requests of mixed length, sent in a closed or an open loop, every token timed.

Recipe 5.5 and `measure_vllm.py` use it, so that both measure the same.
"""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import openai


@dataclass(frozen=True)
class Request:
    """What is asked, and how many tokens the answer has."""

    messages: list[dict]
    max_tokens: int


@dataclass
class Answer:
    """Seconds on one clock: when the request was due, when it was sent, and when each piece of text came."""

    due: float
    sent: float
    came: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0  # as the server counted them
    prompt: int = 0  # tokens of the prompt,
    cached: int = 0  # and those of them that came from a prefix cache
    error: str = ""

    @property
    def first(self) -> float:
        """Time to first token, from the moment at which the request was due."""
        return self.came[0] - self.due

    @property
    def total(self) -> float:
        return self.came[-1] - self.due

    @property
    def per_token(self) -> float:
        """Mean time per output token after the first."""
        return (self.came[-1] - self.came[0]) / (self.tokens - 1)


LENGTHS = (6, 8, 12, 12, 12, 16, 20, 42)
"""Tokens of the answers, equally often: many short ones and a few long ones, 16 in the mean."""

FRESH = {"Connection": "close"}
"""Headers of the clients. Each request opens a connection, as different users do; a kept one may be closed by the
server in the moment in which it is used again, which would be an error of the connection, not of the engine."""


def draw(n: int, seed: int) -> list[Request]:
    """Questions of a company's staff, every second one with the sentences of the handbook that answer it."""
    from utils import data

    rng = random.Random(seed)
    questions = data.business_questions()
    lengths = [
        length
        for _ in range(math.ceil(n / len(LENGTHS)))
        for length in rng.sample(LENGTHS, len(LENGTHS))
    ]
    requests = []
    for i, length in enumerate(lengths[:n]):
        question = rng.choice(questions)
        text = " ".join([*question.sentences[: i % 2 * 2], question.question])
        requests.append(Request([{"role": "user", "content": text}], length))
    return requests


def with_prefix(words: int = 150) -> list[Request]:
    """Three questions behind the same beginning of a handbook: the case for a prefix cache."""
    from utils import data

    handbook = " ".join(
        document.text
        for document in data.business_documents()
        if document.id.startswith("handbook#")
    )
    system = {"role": "system", "content": " ".join(handbook.split()[:words])}
    asked = (
        "How many days of leave do I have?",
        "Who approves a business trip?",
        "When is the canteen open?",
    )
    return [Request([system, {"role": "user", "content": question}], 4) for question in asked]


def copying(n: int = 2) -> list[Request]:
    """Texts that are to be repeated: the answer stands in the prompt, the case for lookup decoding."""
    from utils import data

    contract = [
        document
        for document in data.business_documents()
        if document.id.startswith("contract_cleaning#")
    ]
    clauses = [document.text.split("\n\n")[0] for document in contract[1 : n + 1]]
    asked = [f"Repeat this text word for word:\n\n{text}" for text in clauses]
    return [Request([{"role": "user", "content": text}], 32) for text in asked]


def writing() -> list[Request]:
    """Texts that are in no prompt."""
    asked = ("Write a short story about a lighthouse keeper.", "Explain why the sky is blue.")
    return [Request([{"role": "user", "content": text}], 32) for text in asked]


async def ask(
    client: openai.AsyncOpenAI, model: str, request: Request, extra: dict, due: float | None = None
) -> Answer:
    """Send one request and time its stream. Errors are kept, not raised: they are part of the result."""
    sent = time.perf_counter()
    answer = Answer(sent if due is None else due, sent)
    try:
        stream = await client.chat.completions.create(
            model=model, messages=request.messages, max_tokens=request.max_tokens, temperature=0,
            stream=True, stream_options={"include_usage": True}, extra_body=extra,
        )  # fmt: skip
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                answer.came.append(time.perf_counter())
                answer.text += chunk.choices[0].delta.content
            if usage := chunk.usage:
                answer.tokens, answer.prompt = usage.completion_tokens, usage.prompt_tokens
                answer.cached = (
                    usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
                ) or 0
        answer.error = "" if answer.came and answer.tokens > 1 else "no tokens"
    except openai.OpenAIError as error:
        answer.error = f"{type(error).__name__}: {error}"
    return answer


def enough(callers: int) -> int:
    """Requests for a closed loop: each caller asks again at least once, and each length comes equally often."""
    return max(2 * callers, len(LENGTHS))


async def closed_loop(send, requests: Sequence[Request], callers: int) -> list[Answer]:
    """Each of the callers sends a request, waits for its end and sends the next, until all are answered."""
    left, answers = iter(requests), []

    async def caller() -> None:
        for request in left:  # one iterator for all
            answers.append(await send(request))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answers


async def open_loop(
    send, requests: Sequence[Request], rate: float, seed: int, connections: int = 10_000
) -> list[Answer]:
    """Requests are due at random, `rate` a second, whatever the server has answered so far.

    A Poisson process of which is known how many came: each moment of the time that they take is equally likely.
    With fewer `connections` than are needed, a request is sent late: the difference of `due` and `sent`.
    """
    rng, free = random.Random(seed), asyncio.Semaphore(connections)
    began, tasks = time.perf_counter(), []
    moments = sorted(rng.uniform(0, len(requests) / rate) for _ in requests)

    async def later(request: Request, due: float) -> Answer:
        async with free:
            return await send(request, due)

    for request, moment in zip(requests, moments, strict=True):
        due = began + moment
        await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(later(request, due)))
    return await asyncio.gather(*tasks)


def at_once(answers: Sequence[Answer]) -> int:
    """How many answers were being written at the same time, at the most."""
    events = [event for a in answers if not a.error for event in ((a.came[0], 1), (a.came[-1], -1))]
    inside, most = 0, 0
    for _, step in sorted(events):  # at the same moment, an end comes before a beginning
        inside += step
        most = max(most, inside)
    return most


def summary(answers: Sequence[Answer]) -> dict[str, float]:
    """Throughput of the whole run and percentiles of the answers without an error."""
    good = [answer for answer in answers if not answer.error]
    if not good:
        raise RuntimeError(f"all {len(answers)} requests failed, the first with {answers[0].error}")
    seconds = max(a.came[-1] for a in good) - min(a.due for a in good)
    first, total, each = (
        np.array([getattr(a, name) for a in good]) for name in ("first", "total", "per_token")
    )
    return {
        "requests": len(answers), "errors": len(answers) - len(good), "at once": at_once(answers), "seconds": seconds,
        "tokens/s": sum(a.tokens for a in good) / seconds, "requests/s": len(good) / seconds,
        "first p50": np.median(first), "first p95": np.percentile(first, 95),
        "token p50": np.median(each), "total p50": np.median(total), "total p95": np.percentile(total, 95),
    }  # fmt: skip
