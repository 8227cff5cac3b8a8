"""What made-up users tell an assistant over several sessions, and what they ask about it later.

For recipe 4.4. The sentences stand in `datasets/memory.toml`, written for this book (CC BY 4.0). A split
("train", "dev", "test") shares no wording with another, and "test" no value. Conversations are drawn by seed.
"""

import functools
import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLOTS = ("nickname", "city", "order", "allergy", "meeting", "phone", "employer", "pet")
# A second value is added; elsewhere it takes the place of the first
SEVERAL = frozenset({"allergy"})
ACCOUNTS = (
    "maria",
    "tom",
    "aisha",
    "lars",
    "chen",
    "olga",
    "pedro",
    "nina",
    "yusuf",
    "grace",
    "ivan",
    "lucia",
)


@dataclass(frozen=True)
class Example:
    """One sentence of a user.

    Attributes:
        text: the sentence.
        act: "state" a fact of the user's own, "forget" one, "ask" for one, or "other".
        slot: of `SLOTS`, or None. "other" has one where the sentence looks like a fact of that kind.
        value: as it stands in the text; for "state" and for "other" with a slot.
    """

    text: str
    act: str
    slot: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class Message(Example):
    """A sentence in its place."""

    user: str = ""
    session: int = 0
    id: int = 0  # counts over all users, in order of time


@dataclass(frozen=True)
class Question:
    """What a user asks after the last session.

    Attributes:
        kind: "current" (told once), "updated" (told again, with another value), "two" (two slots, told in two
            sessions), "note" (told once, fits no slot), "forgotten" (told, then taken back), "never" (not told).
        gold: what a right answer contains; empty where the right answer is "I don't know".
        stale: what the user said about it once, and what no longer holds.
    """

    user: str
    text: str
    kind: str
    slots: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


@functools.cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(
        (Path(__file__).parent / "datasets" / "memory.toml").read_text(encoding="utf-8")
    )


def attacks() -> list[str]:
    """Requests for another user's facts, with the fields {name} and {slot}."""
    return list(_texts()["attack"]["test"])


def examples(split: str, seed: int = 0, values: int = 3) -> list[Example]:
    """All sentences of a split, one by one, those with a value filled in with `values` different ones."""
    rng, texts, out = random.Random(f"examples {split} {seed}"), _texts(), []
    for slot in SLOTS:
        pool = texts["values"][slot][split]
        for act in ("state", "other"):
            for template in texts[act][slot][split]:
                for value in rng.sample(pool, min(values, len(pool))):
                    out.append(Example(template.format(v=value), act, slot, value))
        for act in ("forget", "ask"):
            out += [Example(text, act, slot) for text in texts[act][slot][split]]
    return out + [Example(text, "other") for text in texts["chatter"][split]]


def conversations(
    split: str, seed: int = 0, users: int = 8, sessions: int = 5
) -> tuple[list[Message], list[Question]]:
    """What the users said ("dev" or "test" wordings), in order of time, and nine questions to each.

    Of eight slots a user tells six; two of these are told again with another value, one is taken back. Between them
    stand sentences that state nothing of the user's own, chatter, and one or two notes.
    """
    # The first draw of "test" was in sight while the recipe was designed; it is drawn again.
    rng, texts = (
        random.Random(f"conversations {split} {seed}" + " again" * (split == "test")),
        _texts(),
    )
    notes, never = (
        rng.sample(texts["notes"][split], len(texts["notes"][split])),
        list(texts["never"][split]),
    )
    said: dict[tuple[int, int], list[Example]] = {}
    questions = []
    for u in range(users):
        own = [notes[u % len(notes)]] + ([notes[users + u]] if users + u < len(notes) else [])
        lines, asked = _one_user(
            rng, texts, split, ACCOUNTS[u], sessions, own, never[u % len(never)]
        )
        questions += asked
        for session, line in lines:
            said.setdefault((session, u), []).append(line)
    messages = []
    for (session, u), lines in sorted(said.items()):
        for line in lines:
            messages.append(
                Message(
                    line.text, line.act, line.slot, line.value, ACCOUNTS[u], session, len(messages)
                )
            )
    return messages, questions


def _one_user(
    rng, texts, split, user, sessions, notes, never
) -> tuple[list[tuple[int, Example]], list[Question]]:
    """One user's sentences, each with its session, and the questions to him."""
    told = rng.sample(SLOTS, 6)
    untold = [slot for slot in SLOTS if slot not in told]
    once, updated, forgotten = told[:3], told[3:5], told[5]
    early = [(rng.randrange(0, 2), slot) for slot in told]
    late = [(rng.randrange(2, sessions), slot) for slot in updated]
    lines, history = [], {slot: [] for slot in told}
    for session, slot in sorted(early) + sorted(late):
        value = rng.choice([v for v in texts["values"][slot][split] if v not in history[slot]])
        history[slot].append(value)
        lines.append(
            (
                session,
                Example(
                    _draw(rng, texts, "state", slot, split).format(v=value), "state", slot, value
                ),
            )
        )
    text = _draw(rng, texts, "forget", forgotten, split)
    lines.append((rng.randrange(2, sessions), Example(text, "forget", forgotten)))
    for slot in rng.sample(SLOTS, 5):
        pool = texts["values"][slot][split] + (
            texts["values"][slot]["train"] if split == "dev" else []
        )
        value = rng.choice([v for v in pool if v not in history.get(slot, [])])
        text = _draw(rng, texts, "other", slot, split).format(v=value)
        lines.append((rng.randrange(sessions), Example(text, "other", slot, value)))
    chatter = [
        text
        for text in texts["chatter"][split]
        if split == "test" or "?" not in text or " my " not in text
    ]
    lines += [
        (rng.randrange(sessions), Example(text, "other"))
        for text in rng.sample(chatter, min(8, len(chatter)))
    ]
    lines += [(rng.randrange(sessions - 1), Example(text, "other")) for text, _, _ in notes]
    # Within a session; the facts keep their order, since they are sessions apart
    rng.shuffle(lines)
    lines.sort(key=lambda line: line[0])

    def ask(kind: str, *slots: str) -> Question:
        parts = [_draw(rng, texts, "ask", slot, split) for slot in slots]
        text = (
            parts[0]
            if len(parts) == 1
            else parts[0].rstrip("?") + ", and " + parts[1][0].lower() + parts[1][1:]
        )
        gold, stale = [], []
        for slot in slots:
            values = history.get(slot, [])
            now = [] if slot == forgotten else values if slot in SEVERAL else values[-1:]
            gold, stale = gold + now, stale + [value for value in values if value not in now]
        return Question(user, text, kind, slots, tuple(gold), tuple(stale))

    questions = [ask("current", slot) for slot in rng.sample(once, 2)] + [
        ask("updated", slot) for slot in updated
    ]
    first = dict((slot, session) for session, slot in early)
    late_of = {slot: session for session, slot in late}
    pair = (rng.choice(once), rng.choice(updated))
    assert first[pair[0]] < late_of[pair[1]]
    questions += [ask("two", *pair), ask("forgotten", forgotten), ask("never", rng.choice(untold))]
    text, question, value = notes[0]
    questions += [Question(user, question, "note", (), (value,)), Question(user, never, "never")]
    return lines, questions


def _draw(rng: random.Random, texts: dict, act: str, slot: str, split: str) -> str:
    return rng.choice(texts[act][slot][split])


def state(messages: list[Message]) -> dict[tuple[str, str], list[str]]:
    """What holds after these messages: (user, slot) to values, by the labels."""
    facts: dict[tuple[str, str], list[str]] = {}
    for message in messages:
        key = (message.user, message.slot)
        if message.act == "forget":
            facts.pop(key, None)
        elif message.act == "state":
            facts[key] = (
                [*facts.get(key, []), message.value] if message.slot in SEVERAL else [message.value]
            )
    return facts


def contains(text: str, value: str) -> bool:
    """Whether the value stands in the text as words of its own, in upper or lower case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None
