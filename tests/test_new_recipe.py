"""A new recipe takes its place: later ones move up, and everything that names them follows."""

import subprocess

import nbformat
import pytest
from conftest import markdown, sample

from utils.book import discover, hygiene, new_recipe
from utils.book.__main__ import main

SECTIONS = [
    "The problem, seen failing",
    "Build it up",
    "Measure",
    "Claims",
    "The recipe in one cell",
    "When it breaks",
    "Exercises",
    "Where it comes from",
]

PYPROJECT = """\
[project]
dependencies = ["numpy", "pandas"]
optional-dependencies = {rag = [], agents = []}
urls = {repository = "https://github.com/owner/small-book"}
"""


@pytest.fixture
def small(book):
    """Four recipes in two chapters that refer to each other in every way that is mended."""
    (book.root / "pyproject.toml").write_text(PYPROJECT)
    for name, ending, needs in (
        (
            "02_rag/01_counting",
            "See [2.2 Chunking](02_chunking.ipynb) and [the same](./02_chunking.ipynb#a), as recipe "
            "2.2 says; 2.2 seconds.\n\nNext recipe: [2.2 Chunking](02_chunking.ipynb)",
            [],
        ),
        ("02_rag/02_chunking", "Previous: [2.1 Counting](01_counting.ipynb)", []),
        (
            "04_agents/01_loop",
            "Back to [chunks](../02_rag/02_chunking.ipynb), not [mine](02_chunking.ipynb).\n\n"
            "**Previous:** [2.2 Chunking](../02_rag/02_chunking.ipynb)",
            ["02_rag/02_chunking"],
        ),
        ("04_agents/02_chunking", "The end.", []),
    ):
        book.write(name, [*sample(), markdown(ending)], needs=needs)
    (book.root / "README.md").write_text(
        "Run `make run RECIPE=02_rag/02_chunking`, read [2.2 Chunking](02_rag/02_chunking.ipynb), "
        "not [4.2](04_agents/02_chunking.ipynb).\n\n<!-- recipes -->\n<!-- /recipes -->\n"
    )
    (book.root / "Makefile").write_text("FLAGSHIP := 02_rag/02_chunking\n")
    return book


def names() -> list[str]:
    return [recipe.name for recipe in discover.recipes()]


def ending(name: str) -> str:
    return discover.resolve(name)[0].read().cells[-1].source


def test_later_recipes_move_and_every_reference_follows(small):
    assert main(["new-recipe", "02_rag", "query_rewriting", "--at", "2"]) == 0
    assert names() == [
        "02_rag/01_counting",
        "02_rag/02_query_rewriting",
        "02_rag/03_chunking",
        "04_agents/01_loop",
        "04_agents/02_chunking",
    ]
    assert ending("02_rag/01_counting") == (
        "See [2.3 Chunking](03_chunking.ipynb) and [the same](./03_chunking.ipynb#a), as recipe "
        "2.3 says; 2.2 seconds.\n\nNext recipe: [2.2 Query rewriting](02_query_rewriting.ipynb)"
    )
    assert ending("02_rag/03_chunking") == (
        "Previous: [2.2 Query rewriting](02_query_rewriting.ipynb)"
    )
    assert ending("04_agents/01_loop") == (
        "Back to [chunks](../02_rag/03_chunking.ipynb), not [mine](02_chunking.ipynb).\n\n"
        "**Previous:** [2.3 Chunking](../02_rag/03_chunking.ipynb)"
    )
    assert discover.resolve("04_agents/01_loop")[0].meta["needs"] == ["02_rag/03_chunking"]
    readme = (small.root / "README.md").read_text()
    assert readme.startswith(
        "Run `make run RECIPE=02_rag/03_chunking`, read [2.3 Chunking](02_rag/03_chunking.ipynb), "
        "not [4.2](04_agents/02_chunking.ipynb).\n"
    )
    assert "| [2.2 Query rewriting](02_rag/02_query_rewriting.ipynb)" in readme
    assert (small.root / "Makefile").read_text() == "FLAGSHIP := 02_rag/03_chunking\n"
    for recipe in discover.recipes():
        assert not list(hygiene.check_links(recipe.read(), recipe))
        assert not list(hygiene.check_normalised(recipe.read(), recipe))
        assert recipe.read().cells[0].source.startswith(f"# {recipe.number} ")


@pytest.mark.parametrize(
    ("at", "expected", "neighbours"),
    [
        ("1", "02_rag/01_new", ["Next: [2.2 Counting](02_counting.ipynb)"]),
        (
            "3",
            "02_rag/03_new",
            [
                "Previous: [2.2 Counting](02_chunking.ipynb)",
                "Next: [4.1 Counting](../04_agents/01_loop.ipynb)",
            ],
        ),
    ],
)
def test_first_and_last_place_of_a_chapter(small, at, expected, neighbours):
    assert main(["new-recipe", "02_rag", "new", "--at", at]) == 0
    assert expected in names()
    assert ending(expected).split("\n\n")[2:] == neighbours


def test_numbers_that_trade_places_are_not_mended_twice(small):
    """After 01 -> 02 the text must not go on to 03 with those that were 02 before."""
    assert main(["new-recipe", "02_rag", "new", "--at", "1"]) == 0
    assert "[2.3 Chunking](03_chunking.ipynb)" in ending("02_rag/02_counting")
    assert ending("02_rag/03_chunking") == "Previous: [2.2 Counting](02_counting.ipynb)"


def test_git_sees_a_move_where_it_tracks_the_file(small):
    def git(*command: str) -> str:
        author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        run = subprocess.run(
            ["git", *author, *command], cwd=small.root, capture_output=True, text=True
        )
        return run.stdout

    git("init", "-q")
    git("add", "02_rag/02_chunking.ipynb")
    git("commit", "-q", "-m", "one")
    assert main(["new-recipe", "02_rag", "new", "--at", "1", "--title", "New things"]) == 0
    assert "02_rag/02_chunking.ipynb -> 02_rag/03_chunking.ipynb" in git("status", "--short")
    assert discover.resolve("02_rag/01_new")[0].title == "New things"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["rag", "x"], "not of the form 02_rag"),
        (["05_deployment", "x"], "an extra `deployment`"),
        (["02_rag", "Query-Rewriting"], "not of the form query_rewriting"),
        (["02_rag", "chunking"], "has a recipe chunking already"),
        (["02_rag", "x", "--at", "4"], "so 1 to 3"),
        (["02_rag", "x", "--at", "0"], "so 1 to 3"),
    ],
)
def test_what_cannot_be_placed_is_refused_and_nothing_moves(small, capsys, arguments, reason):
    before = names()
    assert main(["new-recipe", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert names() == before


def test_the_template_is_a_recipe_but_for_what_its_author_has_to_write(small):
    main(["new-recipe", "04_agents", "planning"])
    recipe = discover.resolve("04_agents/03")[0]
    nb = recipe.read()
    nbformat.validate(nb)
    headings = [
        line[3:] for cell in nb.cells for line in cell.source.splitlines() if line[:3] == "## "
    ]
    assert headings == SECTIONS
    problems = hygiene.problems(recipe)
    author_owes = ("words of prose", "execution counts", "claims cell")
    assert problems and all(any(owed in found for owed in author_owes) for found in problems), (
        problems
    )


def test_the_template_fails_until_it_claims_something():
    claims = discover.tagged(new_recipe.template("New"), "claims")[0]
    with pytest.raises(NotImplementedError):
        exec(claims.source, {})
