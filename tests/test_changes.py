"""utils/book/changes.py, in a repository made for each test; and `run --within`, which uses it."""

import json
import os
import subprocess

import pytest
from conftest import code, markdown

from utils.book import changes, discover, execute, replay


def git(*arguments, at="2026-01-01T12:00:00Z"):
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
    names = ("-c", "user.name=A", "-c", "user.email=a@mail.example", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", *names, *arguments], cwd=discover.ROOT, env=os.environ | dates, check=True
    )


def commit(at):
    git("add", "-A")
    git("commit", "-q", "-m", "x", at=at)


@pytest.fixture
def history(book):
    """Four recipes: one old, one whose text and number changed, one whose code changed, one that uses a changed module."""
    for name, line in (("01_old", "1"), ("02_moved", "2"), ("03_new", "3")):
        book.write(f"02_rag/{name}", [markdown("# A"), code(line)])
    book.write("02_rag/04_uses", [markdown("# A"), code("from utils import data, llm")])
    (book.root / "utils").mkdir(exist_ok=True)
    (book.root / "utils" / "llm.py").write_text("")
    git("init", "-q")
    commit("2026-01-01T00:00:00Z")
    (book.root / "02_rag/02_moved.ipynb").unlink()
    book.write("02_rag/05_moved", [markdown("# Another title"), code("2")])
    book.write("02_rag/03_new", [markdown("# A"), code("3 + 3")])
    commit("2026-01-01T10:00:00Z")
    (book.root / "utils" / "llm.py").write_text("x = 1\n")
    commit("2026-01-01T12:00:00Z")
    return book


def names(recipes):
    return [recipe.path.stem for recipe in recipes]


def test_new_code_comes_first_then_changed_modules(history):
    new, others = changes.in_order(discover.recipes())
    assert names(new) == ["03_new"]
    assert names(others)[0] == "04_uses"
    assert sorted(names(others)) == ["01_old", "04_uses", "05_moved"]
    assert changes.in_order(discover.recipes()) == (new, others), "the same commit, the same order"


def test_older_changes_are_not_new(history):
    (history.root / "notes.txt").write_text("later")
    commit("2026-01-02T12:00:00Z")
    new, others = changes.in_order(discover.recipes())
    assert not new and len(others) == 4


def test_without_history_nothing_is_new(book):
    book.write("02_rag/01_a", [markdown("# A"), code("1")])
    new, others = changes.in_order(discover.recipes())
    assert not new and names(others) == ["01_a"]


def test_within_leaves_out_what_does_not_fit_but_never_what_is_new(history, capsys):
    for path in history.root.glob("02_rag/*.ipynb"):
        notebook = json.loads(path.read_text())
        notebook["metadata"]["cookbook"]["measured"] = {"wall_seconds": 100}
        path.write_text(json.dumps(notebook))
    (history.root / "build").mkdir(exist_ok=True)
    results = execute.run(discover.recipes(), within=1)
    assert list(results) == ["02_rag/03_new"] and not results["02_rag/03_new"]["problem"]
    said = capsys.readouterr().out
    assert "left out" in said and "02_rag/01_old" in said
    assert [recipe.executed.exists() for recipe in discover.recipes()] == [
        False,
        True,
        False,
        False,
    ]


def test_compare_of_nothing_fails(history):
    import argparse

    assert replay.main(argparse.Namespace(recipe=None, executed=True)) == 1
