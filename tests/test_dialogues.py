"""The scripted chats: whole, answerable where they say so, and follow-ups that do need the chat."""

import re
from collections import Counter

import pytest

from utils import data

CHATS = data.dialogues()
TURNS = [turn for chat in CHATS for turn in chat]
DOCUMENTS = {document.id: document for document in data.business_documents()}
ANSWERABLE = [turn for turn in TURNS if turn.question]
KINDS = {
    "first": 20,
    "pronoun": 24,
    "ellipsis": 20,
    "correction": 8,
    "switch": 10,
    "return": 10,
    "unanswerable": 8,
}


def test_twenty_chats_of_five_turns():
    assert [len(chat) for chat in CHATS] == [5] * 20
    assert len({turn.id for turn in TURNS}) == 100
    assert [turn.id for turn in CHATS[0]] == [f"c01.{n}" for n in range(1, 6)]
    assert Counter(turn.kind for turn in TURNS) == KINDS


def test_the_halves_are_alike_and_share_nothing():
    dev, test = data.dialogues("dev"), data.dialogues("test")
    assert len(dev) == len(test) == 10 and dev + test == CHATS
    counts = [Counter(turn.kind for chat in half for turn in chat) for half in (dev, test)]
    assert counts[0] == counts[1]
    for chat in CHATS:
        assert len({turn.split for turn in chat}) == 1
    for field in (
        lambda turn: [turn.text.lower()],
        lambda turn: [turn.standalone],
        lambda turn: turn.question.gold if turn.question else [],
    ):
        one, other = (
            {value for chat in half for turn in chat for value in field(turn)}
            for half in (dev, test)
        )
        assert one and not one & other
    with pytest.raises(ValueError, match="split"):
        data.dialogues("train")


def test_only_what_follows_needs_to_be_made_standalone():
    for turn in TURNS:
        assert (turn.standalone == turn.text) == (turn.kind in ("first", "switch")), turn.id
    assert all([turn.kind for turn in chat].index("first") == 0 for chat in CHATS)
    for chat in CHATS:
        kinds = [turn.kind for turn in chat]
        assert "return" not in kinds or kinds.index("return") >= 3, (
            "there must be something to return to"
        )
    assert len({turn.standalone for turn in TURNS}) == 100


def test_what_is_typed_is_short_and_gives_no_hint():
    named = re.compile(
        r"\b(you asked|as mentioned|previous question|earlier question|see above)\b", re.IGNORECASE
    )
    for turn in TURNS:
        assert 2 <= len(turn.text.split()) <= 20 and len(turn.text) <= 100, turn.id
        assert len(turn.standalone.split()) <= 22 and not named.search(turn.text), turn.id
    length = {
        kind: sum(len(t.text.split()) for t in TURNS if t.kind == kind) / KINDS[kind]
        for kind in KINDS
    }
    assert length["ellipsis"] < length["pronoun"] < length["first"], (
        "an ellipsis leaves out the most"
    )


def test_the_evidence_stands_in_one_paragraph():
    for turn in ANSWERABLE:
        for gold in turn.question.gold:
            paragraphs = [
                " ".join(p.split()) for p in DOCUMENTS[gold.document_id].text.split("\n\n")
            ]
            assert sum(gold.evidence in paragraph for paragraph in paragraphs) == 1, (turn.id, gold)


def test_unanswerable_turns_have_no_label_and_the_others_have():
    assert {turn.id for turn in TURNS if turn.question is None} == {
        t.id for t in TURNS if t.kind == "unanswerable"
    }
    assert all(
        turn.question.id == turn.id and turn.question.split == turn.split for turn in ANSWERABLE
    )
    assert all(
        turn.question.question == turn.standalone and turn.question.about == turn.kind
        for turn in ANSWERABLE
    )


@pytest.mark.parametrize("turn", ANSWERABLE, ids=lambda turn: turn.id)
def test_the_gold_sentence_is_right_and_an_echo_is_not(turn):
    question = turn.question
    assert question.sentences and all(
        data.score_answer(question, sentence) for sentence in question.sentences
    )
    for text in (turn.text, turn.standalone):
        assert not any(re.search(pattern, text, re.IGNORECASE) for pattern in question.answers), (
            text
        )
    for answer in (
        turn.text,
        turn.standalone,
        "",
        "I do not know.",
        " ".join(map(str, range(1, 200))),
    ):
        assert not data.score_answer(question, answer)


def test_an_answer_to_another_turn_of_the_chat_is_mostly_wrong():
    """Neighbouring turns ask for different things: repeating the last answer earns little."""
    pairs = [
        (turn, other) for chat in CHATS for turn in chat for other in chat if turn is not other
    ]
    pairs = [(turn, other) for turn, other in pairs if turn.question and other.question]
    wrong = [
        not data.score_answer(turn.question, other.question.sentences[0]) for turn, other in pairs
    ]
    assert sum(wrong) / len(wrong) > 0.9


def test_the_questions_are_not_those_of_the_business_set():
    asked = {" ".join(re.findall(r"\w+", q.question.lower())) for q in data.business_questions()}
    asked |= {" ".join(re.findall(r"\w+", q.lower())) for q in data.business_unanswerable()}
    ours = {
        " ".join(re.findall(r"\w+", text.lower()))
        for turn in TURNS
        for text in (turn.text, turn.standalone)
    }
    assert not asked & ours


def test_evidence_that_the_documents_lack_is_refused(monkeypatch):
    row = {"kind": "first", "text": "x?", "form": "phrase", "answers": ["y"], "reject": []}
    broken = {
        "conversations": [
            {
                "id": "c99",
                "split": "dev",
                "turns": [row | {"gold": [["handbook#pay", "no such words"]]}],
            }
        ]
    }
    monkeypatch.setattr(data, "_rows", lambda name: broken)
    with pytest.raises(ValueError, match=r"c99\.1"):
        data.dialogues()
