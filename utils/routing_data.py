"""Requests to an assistant, labelled by what should become of them: documents, tools, template or human.

For recipe 4.5. The questions about documents are those of `utils.data` (English ones), the held-out tool
tasks those of `utils.tool_data`; what they lack is written for this book in `datasets/routing.toml`
(CC BY 4.0). No request stands in two splits, and the test split shares no phrasing with the others.
"""

import functools
import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils import data, tool_data

ROUTES = ("documents", "tools", "template", "human")


@dataclass(frozen=True)
class Request:
    """What a user writes, and what is right.

    Attributes:
        text: the request.
        route: one of `ROUTES`. A question near the documents that they do not answer belongs to
            "documents" too: it takes a search to find that out.
        question: with gold passages and accepted answers, where the documents answer it.
        task: of `tool_data`, where the request was drawn from there.
        reply: name of the fixed reply, for "template".
    """

    text: str
    route: str
    question: data.Question | None = None
    task: tool_data.Task | None = None
    reply: str | None = None

    @property
    def answerable(self) -> bool:
        """Whether the assistant can do it; otherwise the right end is a person."""
        return bool(self.question or self.task or self.reply)


@functools.cache
def _texts() -> dict:
    return tomllib.loads(
        (Path(__file__).parent / "datasets" / "routing.toml").read_text(encoding="utf-8")
    )


def replies() -> dict[str, str]:
    """Name to text of the fixed replies."""
    return dict(_texts()["replies"])


def requests(split: str, seed: int = 0, tools: int = 30) -> list[Request]:
    """All requests of a split, route by route.

    "train" (27 documents, 28 tools, 25 template, 28 human) and "dev" (58, 12 of them unanswerable; 15, 15, 15)
    are for fitting and for choosing; their tool requests carry no task. "test" holds 46 answerable and 11
    unanswerable questions, `tools` held-out tasks drawn by `seed`, 20 template and 20 human.

    Raises:
        ValueError: no such split.
    """
    sources: dict[str, Callable[[], list[Request]]] = {
        "train": lambda: _questions(data.business_questions("dev")),
        "dev": lambda: _dialogues("dev"),
        "test": lambda: _dialogues("test"),
    }
    if split not in sources:
        raise ValueError(f"no split {split!r}: choose from {', '.join(sources)}")
    texts = _texts()
    if split == "test":
        jobs = [Request(task.user, "tools", task=task) for task in tool_data.tasks(seed, tools)]
    else:
        jobs = [Request(text, "tools") for text in texts["tools"][split]]
    template = [Request(text, "template", reply=reply) for reply, text in texts["template"][split]]
    return [
        *sources[split](),
        *jobs,
        *template,
        *(Request(text, "human") for text in texts["human"][split]),
    ]


def sample(requests: list[Request], seed: int = 0, **counts: int) -> list[Request]:
    """So many of each kind, drawn by seed and in random order.

    The kinds are the routes, with "unanswerable" for the questions that the documents do not answer.
    """
    rng, drawn = random.Random(f"routing {seed}"), []
    for kind, count in counts.items():
        drawn += rng.sample([request for request in requests if kind_of(request) == kind], count)
    return rng.sample(drawn, len(drawn))


def kind_of(request: Request) -> str:
    """The route, or "unanswerable"."""
    return (
        "unanswerable" if request.route == "documents" and not request.question else request.route
    )


def _questions(questions: list[data.Question]) -> list[Request]:
    return [Request(q.question, "documents", question=q) for q in questions if q.question.isascii()]


def _dialogues(split: str) -> list[Request]:
    """The turns of the chats, each as a question that stands alone, and questions without an answer."""
    turns = [turn for chat in data.dialogues(split) for turn in chat if turn.standalone.isascii()]
    lost = [
        Request(text, "documents") for text in data.business_unanswerable(split) if text.isascii()
    ]
    return [
        *(Request(turn.standalone, "documents", question=turn.question) for turn in turns),
        *lost,
    ]
