"""`run`, `compare` and `offline`: on small notebooks written here, which the real recipes share nothing with."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest
from conftest import code, edit, markdown, sample

from utils.book import BookError, discover, execute, sandbox
from utils.book.__main__ import main
from utils.book.normalise import WIDGET

BOOK = [sys.executable, "-m", "utils.book"]


def call(*arguments, **options):
    return subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def runs(module_book):
    """One run of notebooks that go wrong in every way, and of one that does not."""
    head = markdown("# A notebook")
    leave = "import subprocess\nproc = subprocess.Popen(['sleep', '4321'], start_new_session=True)"
    burn = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'for i in range(20_000_000): pass'])"
    module_book.write("02_rag/01_counting", sample())
    module_book.write("03_bad/01_raises", [head, code("x = 1"), code("x / 0")])
    module_book.write("03_bad/02_over_budget", [head, code(burn)], cpu_seconds=0.1)
    module_book.write("03_bad/03_crashes", [head, code("import os\nos._exit(3)")])
    module_book.write("03_bad/04_leaves", [head, code(leave)])
    module_book.write("03_bad/05_no_kernel", [head, code("1")], kernel="no-such-kernel")
    module_book.write("03_bad/06_exits", [head, code("raise SystemExit"), code("1")])
    return execute.run(discover.recipes())


def test_run_measures(runs):
    result = runs["02_rag/01_counting"]
    assert result["problem"] == ""
    assert (result["cells"], result["claims"]) == (7, 1)
    assert 0.3 < result["cpu_seconds"] < 60 and 0 < result["wall_seconds"]
    assert 30 < result["peak_mb"] < 2000
    assert json.loads((discover.ROOT / "build" / "run.json").read_text()) == runs
    executed = discover.Recipe(discover.ROOT / "build/executed/02_rag/01_counting.ipynb").read()
    assert "SEED" in "".join(cell.source for cell in executed.cells)


@pytest.mark.parametrize(
    "name, message",
    [
        ("01_raises", "cell 2 raised ZeroDivisionError"),
        ("02_over_budget", "its budget is"),
        ("03_crashes", "the kernel died in cell 1"),
        ("04_leaves", "left processes behind (now killed): sleep 4321"),
        ("06_exits", "cell 1 ended the notebook before its last cell"),
        ("05_no_kernel", "no Jupyter kernel called 'no-such-kernel'"),
    ],
)
def test_run_fails_with_the_reason(runs, name, message):
    assert message in runs[f"03_bad/{name}"]["problem"]
    table = execute.summary(runs)
    assert message in table and f"{name} " in table and table.count("FAIL 03_bad") == 6


def test_run_shows_the_failing_cell_and_traceback(runs):
    problem = runs["03_bad/01_raises"]["problem"]
    assert "--- the cell\nx / 0" in problem and "division by zero" in problem


def test_run_counts_ended_children(runs):
    assert runs["03_bad/02_over_budget"]["cpu_seconds"] > runs["03_bad/01_raises"]["cpu_seconds"]


def sleeping(seconds: str) -> bool:
    return any(p.info["cmdline"] == ["sleep", seconds] for p in psutil.process_iter(["cmdline"]))


def test_run_leaves_nothing_behind(runs):
    assert not sleeping("4321")


def test_hanging_notebook_is_killed_with_its_children(book):
    cells = [markdown("# Hangs"), code("import subprocess\nsubprocess.run(['sleep', '8765'])")]
    book.write("03_bad/06_hangs", cells)
    done = call(*BOOK, "run", "03_bad/06", "--timeout", "10")
    assert done.returncode == 1
    assert "not done after 10 s of wall time: killed in cell" in done.stdout
    assert not sleeping("8765")


def test_interrupt_ends_everything(book):
    cells = [markdown("# Hangs"), code("import subprocess\nsubprocess.run(['sleep', '6543'])")]
    book.write("03_bad/07_interrupted", cells)
    run = subprocess.Popen([*BOOK, "run", "03_bad/07"], stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        if "cell 1/1" in line:
            break
    wait_until(lambda: sleeping("6543"))
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=10) == 130
    wait_until(lambda: not sleeping("6543"))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_seed_and_unknown_parameter(book):
    recipe = book.write("02_rag/01_counting", sample())
    with pytest.raises(BookError, match="has no parameter SED; it has SEED, WORDS"):
        execute.run([recipe], {"SED": 7})
    done = call(*BOOK, "run", "02_rag/01", "--seed", "7", "-p", "WORDS", "3")
    assert done.returncode == 0, done.stdout
    assert json.loads((book.root / "build/run.json").read_text())["02_rag/01_counting"][
        "parameters"
    ] == {
        "SEED": 7,
        "WORDS": 3,
    }
    compared = call(*BOOK, "compare", "02_rag/01")
    assert compared.returncode == 0
    assert "was run with SEED=7, WORDS=3" in compared.stdout and "passed" not in compared.stdout


def test_a_table_is_shown_in_one_piece(monkeypatch):
    index = pd.Index(["one", "two"], name="engine")
    frame = pd.DataFrame({f"a long heading {n}": [0.5, 1234.25] for n in range(6)}, index=index)
    for table in (frame, frame.rename_axis(None)):
        with pd.option_context("display.max_columns", 20):  # as in a notebook
            data = {"text/plain": [repr(table)], "text/html": [table.to_html()]}
        cell = {"outputs": [{"data": data}]}
        monkeypatch.setenv("COLUMNS", "160")
        shown = execute.wide_table(cell).splitlines()
        assert (
            all("1234.25" in line for line in shown if "two" in line) and "Unnamed" not in shown[0]
        )
        assert "a long heading 0" in shown[0] and "a long heading 5" in shown[0]
        monkeypatch.setenv("COLUMNS", "80")
        assert execute.wide_table(cell) == "", (
            "broken by the terminal it is harder to read than by pandas"
        )
    narrow = frame.iloc[:, :1]
    data = {"text/plain": [repr(narrow)], "text/html": [narrow.to_html()]}
    assert execute.wide_table({"outputs": [{"data": data}]}) == ""


def test_show_update_and_compare(book):
    """The whole way of a recipe: run and shown, written, compared, forged, executed by nbval."""
    cells = sample()
    cells[4].source += "\n\nSee [tools](../04_agents/01_tools.ipynb)."
    recipe = book.write("02_rag/01_counting", cells, quick=True)
    shown = call(*BOOK, "run", "02_rag/01", "--show")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert (
        "2.1 Counting\n\nMeasured in this run: " in shown.stdout
        and "\narray([5])\n" in shown.stdout
    )
    page = recipe.executed.with_suffix(".html").read_text()
    assert "<h1" in page and "require.min.js" not in page
    assert (
        'href="https://github.com/owner/small-book/blob/main/02_rag/../04_agents/01_tools.ipynb"'
        in page
    )

    assert main(["update", "02_rag/01", "--reuse"]) == 0
    recipe = discover.Recipe(recipe.path)
    assert recipe.meta["measured"]["peak_mb"] > 30
    assert recipe.meta["measured"]["on"] >= "2026-11-29"
    address = "colab.research.google.com/github/owner/small-book/blob/main/02_rag/01_counting.ipynb"
    assert address in "".join(recipe.raw["cells"][0]["source"])

    # A bar that stayed is left out of the committed outputs, too
    copy = nbformat.read(recipe.executed, 4)
    bar = {"text/plain": "100%", WIDGET: {"model_id": "1"}}
    discover.code_cells(copy)[-1].outputs.append(nbformat.v4.new_output("display_data", data=bar))
    nbformat.write(copy, recipe.executed)

    honest = call(*BOOK, "compare", "02_rag")
    assert honest.returncode == 0, honest.stdout
    assert honest.stdout.count("7 passed") == 2  # replayed, and executed by nbval itself

    def forge(nb):
        nb.cells[7].outputs[0].text = "Measured: 6 words.\n"
        nb.metadata.cookbook.quick = False

    edit(recipe, forge)
    forged = call(*BOOK, "compare", "02_rag")
    assert forged.returncode == 1
    assert "Cell outputs differ" in forged.stdout and "1 failed, 6 passed" in forged.stdout

    edit(recipe, lambda nb: nb.cells[5].update(source="lengths = [1, 2, 3, 4, 5]"))
    assert "run the recipe again" in call(*BOOK, "compare", "02_rag").stdout


def test_compare_wants_a_run(book):
    book.write("02_rag/01_counting", sample())
    done = call(*BOOK, "compare")
    assert done.returncode == 1 and "02_rag/01_counting has not been run" in done.stdout


def test_resolve(book):
    for name in ("02_rag/01_counting", "02_rag/02_more", "04_agents/01_tools"):
        book.write(name, sample())

    def names(spec):
        return [recipe.name for recipe in discover.resolve(spec)]

    assert (
        names("") == names(None) == ["02_rag/01_counting", "02_rag/02_more", "04_agents/01_tools"]
    )
    assert (
        names("02_rag")
        == names("02_rag/")
        == names("02")
        == ["02_rag/01_counting", "02_rag/02_more"]
    )
    assert names("04_agents/01") == names("04_agents/01_tools.ipynb") == ["04_agents/01_tools"]
    assert names(str(book.root / "02_rag/02_more.ipynb")) == ["02_rag/02_more"]
    assert discover.resolve("02_rag/02")[0].number == "2.2" and names("2.2") == ["02_rag/02_more"]
    for unknown in ("rag", "04_agents/02", "04_agents/0"):
        with pytest.raises(BookError, match="02_rag/02_more"):
            discover.resolve(unknown)


def test_unknown_recipe_is_one_sentence(book, capsys):
    assert main(["run", "09_none"]) == 2
    assert capsys.readouterr().err == (
        "error: no recipe is called '09_none'; name it by its number or its path:\n"
    )


NETWORK = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5)
socket.create_connection(("localhost", server.getsockname()[1]), timeout=5)
print("loopback works;", [name for _, name in socket.if_nameindex()], os.getuid(), os.path.expanduser("~"))
for address in [("192.0.2.1", 80), ("example.com", 443)]:
    try:
        socket.create_connection(address, timeout=5)
    except OSError as error:
        print("refused:", error)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    try:
        udp.sendto(b"x", ("192.0.2.1", 53))
    except OSError as error:
        print("refused:", error)
"""


@pytest.mark.skipif(not sandbox.namespaces_work(), reason="this machine refuses network namespaces")
def test_offline_by_namespace():
    done = call(*BOOK, "offline", "--", sys.executable, "-c", NETWORK)
    assert done.returncode == 0, done.stderr
    assert "offline: a network namespace with loopback only" in done.stderr
    assert f"loopback works; ['lo'] {os.getuid()} {os.path.expanduser('~')}" in done.stdout
    assert done.stdout.count("refused:") == 3


def test_offline_by_guard():
    nested = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {NETWORK!r}], check=True)"
    )
    done = call(*BOOK, "offline", "--guard", "--", sys.executable, "-c", nested)
    assert done.returncode == 0, done.stderr
    assert "offline: a guard" in done.stderr and "loopback works" in done.stdout
    assert done.stdout.count(f"refused: [Errno {errno.ENETUNREACH}] offline: ") == 3


def test_offline_without_such_a_command(capsys):
    assert main(["offline", "--", "no-such-command"]) == 2
    assert "no command 'no-such-command'" in capsys.readouterr().err


def test_a_processor_without_bfloat16_may_take_longer(monkeypatch):
    """Budgets are those of the reference machine, which multiplies bfloat16."""
    monkeypatch.setattr(execute.hardware, "cpu_features", lambda: frozenset({"AVX2", "AMX"}))
    assert execute.allowed(30) == 30 and execute.allowed(None) is None
    monkeypatch.setattr(execute.hardware, "cpu_features", lambda: frozenset({"AVX2", "AVX-512"}))
    assert execute.allowed(30) == 30 * execute.WITHOUT_BFLOAT16
