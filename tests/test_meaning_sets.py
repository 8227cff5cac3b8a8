"""The labelled pairs and triplets on meaning: balanced, apart, and hard for a comparison of words."""

import re

import pytest

from utils import data


def overlap(one: str, other: str) -> float:
    """Jaccard index of the words; of the characters where the script has no spaces."""
    pattern = r"\w+" if one.isascii() else r"\w"
    a, b = (set(re.findall(pattern, text.lower())) for text in (one, other))
    return len(a & b) / len(a | b)


def test_halves_are_balanced_and_share_no_question():
    halves = {split: data.question_pairs(split) for split in ("dev", "test")}
    for pairs in halves.values():
        assert len(pairs) == len({(one, other) for one, other, _ in pairs}) == 60
        assert sum(duplicate for *_, duplicate in pairs) == 30
        assert all(one != other for one, other, _ in pairs)
    asked = [{text for one, other, _ in pairs for text in (one, other)} for pairs in halves.values()]
    assert not asked[0] & asked[1]
    with pytest.raises(ValueError, match="dev"):
        data.question_pairs("train")


def test_near_misses_share_more_words_than_duplicates():
    for split in ("dev", "test"):
        pairs = data.question_pairs(split)
        shared = {kind: [overlap(a, b) for a, b, same in pairs if same is kind] for kind in (True, False)}
        assert sum(shared[False]) / 30 > 2 * sum(shared[True]) / 30


def test_triplets_are_hard_for_words():
    triplets = data.meaning_triplets()
    assert list(triplets) == ["negation", "numbers", "who does what", "Chinese"]
    for kind, rows in triplets.items():
        assert len(rows) == len(set(rows)) == 20
        for anchor, same, different in rows:
            assert len({anchor, same, different}) == 3
            assert overlap(anchor, different) > overlap(anchor, same), f"{kind}: {anchor}"
            assert anchor.isascii() == (kind != "Chinese")
