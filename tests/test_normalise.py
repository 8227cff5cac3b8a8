"""`clean`: what goes, what stays, and that a second time changes nothing."""

import json
import subprocess

import pytest
from conftest import code, edit, markdown, sample
from nbformat.v4 import new_notebook, new_output

from utils.book import discover, frontmatter, normalise, update
from utils.book.__main__ import main

WIDGET = {normalise.WIDGET: {"model_id": "1"}, "text/plain": "0%|"}


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def with_outputs(*outputs, source="f()", count=7):
    cell = code(source)
    cell.outputs, cell.execution_count, cell.id = list(outputs), count, "an-id"
    return new_notebook(cells=[cell])


def tidied(*outputs, old=None):
    nb = with_outputs(*outputs)
    normalise.tidy(nb, old and with_outputs(*old))
    return nb.cells[0]


def test_results_stay_and_noise_goes():
    result = new_output("execute_result", data={"text/plain": "42"}, execution_count=7)
    widget = new_output("display_data", data=WIDGET)
    cell = tidied(stream("a\n"), stream("50%\r100%\n", "stderr"), widget, result, stream("b\n"))
    assert [output.get("text") or output.data["text/plain"] for output in cell.outputs] == [
        "a\nb\n",
        "42",
    ]
    assert cell.execution_count == cell.outputs[1].execution_count == 1


def test_overwritten_lines_go():
    assert tidied(stream("10 %\r20 %\rdone\n")).outputs[0].text == "done\n"


def test_metadata_and_papermill_cells_go():
    nb = with_outputs(stream("x\n"))
    nb.metadata = {"papermill": {"duration": 3}, "cookbook": {"cpu_seconds": 5}, "widgets": {}}
    nb.cells[0].metadata = {
        "papermill": {},
        "tags": ["results"],
        "execution": {},
        "collapsed": True,
    }
    nb.cells += [
        code("SEED = 7", "injected-parameters"),
        markdown("Run"),
        code("", "papermill-error-cell-tag"),
    ]
    normalise.tidy(nb)
    assert nb.metadata == normalise.METADATA | {"cookbook": {"cpu_seconds": 5}}
    assert [cell.metadata for cell in nb.cells] == [{"tags": ["results"]}, {}]


@pytest.mark.parametrize(
    "old, new, kept",
    [
        ("took 1.00 s, 70 tok/s\n", "took 1.20 s, 65 tok/s\n", True),
        ("<f at 0x7f0000001111>\n", "<f at 0x7f2222223333>\n", True),
        (" 9.9 ms a query\n", "10.4 ms a query\n", True),
        ("took 1.0 s\n", "took 3.0 s\n", False),  # that is news
        ("recall 0.81, 12 ms\n", "recall 0.82, 12 ms\n", False),
        ("19.6 MB\n", "19.7 MB\n", False),
    ],
)
def test_an_old_output_stays_where_only_timings_moved(old, new, kept):
    assert tidied(stream(new), old=[stream(old)]).outputs[0].text == (old if kept else new)


def test_a_changed_picture_is_news():
    def picture(data):
        return new_output("display_data", data={"image/png": data, "text/plain": "<Figure>"})

    assert tidied(picture("bmV3"), old=[picture("b2xk")]).outputs[0].data["image/png"] == "bmV3"


def test_an_old_output_goes_with_its_source():
    nb, old = with_outputs(stream("1 s\n"), source="g()"), with_outputs(stream("1.1 s\n"))
    normalise.tidy(nb, old)
    assert nb.cells[0].outputs[0].text == "1 s\n"


def test_idempotent_and_a_fixed_point(book):
    recipe = book.write("02_rag/01_counting", sample())
    edit(
        recipe,
        lambda nb: nb.cells[5].update(
            outputs=[stream("a\n"), stream("b", "stderr")], execution_count=3
        ),
    )
    once = normalise.normalised(recipe.path)
    assert once != recipe.path.read_text()
    recipe.path.write_text(once)
    assert normalise.normalised(recipe.path) == once
    assert json.loads(once)["cells"][5]["execution_count"] == 1


def test_command(book, capsys, monkeypatch):
    recipe = book.write("02_rag/01_counting", sample())
    other = book.root / "other.ipynb"  # no recipe: normalised all the same, but gets no badge
    other.write_text(normalise.dumps(with_outputs(stream("x\n"))))
    bad = other.read_text()
    monkeypatch.chdir(book.root)
    assert main(["clean", "--check"]) == 0
    assert main(["clean", "--check", "02_rag/01", "other.ipynb"]) == 1 and other.read_text() == bad
    assert main(["clean", "other.ipynb"]) == 0 and other.read_text() != bad
    assert main(["clean", "--check", "other.ipynb", str(recipe.path)]) == 0
    assert (
        main(["clean", "README.md"]) == 2
        and "README.md is not a notebook" in capsys.readouterr().err
    )


def test_old_outputs_come_from_git(book):
    recipe = book.write("02_rag/01_counting", sample())

    def took(seconds):
        edit(
            recipe,
            lambda nb: nb.cells[5].update(outputs=[stream(f"{seconds} s\n")], execution_count=1),
        )

    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=book.root,
            check=True,
        )

    took(1.0)
    git("init", "-q")
    git("add", "02_rag")
    git("commit", "-q", "-m", "first")
    took(1.1)
    assert normalise.clean(recipe.path)
    assert "1.0 s" in recipe.path.read_text()


def test_front_matter(book):
    book.write("01_foundations/01_call", sample())
    recipe = book.write(
        "02_rag/03_counting",
        sample(),
        models=["owner/model"],
        needs=["01_foundations/01"],
        measured={"cpu_seconds": 24, "wall_seconds": 12, "peak_mb": 830, "on": "2026-11-29"},
    )
    first, setup = recipe.read().cells[:2]
    assert first.source.startswith("# 2.3 Counting\n") and recipe.title == "Counting"
    assert "small-book/blob/main/02_rag/03_counting.ipynb" in first.source
    assert (
        "| 24 s | 0.8 GB | not needed | not needed | [model](https://huggingface.co/owner/model) "
        "| [1.1 Counting](../01_foundations/01_call.ipynb) |" in first.source
    )
    assert "Last verified: 2026-11-29," in first.source
    assert 'colab.prepare("rag")' in setup.source
    assert frontmatter.seconds({"cpu_seconds": 150}) == "2.5 min"


def test_measurements_do_not_jitter():
    old = {"cpu_seconds": 24, "wall_seconds": 12, "peak_mb": 830}
    assert update.steady(
        old, {"cpu_seconds": 25.3, "wall_seconds": 15.2, "peak_mb": 871.0}
    ) == old | {"wall_seconds": 15}
    assert update.steady({}, {"cpu_seconds": 3.456, "wall_seconds": 123.4, "peak_mb": 830.0}) == {
        "cpu_seconds": 3.5,
        "wall_seconds": 120,
        "peak_mb": 830,
    }


def test_table(book):
    recipe = book.write(
        "02_rag/01_counting", sample(), learn="to | count", measured={"cpu_seconds": 4.2}
    )
    book.write("04_agents/01_tools", sample())
    assert main(["table", "--check"]) == 1
    edit(recipe, lambda nb: nb.cells[7].update(outputs=[stream("so:\nMeasured: 5 words.\n")]))
    assert main(["table"]) == main(["table", "--check"]) == 0
    readme = (book.root / "README.md").read_text()
    assert "### 2. Retrieval-augmented generation\n" in readme and "### 4. Agents\n" in readme
    assert (
        "| [2.1 Counting](02_rag/01_counting.ipynb) | to \\| count | 5 words. | 4 s | not measured |\n"
        in readme
    )
    book.write("02_rag/02_more", sample())
    assert main(["table", "--check"]) == 1


def test_a_broken_notebook_is_named(book, capsys):
    recipe = book.write("02_rag/01_counting", sample())
    recipe.path.write_text("{")
    for command in ("clean", "run"):
        assert main([command]) == 2
        assert "01_counting.ipynb is not a notebook" in capsys.readouterr().err
    assert discover.recipes() == [recipe]
