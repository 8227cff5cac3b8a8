"""The chapter's leaderboard: rows are kept while they say the same, and compared in pairs."""

import json

import numpy as np
import pytest

from utils import leaderboard

NAMES = [f"q{i:02}" for i in range(50)]


def add(path, technique="BM25", share=0.5, **changed):
    found = {name: float(i < share * 50) for i, name in enumerate(NAMES)}
    row = {"recall": found, "reciprocal_rank": found, "milliseconds": 1.23, "tokens": 200.4}
    return leaderboard.add(technique, "02_rag/02", path=path, **{**row, **changed})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leaderboard.json"


def test_a_second_run_leaves_the_file_as_it_is(path):
    assert add(path)
    before = path.read_bytes()
    assert not add(path, milliseconds=50.0), "timings alone are noise"
    near_tie = {name: float(i < 26) for i, name in enumerate(NAMES)}
    assert not add(path, recall=near_tie), "so is one question of fifty"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"recall": dict.fromkeys(NAMES, 0.6)},
        {"reciprocal_rank": dict.fromkeys(NAMES, 0.3)},
        {"tokens": 300},
        {key: dict.fromkeys(NAMES[1:], 0.5) for key in ("recall", "reciprocal_rank")},
    ],
)
def test_what_moved_is_written(path, changed):
    add(path)
    assert add(path, **changed)
    assert len(leaderboard.read(path)) == 1


def test_the_order_of_the_runs_does_not_matter(path, tmp_path):
    other = tmp_path / "other.json"
    for file, order in ((path, ("a", "b")), (other, ("b", "a"))):
        for technique in order:
            add(file, technique)
    assert path.read_bytes() == other.read_bytes()
    assert not list(tmp_path.glob("*.tmp")), "no unfinished file is left"


def test_the_best_stands_first_and_the_others_are_compared_in_pairs(path):
    add(path, "worse", 0.4)
    add(path, "best", 0.8)
    add(path, "hardly worse", 0.78)
    table = leaderboard.table(path)
    assert list(table.index) == ["best", "hardly worse", "worse"]
    assert table.loc["worse", "behind the best"].startswith("-0.5")
    assert table.loc["hardly worse", "behind the best"].endswith("+0.00")
    assert table.loc["best", "behind the best"] == ""


def test_pairs_are_matched_by_question_not_by_position(path):
    add(path, "one")
    found = {name: float(i < 25) for i, name in enumerate(NAMES)}
    backwards = dict(sorted(found.items(), reverse=True))
    add(path, "two", recall=backwards, reciprocal_rank=backwards)
    assert leaderboard.table(path).loc["two", "behind the best"] == "+0.00 to +0.00"


def test_measures_of_different_questions_are_refused(path):
    with pytest.raises(ValueError, match="same questions"):
        add(path, reciprocal_rank={"q00": 1.0})
    with pytest.raises(ValueError, match="between 0 and 1"):
        add(path, recall=dict.fromkeys(NAMES, 71.0))
    assert not path.exists()


def test_no_file_is_an_empty_table(path):
    assert leaderboard.table(path).empty


def test_the_committed_file_is_in_the_form_that_add_writes(tmp_path):
    rows = leaderboard.read()
    assert rows, "the chapter's recipes have written rows"
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert leaderboard.PATH.read_text(encoding="utf-8") == f"[\n{lines}\n]\n"
    assert [row["technique"] for row in rows] == sorted(row["technique"] for row in rows)
    for row in rows:
        assert (leaderboard.PATH.parents[1] / f"{row['recipe']}.ipynb").exists()
        assert all(0 <= value <= 1 for value in row["recall"].values())
        assert np.isfinite([row["mrr"], row["ms"], row["tokens"]]).all()
