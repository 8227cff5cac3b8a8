"""What the tests share: a small book in a temporary folder, and one test per recipe of the real one.

`RECIPE=02_rag` (as in `make test RECIPE=02_rag`) keeps only the tests of these recipes.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests and local servers side by side must not fight

import nbformat
import pytest
import uvicorn
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import llm, servers
from utils.book import discover, frontmatter, normalise

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

LONGEST = "test_recipe_cells.py"
"""Takes one core half of the time that all tests take."""

PYPROJECT = """\
[project]
name = "small-book"
dependencies = ["openai"]
optional-dependencies = {rag = ["NumPy>=2"], agents = []}
urls = {repository = "https://github.com/owner/small-book"}
"""


def pytest_generate_tests(metafunc):
    if "recipe" in metafunc.fixturenames:
        recipes = discover.resolve(os.environ.get("RECIPE")) if discover.recipes() else []
        metafunc.parametrize("recipe", recipes, ids=lambda recipe: recipe.name)


def pytest_collection_modifyitems(config, items):
    # Stable; two workers end at about the same time
    items.sort(key=lambda item: item.path.name != LONGEST)
    if os.environ.get("RECIPE"):
        others = [item for item in items if "recipe" not in item.fixturenames]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(autouse=True)
def no_provider():
    """Every test starts as at a reader who has chosen no provider, and leaves no choice behind."""

    def forget():
        for name in llm.NAMES:
            os.environ.pop(name, None)

    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium or Chrome. Without one the test is skipped, but not in CI."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = "no Chromium or Chrome is installed (Debian: apt install chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to sandbox root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*QUIET.split(), *sandbox])
        yield started
        started.close()


@pytest.fixture(scope="session")
def serve():
    """`llm.serve`: one server of each kind for all tests of a run, stopped at its end."""
    yield llm.serve
    for running in list(llm._running.values()):
        running.close()


@pytest.fixture
def endpoint(serve):
    """The local server, chosen through the environment as `serve` does it."""
    return serve()


@pytest.fixture
def as_provider(serve, monkeypatch):
    """The local server chosen as a reader chooses a provider: to the client it is one."""
    endpoint = serve()
    monkeypatch.setattr(llm, "_running", {})
    return endpoint


def code(source: str, *tags: str):
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def markdown(source: str):
    return new_markdown_cell(source)


def sample() -> list:
    """The cells of a recipe that has all that hygiene asks for, not executed yet."""
    return [
        markdown("# 2.1 Counting\n\nCounts words.\n\n<!-- at-a-glance -->\n<!-- /at-a-glance -->"),
        code("", "setup"),
        code("import random\n\nimport numpy as np"),
        code("SEED = 0  # of the shuffle\nWORDS = 5  # how many", "parameters"),
        markdown("word " * 500),
        code(
            "rng = random.Random(SEED)\nlengths = [rng.randint(1, 9) for _ in range(WORDS)]\nprint(lengths)"
        ),
        code("np.array([WORDS])", "results"),
        code(
            "assert len(lengths) == WORDS, 'one length per word'\nprint(f'Measured: {WORDS} words.')",
            "claims",
        ),
        code("import math\n\nprint(math.prod([2, 3]))", "recipe"),
    ]


class Book:
    """A book in a temporary folder."""

    def __init__(self, root: Path):
        self.root = root
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "README.md").write_text("# Small\n\n<!-- recipes -->\n<!-- /recipes -->\n")

    def write(self, name: str, cells: list, **meta) -> discover.Recipe:
        """Put a notebook into the book as `clean` would leave it."""
        recipe = discover.Recipe(self.root / f"{name}.ipynb")
        recipe.path.parent.mkdir(exist_ok=True)
        cookbook = {"cpu_seconds": 60, "learn": "to count", "models": []} | meta
        nb = new_notebook(cells=cells, metadata={"cookbook": cookbook})
        normalise.tidy(nb)
        frontmatter.dress(nb, recipe)
        nb.metadata.kernelspec.name = meta.get("kernel", "python3")
        recipe.path.write_text(normalise.dumps(nb), encoding="utf-8")
        return recipe


@pytest.fixture(scope="module")
def module_book(tmp_path_factory):
    """One book for all tests of a module, which is `discover.ROOT` meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("book")
        patch.setattr(discover, "ROOT", root)
        patch.setenv("COOKBOOK_ROOT", str(root))
        yield Book(root)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book, which is `discover.ROOT` meanwhile."""
    monkeypatch.setattr(discover, "ROOT", tmp_path)
    monkeypatch.setenv("COOKBOOK_ROOT", str(tmp_path))
    return Book(tmp_path)


def edit(recipe: discover.Recipe, change) -> discover.Recipe:
    """Change a notebook on disk with `change(nb)`; returns it freshly read."""
    nb = recipe.read()
    change(nb)
    recipe.path.write_text(normalise.dumps(nb), encoding="utf-8")
    return discover.Recipe(recipe.path)


def executed(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Give the sample the outputs that a run would give."""
    outputs = {"results": "array([5])\n", "claims": "Measured: 5 words.\n"}
    for count, cell in enumerate(discover.code_cells(nb), 1):
        cell.execution_count = count
        for tag in outputs.keys() & set(cell.metadata.get("tags", [])):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=outputs[tag])]
    return nb


@contextlib.contextmanager
def served(app, port: int | None = None) -> Iterator[str]:
    """An ASGI app behind uvicorn in a thread; yields its address."""
    port = port or servers.free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
