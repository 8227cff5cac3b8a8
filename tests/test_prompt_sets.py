"""The labelled sets of the prompt engineering recipe hold what it counts on."""

import re
from collections import Counter

import pytest

from utils import data


def test_intents_are_balanced_and_no_message_is_in_both_halves():
    pool, test = data.intents("pool"), data.intents("test")
    assert set(Counter(intent for _, intent in pool).values()) == {8}
    assert set(Counter(intent for _, intent in test).values()) == {12}
    assert len({message.lower() for message, _ in pool + test}) == 120
    assert {intent for _, intent in pool} == {intent for _, intent in test}


def test_most_messages_do_not_name_their_intent():
    named = [message for message, intent in data.intents("test") if intent in message.lower()]
    assert len(named) < 5


@pytest.mark.parametrize("seed", [0, 7])
def test_steps_of_word_problems_lead_to_the_answer(seed):
    problems = data.word_problems("test", 60, seed)
    assert len({problem.text for problem in problems}) == 60
    assert Counter(len(problem.steps) for problem in problems) == {1: 20, 2: 20, 3: 20}
    for problem in problems:
        numbers = re.findall(r"\d+", problem.text)
        value = numbers.pop(0)
        for step in problem.steps:
            left, result = step.split(" = ")
            assert left.split()[0] == value and left.split()[2] == numbers.pop(0)
            assert eval(left) == int(result) > 0
            value = result
        assert numbers == [] and int(value) == problem.answer


def test_word_problems_depend_on_the_seed_alone():
    assert data.word_problems("test", 9, 1) == data.word_problems("test", 9, 1)
    assert data.word_problems("test", 9, 1) != data.word_problems("test", 9, 2)


@pytest.mark.parametrize("load", [data.intents, lambda split: data.word_problems(split, 3)])
def test_an_unknown_split_is_refused(load):
    with pytest.raises(ValueError, match="split is"):
        load("train")
