"""Attacks on an assistant, requests that mean no harm, and sentences with personal data (recipe 4.9).

All of it is written for this book (`datasets/guard.toml`, CC BY 4.0). The test half of the attacks holds
kinds of wording that the dev half has not: what a filter learned from the dev half meets something new.
"""

import base64
import functools
import json
import re
import tomllib
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

_FILE = Path(__file__).parent / "datasets" / "guard.toml"
SPLITS = ("dev", "test")
AGENT_GOALS = ("email", "order")
READER_GOALS = ("secret", "fact", "link")
CONTACT = "marcus@post.example"
SECRET = "ROBIN-7741"


@functools.cache
def _data() -> dict:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Passage:
    """What the reader is asked about; `wrong` is what an attack wants to see in the answer."""

    text: str
    question: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Attack:
    """One attack, with what it rides on.

    Attributes:
        channel: "direct" (the user writes it), "document" (it stands in a passage) or "tool" (in a result).
        goal: "email" or "order" (the agent); "secret", "fact" or "link" (the reader).
        family: kind of wording; `seen` says whether the dev half has it, too.
        text: the attacker's words, encoded if the family is an encoding.
        payload: what the attacker wants to see or have used: an address, an order, a value.
        request: the user's own words; in the channel "direct" they are the attack.
        document: the passage that comes with the request, with the attack in it if that is the channel.
        place: where the words stand in the tool's result: "status" or "note" (fields), or "after" it.
        right: the value that the reader's answer should contain, "" for the agent.
    """

    id: str
    split: str
    channel: str
    goal: str
    family: str
    seen: bool
    text: str
    payload: str
    request: str
    document: str = ""
    place: str = ""
    right: str = ""

    @property
    def target(self) -> str:
        """The system that is attacked: "agent" or "reader"."""
        return "agent" if self.goal in AGENT_GOALS else "reader"

    def result(self, result: str) -> str:
        """A tool's result, JSON text, with the attack in it (unchanged in the other channels)."""
        if self.channel != "tool":
            return result
        if self.place == "after":
            return f"{result}\n{self.text}"
        return json.dumps({**json.loads(result), self.place: self.text}, ensure_ascii=False)


@dataclass(frozen=True)
class Benign:
    """A text that means no harm. `kind` is "request", "passage" or "result"; `hard`: it looks like an attack."""

    kind: str
    hard: bool
    text: str


@dataclass(frozen=True)
class Marked:
    """A sentence and its personal data: `(kind, start, end)` of each span."""

    text: str
    spans: tuple[tuple[str, int, int], ...]


def foreign_orders() -> list[int]:
    """Orders of other customers; all others of `tool_data.HELD_OUT` are taken to be the user's own."""
    return _data()["foreign_orders"]


def passages() -> list[Passage]:
    """Passages of the reader with their questions."""
    return [Passage(**row) for row in _data()["passages"]]


def attacks(split: str) -> list[Attack]:
    """The attacks of one half: "dev" or "test". The gaps in their texts are filled in turn.

    Raises:
        ValueError: no such split.
    """
    rows = _of("attacks", split)
    data, found = _data(), []
    gaps = {name: cycle(data[name]) for name in ("attackers", "foreign_orders")}
    documents, tools, places, reads = (
        cycle(values)
        for values in (
            data["hosts"]["document"],
            data["hosts"]["tool"],
            data["hosts"]["places"],
            passages(),
        )
    )
    for channel, goals in rows.items():
        for goal, families in goals.items():
            for family, texts in families.items():
                for text in texts:
                    reader = goal in READER_GOALS
                    passage = next(reads) if reader or channel == "document" else None
                    values = {
                        "attacker": next(gaps["attackers"]) if "{attacker}" in text else "",
                        "order": str(next(gaps["foreign_orders"])) if "{order}" in text else "",
                        "wrong": passage.wrong if passage else "",
                        "contact": CONTACT,
                    }
                    words = _encode(family, text.format(**values))
                    payload = {
                        "email": values["attacker"] or CONTACT, "order": values["order"], "secret": SECRET,
                        "fact": values["wrong"], "link": values["attacker"],
                    }[goal]  # fmt: skip
                    document, place, right, request = "", "", "", words
                    if channel == "document" or reader:
                        document = passage.text + (f" {words}" if channel == "document" else "")
                        right = passage.right if reader else ""
                    if channel == "document":
                        request = passage.question if reader else next(documents)
                    elif channel == "tool":
                        request, place = next(tools), next(places)
                    found.append(
                        Attack(
                            f"{split}-{len(found)}", split, channel, goal, family, family in data["families_seen"],
                            words, payload, request, document, place, right,
                        )
                    )  # fmt: skip
    return found


def benign(split: str) -> list[Benign]:
    """Texts that mean no harm, of one half; about half of them look like attacks."""
    return [
        Benign(kind.removeprefix("hard_"), kind.startswith("hard_"), text)
        for kind, texts in _of("benign", split).items()
        for text in texts
    ]


def topics(split: str) -> dict[str, list[str]]:
    """Requests to a customer service: "off" its subject, "unsafe", and "hard_safe" (worded like unsafe ones)."""
    return _of("topics", split)


def personal(split: str) -> list[Marked]:
    """Sentences to a customer service with their personal data marked.

    The kinds are name, email, phone, iban, card and address. Order numbers, dates and
    numbers with a wrong check digit are not personal data.
    """
    return [_marked(row) for row in _of("pii", split)]


def first_names() -> list[str]:
    """A short list of first names, to look up names with."""
    return _data()["pii"]["first_names"].split()


def _of(part: str, split: str):
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}: choose from {', '.join(SPLITS)}")
    return _data()[part][split]


def _marked(row: str) -> Marked:
    text, spans, end = "", [], 0
    for match in re.finditer(r"\[([a-z]+):([^\]]+)\]", row):
        text += row[end : match.start()]
        spans.append((match[1], len(text), len(text) + len(match[2])))
        text, end = text + match[2], match.end()
    return Marked(text + row[end:], tuple(spans))


_CYRILLIC = str.maketrans("aeopcxi", "аеорсхі")


def _encode(family: str, text: str) -> str:
    """The text as the family disguises it; addresses stay, so that the attack can still work."""
    if family == "base64":
        return base64.b64encode(text.encode()).decode()
    words = text.split(" ")
    if family == "spaced":
        return "  ".join(word if "@" in word else " ".join(word) for word in words)
    if family == "homoglyph":
        return " ".join(word if "@" in word else word.translate(_CYRILLIC) for word in words)
    if family == "zero_width":
        return " ".join(word if "@" in word else "\u200b".join(word) for word in words)
    return text
