"""utils.memory_data: splits that share nothing, questions whose gold answer follows from the messages."""

import itertools
import re

import pytest

from utils import memory_data
from utils.memory_data import ACCOUNTS, SEVERAL, SLOTS, contains, conversations, examples, state

DRAWN = [(split, seed) for split in ("dev", "test") for seed in (0, 7)]


def words(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()


def test_no_wording_stands_in_two_splits():
    texts = memory_data._texts()
    seen = {split: [] for split in ("train", "dev", "test")}
    for act in ("state", "forget", "other", "ask"):
        for slot in SLOTS:
            for split in seen:
                seen[split] += [words(text) for text in texts[act][slot][split]]
    for split in seen:
        seen[split] += [words(text) for text in texts["chatter"][split]]
    everything = list(itertools.chain(*seen.values()))
    assert len(everything) == len(set(everything))


def test_no_value_of_the_test_split_stands_in_another():
    for slot, values in memory_data._texts()["values"].items():
        assert not set(values["test"]) & {*values["train"], *values["dev"]}, slot


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_values_stand_in_their_sentences(split):
    for example in examples(split):
        assert "{" not in example.text
        assert example.value is None or example.value in example.text
        assert (example.act == "state") <= (example.value is not None)


@pytest.mark.parametrize(("split", "seed"), DRAWN)
def test_gold_answers_follow_from_the_messages(split, seed):
    messages, questions = conversations(split, seed)
    facts = state(messages)
    for question in questions:
        now = [value for slot in question.slots for value in facts.get((question.user, slot), [])]
        if question.kind != "note":
            assert list(question.gold) == now, question
        ever = {
            m.value
            for m in messages
            if m.user == question.user and m.act == "state" and m.slot in question.slots
        }
        assert set(question.stale) == ever - set(now), question
        assert not set(question.stale) & set(question.gold)


@pytest.mark.parametrize(("split", "seed"), DRAWN)
def test_each_kind_is_what_it_says(split, seed):
    messages, questions = conversations(split, seed)
    assert len(questions) == 72
    for question in questions:
        mine = [m for m in messages if m.user == question.user]
        said = [m for m in mine if m.act == "state" and m.slot in question.slots]
        if question.kind == "updated":
            assert len(said) == 2
            assert bool(question.stale) == (question.slots[0] not in SEVERAL)
        elif question.kind == "two":
            assert len({m.session for m in said}) >= 2 and len(question.gold) >= 2
        elif question.kind == "forgotten":
            taken_back = next(m for m in mine if m.act == "forget")
            assert said[0].session < taken_back.session and question.stale and not question.gold
        elif question.kind == "never":
            assert not said and not question.gold
        elif question.kind == "note":
            assert sum(contains(m.text, question.gold[0]) and m.act == "other" for m in mine) >= 1


def test_time_runs_forward_and_the_same_seed_gives_the_same():
    messages, _ = conversations("test", 3)
    assert [m.id for m in messages] == list(range(len(messages)))
    assert [m.session for m in messages] == sorted(m.session for m in messages)
    assert {m.user for m in messages} == set(ACCOUNTS[:8])
    assert conversations("test", 3) == conversations("test", 3) != conversations("test", 4)


def test_contains_wants_whole_words():
    assert contains("I live in BERGEN.", "Bergen")
    assert not contains("Mayor of the town", "May")
