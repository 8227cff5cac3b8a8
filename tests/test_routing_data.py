"""The labelled requests of recipe 4.5: splits, labels, and that no sentence stands twice."""

import re
from collections import Counter

import pytest

from utils import routing_data
from utils.routing_data import ROUTES, kind_of, replies, requests, sample


def words(text):
    return frozenset(re.findall(r"\w+", text.lower()))


@pytest.fixture(scope="module")
def splits():
    return {split: requests(split) for split in ("train", "dev", "test")}


def test_counts_are_those_of_the_docstring(splits):
    counts = {split: Counter(map(kind_of, rows)) for split, rows in splits.items()}
    assert counts["train"] == {"documents": 27, "tools": 28, "template": 25, "human": 28}
    assert counts["dev"] == {
        "documents": 46,
        "unanswerable": 12,
        "tools": 15,
        "template": 15,
        "human": 15,
    }
    assert counts["test"] == {
        "documents": 46,
        "unanswerable": 11,
        "tools": 30,
        "template": 20,
        "human": 20,
    }


def test_every_request_says_what_is_right(splits):
    names = set(replies())
    for split, rows in splits.items():
        for row in rows:
            assert row.text.strip() == row.text and row.route in ROUTES
            assert (row.reply in names) == (row.route == "template")
            assert bool(row.task) == (row.route == "tools" and split == "test")
            assert not (row.question and row.route != "documents")
    assert not any(row.answerable for row in splits["test"] if row.route == "human")


def test_no_sentence_of_the_test_split_is_known(splits):
    """None stands in two splits, nor does one share four fifths of its words with another split's."""
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        for a in splits[one]:
            for b in splits[other]:
                mine, theirs = words(a.text), words(b.text)
                assert len(mine & theirs) < 0.8 * len(mine | theirs), (a.text, b.text)


def test_the_seed_draws_tasks_and_samples(splits):
    other = requests("test", seed=7)
    assert [r.text for r in other if r.task] != [r.text for r in splits["test"] if r.task]
    assert [r.text for r in other if not r.task] == [r.text for r in splits["test"] if not r.task]
    drawn = sample(splits["test"], 3, documents=4, unanswerable=2, tools=3, human=1)
    assert Counter(map(kind_of, drawn)) == {
        "documents": 4,
        "unanswerable": 2,
        "tools": 3,
        "human": 1,
    }
    assert drawn == sample(splits["test"], 3, documents=4, unanswerable=2, tools=3, human=1)
    assert drawn != sample(splits["test"], 4, documents=4, unanswerable=2, tools=3, human=1)


def test_unknown_split():
    with pytest.raises(ValueError, match="no split 'all'"):
        routing_data.requests("all")
