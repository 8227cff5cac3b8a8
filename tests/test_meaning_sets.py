"""The labelled pairs and triplets on meaning: balanced, apart, and hard for a comparison of words."""

import re

import pytest

from utils import data


def overlap(one: str, other: str) -> float:
    """Jaccard index of the words; of the characters where the script has no spaces."""
    pattern = r"\w+" if one.isascii() else r"\w"
    a, b = (set(re.findall(pattern, text.lower())) for text in (one, other))
    return len(a & b) / len(a | b)


KINDS = ["reworded", "in other words", "near miss", "unrelated"]


def test_halves_are_balanced_and_share_no_question():
    halves = {split: data.question_pairs(split) for split in ("dev", "test")}
    for kinds in halves.values():
        assert list(kinds) == KINDS
        pairs = [pair for rows in kinds.values() for pair in rows]
        assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 120
        assert all(len(rows) == 30 for rows in kinds.values())
        assert all(one != other for one, other in pairs)
    asked = [
        {q for rows in kinds.values() for pair in rows for q in pair} for kinds in halves.values()
    ]
    assert not asked[0] & asked[1]
    with pytest.raises(ValueError, match="dev"):
        data.question_pairs("train")


def test_kinds_are_what_they_are_called():
    for split in ("dev", "test"):
        pairs = data.question_pairs(split)
        shared = {kind: sum(overlap(*pair) for pair in pairs[kind]) / 30 for kind in KINDS}
        assert min(shared["reworded"], shared["near miss"]) > 0.3
        assert max(shared["in other words"], shared["unrelated"]) < 0.2
        for one, other in pairs["unrelated"]:  # both come from duplicates, but not of each other
            assert (one, other) not in pairs["in other words"]


def test_triplets_are_hard_for_words():
    triplets = data.meaning_triplets()
    assert list(triplets) == ["negation", "numbers", "who does what", "Chinese"]
    for kind, rows in triplets.items():
        assert len(rows) == len(set(rows)) == 20
        for anchor, same, different in rows:
            assert len({anchor, same, different}) == 3
            assert overlap(anchor, different) > overlap(anchor, same), f"{kind}: {anchor}"
            assert anchor.isascii() == (kind != "Chinese")
