"""The labelled answers: complete, balanced, the halves apart, and the altered ones altered in one place."""

import difflib
from collections import Counter

import pytest

from utils import data

ROWS = data.answer_labels()
LABELS = ("faithful", "relevant", "correct", "sufficient")
SOURCES = {"gold", "best", "wrong", "closed book", "unanswerable", "altered"}
UNALTERED = [row for row in ROWS if row.source != "altered"]


def test_rows_are_complete():
    assert (
        len(ROWS)
        == len({row.id for row in ROWS})
        == len({(row.question, row.passage, row.answer) for row in ROWS})
    )
    for row in ROWS:
        assert row.split in ("dev", "test") and row.source in SOURCES
        assert (
            row.question.strip()
            and row.passage.strip()
            and row.answer.strip()
            and row.writer
            and row.style
        )
        assert all(type(getattr(row, label)) is bool for label in LABELS)
        assert (row.question_id is None) == (row.source == "unanswerable")
        assert bool(row.original) == (row.source == "altered")


def test_halves_share_no_question():
    dev, test = (data.answer_labels(split) for split in ("dev", "test"))
    assert len(dev) + len(test) == len(ROWS) >= 120
    assert not {row.question for row in dev} & {row.question for row in test}
    with pytest.raises(ValueError, match="split"):
        data.answer_labels("train")


@pytest.mark.parametrize("label", LABELS)
def test_every_label_has_both_values_often_enough(label):
    counts = Counter(getattr(row, label) for row in UNALTERED)
    assert min(counts[True], counts[False]) >= 25, counts
    for split in ("dev", "test"):
        half = Counter(getattr(row, label) for row in UNALTERED if row.split == split)
        assert min(half[True], half[False]) >= 15, half


def test_the_guideline_names_every_label():
    assert set(data.labelling_guideline()) == set(LABELS)


def test_a_quotation_stands_in_its_passage():
    quoted = [row for row in ROWS if row.style == "quoted"]
    assert len(quoted) == 22
    for row in quoted:
        assert row.answer in row.passage and row.faithful, row.id


def test_an_altered_answer_differs_in_one_place_and_is_unfaithful():
    altered = [row for row in ROWS if row.source == "altered"]
    assert len(altered) == 16
    for row in altered:
        assert row.original in row.passage and row.answer not in row.passage, row.id
        assert row.sufficient and row.relevant and not row.faithful and not row.correct
        matcher = difflib.SequenceMatcher(
            None, row.original.split(), row.answer.split(), autojunk=False
        )
        changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
        assert len(changes) <= 2 and sum(c[2] - c[1] + c[4] - c[3] for c in changes) <= 5, (
            row.id,
            changes,
        )


def test_questions_are_those_of_the_book():
    known = {question.id: question for question in data.python_questions()}
    foreign = {*data.unanswerable_questions("near"), *data.unanswerable_questions("off")}
    for row in ROWS:
        if row.source == "unanswerable":
            assert row.question in foreign and not row.sufficient
        elif row.question_id in known:  # another Python may word its documentation otherwise
            assert (row.question, row.split) == (
                known[row.question_id].question,
                known[row.question_id].split,
            )


def test_thirty_were_read_twice():
    twice = [row for row in ROWS if row.second]
    assert len(twice) == 30 and all(set(row.second) == set(LABELS) for row in twice)
    assert {row.split for row in twice} == {"dev", "test"}
    agreement = [row.second[label] == getattr(row, label) for row in twice for label in LABELS]
    assert sum(agreement) / len(agreement) > 0.8
