"""The chapter's leaderboard: rows are kept while they say the same, and compared in pairs."""

import json

import numpy as np
import pytest

from utils import data, leaderboard, reader
from utils.book import discover
from utils.book.__main__ import main

NAMES = [f"py{i:03}" for i in range(50)]


def question(name: str) -> data.Question:
    return data.Question(name, "test", "phrase", f"{name}?", ("yes",), (), (), ("yes",))


QUESTIONS = [question(name) for name in NAMES]
GOLD = [[0]] * 50
FOUND, MISSED = list(range(10)), list(range(1, 11))  # passage 0 is gold everywhere
PASSAGES = [f"passage {i} says yes" for i in range(11)]


@pytest.fixture(autouse=True)
def a_reader_of_few_words(monkeypatch):
    """The chat model has tests of its own: here it is a function of question and passage."""
    monkeypatch.setattr(
        leaderboard.reader, "read", lambda asked, texts: [text.split(" says ")[1] for text in texts]
    )


def add(path, technique="BM25", share=0.5, **changed):
    ranked = [FOUND if i < share * 50 else MISSED for i in range(50)]
    row = {
        "questions": QUESTIONS,
        "gold": GOLD,
        "ranked": ranked,
        "passages": PASSAGES,
        "milliseconds": 1.23,
    }
    return leaderboard.enter(technique, "02_rag/02", path=path, **{**row, **changed})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leaderboard.json"


def test_what_is_scored(path):
    """Recall is the share of the gold passages among five, the rank that of the first one among ten."""
    gold = [[0], [4, 9], [10], [3]]
    add(path, questions=QUESTIONS[:4], gold=gold, ranked=[FOUND, FOUND, FOUND, []])
    (row,) = leaderboard.read(path)
    assert list(row["recall"].values()) == [1, 0.5, 0, 0]
    assert list(row["rank"].values()) == [1, 0.2, 0, 0]
    assert row["right"] == dict.fromkeys(NAMES[:3], 1.0), "nothing is read where nothing was found"
    assert row["grounded"] == dict.fromkeys(NAMES[:3], 1.0)


def test_only_paraphrased_questions_are_read(path):
    add(
        path,
        questions=[question("py001"), question("id001"), question("two01")],
        gold=GOLD[:3],
        ranked=[FOUND] * 3,
    )
    (row,) = leaderboard.read(path)
    assert set(row["right"]) == {"py001"} and set(row["recall"]) == {"py001", "id001", "two01"}
    assert list(leaderboard.by_kind(path).loc["BM25"]) == [1, 1, 1]


def test_a_second_run_leaves_the_file_as_it_is(path):
    assert add(path)
    before = path.read_bytes()
    assert not add(path, milliseconds=50.0), "timings alone are noise"
    assert not add(path, share=0.52), "so is one question of fifty"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"share": 0.6},
        {"ranked": [FOUND[::-1]] * 50},
        {"passages": [f"{text} yes yes yes yes" for text in PASSAGES]},
        {"answers": False},
        {"questions": QUESTIONS[1:], "gold": GOLD[1:], "ranked": [FOUND] * 49},
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


def test_a_recipe_shows_its_own_rows_beside_the_best(path):
    add(path, "best", 0.8)
    add(path, "worse", 0.4)
    rows = leaderboard.read(path)
    rows[1]["recipe"] = "02_rag/09"
    path.write_text(json.dumps(rows))
    assert list(leaderboard.table(path, recipe="02_rag/09").index) == ["best", "worse"]
    assert list(leaderboard.table(path, recipe="02_rag/07").index) == ["best"]


def test_pairs_are_matched_by_question_not_by_position(path):
    add(path, "one")
    ranked = [FOUND if i < 25 else MISSED for i in range(50)]
    add(path, "two", questions=QUESTIONS[::-1], ranked=ranked[::-1])
    assert leaderboard.table(path).loc["two", "behind the best"] == "+0.00 to +0.00"


def test_questions_without_gold_are_refused(path):
    with pytest.raises(ValueError, match="gold"):
        add(path, gold=[[]] * 50)
    with pytest.raises(ValueError, match="one length"):
        add(path, ranked=[FOUND])
    assert not path.exists()


def test_no_file_is_an_empty_table(path):
    assert leaderboard.table(path).empty


def test_the_page_says_what_the_file_says(path, tmp_path, monkeypatch, capsys):
    (tmp_path / "02_rag").mkdir()
    (tmp_path / "README.md").write_text("<!-- recipes -->\n<!-- /recipes -->\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nurls = {repository = "https://github.com/a/b"}\n'
    )
    monkeypatch.setattr(discover, "ROOT", tmp_path)
    rows, page = tmp_path / "02_rag" / "leaderboard.json", tmp_path / "02_rag" / "leaderboard.md"
    add(rows, "best", 0.8)
    assert main(["table", "--check"]) == 1 and not page.exists()
    assert "is not what leaderboard.json says" in capsys.readouterr().out
    assert main(["table"]) == main(["table", "--check"]) == 0
    assert (
        "| [best](02.ipynb) | 0.80 |" in page.read_text()
        and "| best | 0.80 | nan | nan |" in page.read_text()
    )
    assert (tmp_path / "docs" / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    add(rows, "worse", 0.4)
    assert main(["table", "--check"]) == 1


def test_the_committed_file_is_in_the_form_that_add_writes(tmp_path):
    rows = leaderboard.read()
    assert rows, "the chapter's recipes have written rows"
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert leaderboard.PATH.read_text(encoding="utf-8") == f"[\n{lines}\n]\n"
    assert [row["technique"] for row in rows] == sorted(row["technique"] for row in rows)
    for row in rows:
        assert (leaderboard.PATH.parents[1] / f"{row['recipe']}.ipynb").exists()
        for name in ("recall", "rank", "right", "grounded"):
            assert all(0 <= value <= 1 for value in row[name].values())
        assert np.isfinite([row["ms"], row["tokens"]]).all()


def test_groundedness_counts_the_words_that_the_passage_has():
    passage = "Raises IndexError if the list is empty or the index is out of range."
    assert reader.groundedness("It raises IndexError.", passage) == 1
    assert reader.groundedness("It raises KeyError.", passage) == 0.5
    assert reader.groundedness("The lists are empty.", passage) == 1, "plurals are the same word"
    assert reader.groundedness("Use numpy instead", passage) == 0
    assert reader.groundedness("", passage) == 1
