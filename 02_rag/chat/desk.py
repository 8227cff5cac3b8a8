"""The help desk without its page: search, answer, check the citation, keep the thumbs. Knows nothing of Gradio."""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import openai

from utils import data, embedding, llm, reader

HISTORY = 3  # earlier user turns that a question may draw on
MAX_CHARS = 500  # of a question
PASSAGES = 3  # shown as the nearest ones; the best is read
MIN_COSINE = 0.35  # of the best passage: questions off the subject stay below, those near it do not
MAX_TOKENS = 160  # the longest sentence of the corpus, and its JSON
NAMED = re.compile(
    r"((?:[A-Z&][\w&]* )+Ltd)\b[^\"]*\"(Party [AB])\""
)  # ... Ltd, a street ("Party A")
OPENING = re.compile(
    r"^(and|but|or|so|then|also|what about|how about|what if|why not)\b|^\W*[a-z-]+\W*$|呢\W*$",
    re.IGNORECASE,
)
POINTER = re.compile(
    r"\b(it|its|they|them|their|this|these|those|he|him|his|she|her|the same|the other)\b"
    r"|\b(that|there|then|one)\s*[?.!,]*$|[它这那]",
    re.IGNORECASE,
)
NAME = re.compile(r"(?<=\s)[A-Z]\w|\d")  # behind one, "it" mostly means what was named


@dataclass(frozen=True)
class Passage:
    """A few sentences of one section."""

    id: str  # "handbook#sick-pay/0"
    document: str  # the title of the file
    section: str
    text: str
    sentences: tuple[str, ...]  # and rows of tables


@dataclass
class Turn:
    """A question and what became of it. Without `answer` nothing was found, or there was an `error`."""

    question: str  # as typed
    standalone: str
    passages: list[Passage] = field(default_factory=list)  # best first
    draft: str = ""  # what the model has written so far
    answer: str = ""  # the draft, once it is known to stand in the best passage
    error: str = ""
    done: bool = False


@dataclass
class Conversation:
    """One browser tab's."""

    id: str = field(default_factory=lambda: uuid4().hex)
    turns: list[Turn] = field(default_factory=list)


def depends(turn: str) -> bool:
    """Whether a turn leans on earlier ones, by its words."""
    pointer = POINTER.search(turn)
    return bool(OPENING.search(turn) or pointer and not NAME.search(turn[: pointer.start()]))


def standalone(history: Sequence[str], turn: str) -> str:
    """The question as it can be searched: behind the earlier user turns that it leans on, if it does."""
    turns = [turn]
    for earlier in reversed(history[-HISTORY:]):
        if not depends(turns[0]):
            break
        turns.insert(0, earlier)
    return " ".join(turns)


def problem(question: str) -> str:
    """Why this cannot be asked; empty if it can."""
    if not question.strip():
        return "Please type a question first."
    if len(question) > MAX_CHARS:
        return f"Please ask in at most {MAX_CHARS} characters: this has {len(question):,}."
    return ""


def passages(documents: Sequence[data.Document]) -> tuple[list[Passage], list[str]]:
    """Section-aware chunks, and what is embedded for each: its context in front of it (recipe 2.4)."""
    found, embedded, named = [], [], {}
    for document in documents:
        title, *above = document.section.split(" > ")
        named.setdefault(
            title, [f"{party} is {name}" for name, party in NAMED.findall(document.text)]
        )
        context = f"{title} ({', '.join(named[title])})" if named[title] else title
        for number, text in enumerate(data.split_passages(document.text)):
            own = tuple(sentence for sentence in data.sentences(document.text) if sentence in text)
            found.append(Passage(f"{document.id}/{number}", title, document.title, text, own))
            embedded.append(f"{' > '.join([context, *above, document.title])}. {text}")
    return found, embedded


def written(raw: str) -> str:
    """The answer in what has arrived of `{"answer": "..."}`; a server without JSON schemas writes it plainly."""
    if not raw.lstrip().startswith("{"):
        return raw.strip()
    begun = re.match(r'\s*\{\s*"answer"\s*:\s*"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)', raw)
    return json.loads(f'"{begun[1]}"') if begun else ""


def stands_in(answer: str, passage: Passage) -> bool:
    """Whether the answer is word for word in the passage: the check behind every citation."""
    words, there = " ".join(answer.split()), " ".join(passage.text.split())
    return bool(words) and words in there


class Desk:
    """Answers from the documents. Any number of threads may ask at once."""

    def __init__(self, documents: Sequence[data.Document]):
        self.endpoint = llm.serve()
        self.client = openai.OpenAI(
            base_url=self.endpoint.base_url,
            api_key=self.endpoint.api_key,
            timeout=60,
            max_retries=1,
        )
        self.documents = list(documents)
        self.passages, embedded = passages(documents)
        self.vectors = embedding.embed_corpus(embedded)

    def search(self, question: str) -> tuple[list[Passage], float]:
        """The nearest passages, and the cosine of the best."""
        cosines = self.vectors @ llm.embed([question])[0]
        best = np.argsort(-cosines, kind="stable")[:PASSAGES]
        return [self.passages[i] for i in best], float(cosines[best[0]])

    def write(self, question: str, passage: Passage) -> Iterator[str]:
        """The answer as it grows: one sentence of the passage, which the JSON schema holds the model to."""
        raw, reason = "", None
        with self.client.chat.completions.create(
            model=self.endpoint.model,
            messages=reader.prompt(question, passage.text),
            response_format=llm.one_of(passage.sentences),
            max_tokens=MAX_TOKENS,
            temperature=0,
            stream=True,
        ) as chunks:
            for chunk in chunks:
                for choice in chunk.choices:
                    raw, reason = raw + (choice.delta.content or ""), choice.finish_reason or reason
                    yield written(raw)
        if reason != "stop":
            yield ""  # cut off, and half a sentence is no answer

    def ask(self, conversation: Conversation, question: str) -> Iterator[Turn]:
        """Adds a turn to the conversation, and yields it again whenever it has grown."""
        history = [turn.question for turn in conversation.turns]
        turn = Turn(question, standalone(history, question))
        conversation.turns.append(turn)
        turn.passages, cosine = self.search(turn.standalone)
        drafts = self.write(turn.standalone, turn.passages[0]) if cosine >= MIN_COSINE else ()
        try:
            for draft in drafts:
                turn.draft = draft
                yield turn
        except openai.OpenAIError:  # its words may quote the question, and are for the operator
            turn.error = "The model does not answer. Please ask again in a moment."
        else:
            turn.answer = turn.draft if stands_in(turn.draft, turn.passages[0]) else ""
        turn.done = True
        yield turn


class Feedback:
    """Thumbs in an SQLite file: one row for each turn that has one, the last thumb counts."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # people's questions
        self.path = path
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS feedback (conversation TEXT, turn INTEGER, question TEXT, "
                "standalone TEXT, passages TEXT, answer TEXT, thumb TEXT, time TEXT, "
                "PRIMARY KEY (conversation, turn))"
            )

    def save(self, conversation: Conversation, number: int, thumb: str | None) -> None:
        """Put "up" or "down" on a turn, in place of what was there; None takes it back."""
        turn = conversation.turns[number]
        ids = json.dumps([passage.id for passage in turn.passages], ensure_ascii=False)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        row = (
            conversation.id,
            number,
            turn.question,
            turn.standalone,
            ids,
            turn.answer,
            thumb,
            time,
        )
        with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
            db.execute("DELETE FROM feedback WHERE conversation = ? AND turn = ?", row[:2])
            if thumb:
                db.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
