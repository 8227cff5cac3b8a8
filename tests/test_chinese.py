"""The Chinese pages and words are in step with the English ones."""

import json
import shutil

import pytest

from utils.book import BookError, chinese, discover
from utils.book.__main__ import main


def test_every_recipe_has_its_words_in_step(capsys):
    assert main(["chinese"]) == 0, capsys.readouterr().out


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A copy of two recipes with their words, both confirmed."""
    numbers = ("1.1", "1.2")
    recipes = {recipe.number: recipe for recipe in discover.recipes()}
    (tmp_path / "docs").mkdir()
    (tmp_path / "01_foundations").mkdir()
    for number in numbers:
        shutil.copy(recipes[number].path, tmp_path / "01_foundations")
    words = chinese.read()
    lines = [
        f'["{number}"]\n'
        + "".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
            for key, value in words[number].items()
        )
        for number in numbers
    ]
    (tmp_path / "docs" / "zh.toml").write_text("\n".join(lines), encoding="utf-8")
    shutil.copy(discover.ROOT / "docs" / "book.toml", tmp_path / "docs")
    monkeypatch.setattr(discover, "ROOT", tmp_path)
    assert main(["chinese"]) == 0
    return tmp_path


def test_a_change_in_english_alone_is_noticed(book, capsys):
    path = book / "01_foundations" / "02_tokenization.ipynb"
    path.write_text(
        path.read_text(encoding="utf-8").replace("You pay by the token", "You pay by the word"),
        encoding="utf-8",
    )
    assert main(["chinese"]) == 1
    assert "1.2: English or Chinese changed alone" in capsys.readouterr().out
    assert main(["chinese", "--confirm", "1.2"]) == 0


def test_a_change_in_chinese_alone_is_noticed(book, capsys):
    path = book / "docs" / "zh.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("悄悄消失", "消失"), encoding="utf-8")
    assert main(["chinese"]) == 1
    assert "1.2: English or Chinese changed alone" in capsys.readouterr().out


def test_a_recipe_without_words_and_words_without_a_recipe_are_named(book, capsys):
    (book / "01_foundations" / "02_tokenization.ipynb").rename(
        book / "01_foundations" / "03_tokenization.ipynb"
    )
    assert main(["chinese"]) == 1
    said = capsys.readouterr().out
    assert "has nothing for 1.3" in said and "has 1.2, which the book does not have" in said
    with pytest.raises(BookError, match="1.3 is not"):
        chinese.confirm(["1.3"])
