"""The fixed reader of chapter 2: retrieval techniques are compared by what one and the same reader makes of them.

Recipe 2.1 builds it, 2.8 asks how far its measures may be trusted.
"""

import re
from collections.abc import Sequence

INSTRUCTION = "You answer questions from a passage. Copy the one sentence of the passage that answers the question, word for word."
MAX_NEW_TOKENS = 40

# Techniques of one recipe mostly find the same best passage
_known: dict[tuple[str, str], str] = {}


def prompt(question: str, passage: str) -> list[dict[str, str]]:
    """The chat that the reader is sent."""
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"Passage: {passage}\n\nQuestion: {question}"},
    ]


def read(questions: Sequence[str], passages: Sequence[str]) -> list[str]:
    """The chat model's answers, each in its own words from one passage, greedily, cut after 40 tokens.

    Args:
        questions: as many as passages.
        passages: for each question the passage found for it.
    """
    from utils import llm

    pairs = list(zip(questions, passages, strict=True))
    new = [pair for pair in dict.fromkeys(pairs) if pair not in _known]
    if new:
        answers = llm.chat_batch(
            [prompt(*pair) for pair in new], max_new_tokens=MAX_NEW_TOKENS, batch_size=32
        )
        _known.update(zip(new, answers, strict=True))
    return [_known[pair] for pair in pairs]


_FUNCTION_WORDS = frozenset(
    "a an and any are as at be been being but by can could did do does for from had has have how i if in into is it "
    "its may might must no not of on or shall should so such than that the their them then there these they this "
    "those to was we were what when where which who why will with would you your".split()
)


def groundedness(answer: str, passage: str) -> float:
    """Share of the answer's words that stand in the passage, function words left out: between 0 and 1.

    A rule, not a judge: what it sees is words that the passage does not have. 1 for an answer without
    such words, as an empty one.
    """
    words = [w for w in re.findall(r"\w+", answer.lower()) if w not in _FUNCTION_WORDS]
    there = {_stem(w) for w in re.findall(r"\w+", passage.lower())}
    return sum(_stem(w) in there for w in words) / len(words) if words else 1.0


def _stem(word: str) -> str:
    """Enough of one: plurals and verb endings."""
    return re.sub(r"(?<=\w{3})(?:ing|ed|es|s)$", "", word)
