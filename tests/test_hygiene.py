"""Every committed recipe passes every check; and every check fails on a notebook that has what it looks for."""

import json

import pytest
from conftest import edit, executed, markdown, sample
from nbformat.v4 import new_output

from utils.book import discover, frontmatter, hygiene, normalise
from utils.book.__main__ import main


@pytest.mark.parametrize("check", hygiene.CHECKS, ids=lambda check: check.__name__)
def test_recipe(recipe, check):
    assert list(check(recipe.read(), recipe)) == []


def test_the_book_has_recipes():
    assert discover.recipes()


def test_table_in_the_readme_is_in_step():
    assert main(["table", "--check"]) == 0


@pytest.fixture
def good(book):
    """A recipe that passes."""
    recipe = edit(book.write("02_rag/01_counting", sample()), executed)
    assert hygiene.problems(recipe) == []
    return recipe


def cell_of(nb, tag):
    return discover.tagged(nb, tag)[0]


def shows(text, name="stdout"):
    return lambda nb: nb.cells[5].update(outputs=[new_output("stream", name=name, text=text)])


def says(source, index=5):
    return lambda nb: nb.cells[index].update(source=source)


def claims(source):
    return lambda nb: cell_of(nb, "claims").update(source=source)


def adds(cell):
    return lambda nb: nb.cells.append(cell)


ERROR = new_output("error", ename="KeyError", evalue="x", traceback=[])
LONG = "\n".join(["x = 1"] * 41)

BAD = [
    # a change that makes it bad, the check that must see it, what it says
    (lambda nb: nb.cells[5].update(outputs=[{"output_type": "odd"}]), "check_valid", "not valid"),
    (lambda nb: nb.cells[5].update(id=nb.cells[3].id), "check_valid", "ids occur twice"),
    (lambda nb: nb.update(nbformat_minor=4), "check_valid", "instead of 4.5"),
    (shows("x" * 1_000_000), "check_valid", "at most 1,000,000"),
    (lambda nb: nb.metadata.update(papermill={}), "check_normalised", "not normalised"),
    (
        says("# 3.1 Counting\n\n<!-- at-a-glance -->\n<!-- /at-a-glance -->", 0),
        "check_normalised",
        "not normalised",
    ),
    (says("print('old bootstrap')", 1), "check_normalised", "not normalised"),
    (lambda nb: nb.cells[5].update(execution_count=9), "check_executed", "execution counts"),
    (lambda nb: nb.cells[5].update(execution_count=None), "check_executed", "execution counts"),
    (lambda nb: nb.cells[5].update(outputs=[ERROR]), "check_executed", "cell 4 shows an error"),
    (shows("noise", "stderr"), "check_outputs", "shows stderr"),
    (shows("x.py:1: FutureWarning: gone soon"), "check_outputs", "'FutureWarning:'"),
    (shows("Map: 100%|██████| 8/8 [00:00, 99.1it/s]"), "check_outputs", "progress bar"),
    (shows("8/8 [00:01, 1.2s/it]"), "check_outputs", "progress bar"),
    (shows("1/2\r2/2"), "check_outputs", "progress bar"),
    (shows("saved to /home/me/model"), "check_private", "machine path: /home/"),
    (shows("see /tmp/ipykernel_1/2.py"), "check_private", "machine path: /tmp"),
    (shows("/tmp"), "check_private", "machine path: /tmp"),
    (says("path = '/Users/me/x'"), "check_private", "machine path: /Users/"),
    (says(r"path = 'C:\\data'"), "check_private", "machine path: C:"),
    (says("key = 'sk-" + "a1" * 20 + "'"), "check_private", "secret: sk-a1"),
    (shows("hf_" + "Ab" * 17), "check_private", "secret: hf_Ab"),
    (says("Counting", 0), "check_structure", "does not start with a title"),
    (says("# 2.1 Counting\n", 0), "check_structure", "has no <!-- at-a-glance -->"),
    (
        lambda nb: cell_of(nb, "recipe").metadata.clear(),
        "check_structure",
        "0 cells are tagged recipe",
    ),
    (
        lambda nb: nb.cells[5].metadata.update(tags=["claims"]),
        "check_structure",
        "2 cells are tagged claims",
    ),
    (lambda nb: cell_of(nb, "parameters").update(source="WORDS = 5"), "check_structure", "no SEED"),
    (says(LONG), "check_structure", "has 41 lines"),
    (
        lambda nb: cell_of(nb, "recipe").update(source=LONG + "\n" + LONG),
        "check_structure",
        "has 82 lines",
    ),
    (says("Short.", 4), "check_structure", "words of prose"),
    (lambda nb: nb.metadata.cookbook.pop("learn"), "check_structure", "learn is missing"),
    (claims("print(1)"), "check_claims", "asserts nothing"),
    (claims("assert True, 'yes'"), "check_claims", "cannot fail: assert True"),
    (claims("assert len('ab') > 1, 'yes'"), "check_claims", "cannot fail"),
    (claims("assert WORDS == WORDS, 'same'"), "check_claims", "cannot fail"),
    (claims("assert (WORDS == 3, 'three')"), "check_claims", "cannot fail"),
    (claims("assert WORDS"), "check_claims", "no message"),
    (lambda nb: cell_of(nb, "claims").update(outputs=[]), "check_claims", "did not print"),
    (says("print(undefined_thing)"), "check_names", "undefined name 'undefined_thing'"),
    (
        says("from langchain.chains import RetrievalQA"),
        "check_current",
        "langchain.chains is deprecated",
    ),
    (says("from langchain import hub"), "check_current", "langchain.hub is deprecated"),
    (
        says("from langchain.agents import AgentExecutor"),
        "check_current",
        "use langchain.agents.create_agent",
    ),
    (says("from langgraph.prebuilt import create_react_agent"), "check_current", "create_agent"),
    (
        says("from sentence_transformers import losses"),
        "check_current",
        "sentence_transformers.losses",
    ),
    (says("import pandas"), "check_imports", "pandas (pandas) is not declared for 02_rag"),
    (says("def f():\n    import no_such_module"), "check_imports", "not installed"),
    (adds(markdown("[next](02_gone.ipynb#top)")), "check_links", "broken link: 02_gone.ipynb#top"),
    (adds(markdown('<img src="gone.png">')), "check_links", "broken link: gone.png"),
    (
        lambda nb: cell_of(nb, "recipe").update(source="from utils import llm"),
        "check_recipe_cell",
        "imports utils",
    ),
]


@pytest.mark.parametrize("change, check, message", BAD)
@pytest.mark.filterwarnings("ignore:Non-unique cell id")
def test_check_fails_on_a_bad_notebook(good, change, check, message):
    nb = good.read()
    change(nb)
    # nbformat repairs what is invalid when it writes, so such notebooks are written without it.
    text = json.dumps(nb) if check == "check_valid" else normalise.dumps(nb)
    good.path.write_text(text, encoding="utf-8")
    bad = discover.Recipe(good.path)
    found = list(getattr(hygiene, check)(nb, bad))
    assert any(message in problem for problem in found), found


def test_every_check_is_shown_to_fail():
    assert {check for _, check, _ in BAD} == {check.__name__ for check in hygiene.CHECKS}


GOOD = [
    says("%%time\n%time lengths = [1]\n!ls\nawait display(lengths)"),
    says("lengths = [1]\nimport utils\nfrom google import colab"),
    adds(
        markdown(
            "[a](../pyproject.toml), [b](https://x.org/home/y), [c](#top), `[d](gone)`, [e](mailto:a@b)"
        )
    ),
    shows("50 % of the warnings, see https://x.org/tmp/file or ~/work/x | it/s ███"),
    says("lengths = [1]\nfrom IPython.display import Image"),
    claims(
        "score = WORDS\nassert 0 < score < 9, 'range'\nassert all(n > 0 for n in lengths), 'positive'"
    ),
]


@pytest.mark.parametrize("change", GOOD)
def test_checks_pass_what_is_good(good, change):
    assert hygiene.problems(edit(good, change)) == []


def test_an_announced_error_may_be_shown(good):
    def announce(nb):
        nb.cells[5].update(outputs=[ERROR])
        nb.cells[5].metadata.tags = ["raises-exception"]

    assert hygiene.problems(edit(good, announce)) == []


def test_every_import_of_the_chapter_may_come_from_its_extra(good, book):
    (book.root / "04_agents").mkdir()
    moved = discover.Recipe(good.path.rename(book.root / "04_agents" / good.path.name))
    assert list(hygiene.check_imports(moved.read(), moved)) == [
        "numpy (numpy) is not declared for 04_agents"
    ]


def test_badge_of_another_repository_is_seen(good, book):
    (book.root / "pyproject.toml").write_text(
        (book.root / "pyproject.toml").read_text().replace("owner", "fork")
    )
    assert any("not normalised" in problem for problem in hygiene.problems(good))
    nb = good.read()
    frontmatter.dress(nb, good)
    good.path.write_text(normalise.dumps(nb), encoding="utf-8")
    assert hygiene.problems(discover.Recipe(good.path)) == []
