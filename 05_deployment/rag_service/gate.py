"""The gate before a release: a prompt version on labelled questions, against the one in production."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .pipeline import Pipeline, Result
from .prompts import Prompt

GIVEN = ("answered", "cached")


@dataclass(frozen=True)
class Case:
    """A question, and what is right: `judge` takes the answer, None means that it has to be refused."""

    question: str
    judge: Callable[[str], bool] | None

    def right(self, result: Result) -> bool:
        """Whether the system did what it should."""
        if self.judge is None:
            return result.outcome not in GIVEN
        return result.outcome in GIVEN and self.judge(result.answer)


async def evaluate(
    pipeline: Pipeline, prompt: Prompt, cases: list[Case], *, cached: bool
) -> list[bool]:
    """Right or wrong, case by case."""

    async def one(case: Case) -> bool:
        async with side_by_side:
            return case.right(await pipeline.ask(case.question, prompt, cached=cached))

    side_by_side = asyncio.Semaphore(4)
    return await asyncio.gather(*map(one, cases))


def passes(candidate: list[bool], production: list[bool], may_lose: int) -> bool:
    """Whether the candidate is right on at most `may_lose` cases fewer than what is in production."""
    return sum(candidate) >= sum(production) - may_lose
