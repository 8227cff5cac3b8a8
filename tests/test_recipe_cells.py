"""Each recipe's last cell of code, as a reader uses it: copied into an empty folder, with nothing of the book."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import utils
from utils import llm, models
from utils.book import discover

ADAPTER = discover.ROOT / "03_finetuning" / "adapters" / "tool_calling"
PASSED_ON = ("PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "LD_LIBRARY_PATH")
NOISE = re.compile(r"^.*(?:warning|deprecated|traceback).*$", re.IGNORECASE | re.MULTILINE)


def run_alone(
    source: str, folder: Path, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess:
    """Run a cell as a program in `folder/recipe`, with HOME empty and no way to import the book's `utils`."""
    for name in ("recipe", "home", "stub"):
        (folder / name).mkdir()
    (folder / "recipe" / "recipe.py").write_text(source, encoding="utf-8")
    stub = folder / "stub" / "utils.py"  # comes before the installed one
    stub.write_text("raise ImportError('a recipe cell stands alone: it must not import utils')\n")
    path = [
        str(stub.parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]  # there: the offline guard
    inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run(
        [sys.executable, "-P", "recipe.py"],
        cwd=folder / "recipe",
        env=inherited
        | {
            "PYTHONPATH": os.pathsep.join(path),
            "HOME": str(folder / "home"),
            "HF_HUB_CACHE": str(utils.HUB_CACHE),
            "HF_HUB_OFFLINE": "1",
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def check(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert NOISE.findall(done.stderr) == []
    assert done.stdout.strip(), "a recipe shows what it does"


def test_recipe_cell(recipe, tmp_path, serve):
    (cell,) = discover.tagged(recipe.read(), "recipe")
    models.ensure(*recipe.meta.get("models", []))
    if recipe.meta.get("adapter"):
        serve(adapter=str(ADAPTER))
    elif "OPENAI" in cell.source.upper():
        serve()
    environment = {name: os.environ[name] for name in llm.NAMES if name in os.environ}
    seconds = max(120, 4 * recipe.meta["cpu_seconds"])
    check(run_alone(cell.source, tmp_path, environment, seconds))


ALONE = """
import os
from pathlib import Path

assert os.listdir() == ["recipe.py"] and not list(Path.home().iterdir())
assert "OPENAI_API_KEY" not in os.environ and os.environ["OPENAI_MODEL"] == "m"
print("alone")
"""


def test_alone_is_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "the reader's own")
    check(run_alone(ALONE, tmp_path, {"OPENAI_MODEL": "m"}, 60))


@pytest.mark.parametrize(
    "source, message",
    [
        ("import utils\nprint(1)", "must not import utils"),
        ("print(missing)", "NameError"),
        ("import warnings\nwarnings.warn('old', FutureWarning)\nprint(1)", "FutureWarning"),
        ("x = 1", "shows what it does"),
    ],
)
def test_what_does_not_stand_alone_fails(source, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        check(run_alone(source, tmp_path, {}, 60))
