"""`compare`: hold the executed copies of recipes against their committed outputs, with nbval.

`run` has executed every recipe once. This module is also a pytest plugin that lets nbval judge those
copies as if it had run them itself (`pytest -p utils.book.replay --nbval --nbval-replay build/executed`):
its collection, tags, sanitising and strict comparison, with a kernel that answers from the copy.
Recipes with `"quick": true` in their metadata are executed by nbval too, which checks the replay.
Only with `make run`'s own parameters: with another seed outputs differ, and the claims are what holds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from queue import Empty

import nbformat
import pytest
from nbval.plugin import IPyNbFile

from . import discover, normalise


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "compare",
        help="hold the executed copies against the committed outputs",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="04_agents/01, a chapter (02_rag), or all"
    )
    parser.add_argument(
        "--executed", action="store_true", help="of these, the ones that have an executed copy"
    )


def main(args) -> int:
    recipes = discover.resolve(args.recipe)
    if args.executed:
        recipes = [recipe for recipe in recipes if recipe.executed.exists()]
        if not recipes:
            print("no recipe has been executed: there is nothing to compare")
            return 1
    code = nbval(recipes, "--nbval-replay", discover.ROOT / "build" / "executed")
    if quick := [recipe for recipe in recipes if recipe.meta.get("quick")]:
        print("\nexecuted by nbval itself:", *(recipe.name for recipe in quick), flush=True)
        code = nbval(quick) or code
    return int(code != 0)


def nbval(recipes: list[discover.Recipe], *options) -> int:
    """pytest's exit code; no plugins but nbval and this one, some of which take seconds to load."""
    sanitize = Path(__file__).parents[2] / "tests" / "nbval_sanitize.cfg"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-c", os.devnull]
    command += ["--rootdir", discover.ROOT, "-p", "no:cacheprovider", "-p", "utils.book.replay"]
    command += ["-p", "nbval.plugin", "-W", "ignore:Module already imported"]
    command += ["--nbval", "--nbval-current-env"]
    command += ["--nbval-sanitize-with", sanitize, *options, *(recipe.path for recipe in recipes)]
    return subprocess.call(command, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})


class ReplayKernel:
    """Looks to nbval like a kernel; answers from an executed notebook."""

    def __init__(self, path: Path):
        self.cells = discover.code_cells(nbformat.read(path, as_version=4))
        self.queue = []

    def is_alive(self):
        return True

    def stop(self):
        pass

    def interrupt(self):
        pass

    def await_reply(self, msg_id, timeout=None):
        pass

    def await_idle(self, msg_id, timeout=None):
        pass

    def execute_cell_input(self, source, allow_stdin=None) -> str:
        """Queue the messages that a kernel would send for this cell; cells before it were skipped."""
        found = next((i for i, cell in enumerate(self.cells) if cell.source == source), None)
        if found is None:
            raise RuntimeError("the executed copy has no such cell: run the recipe again")
        cell, self.cells = self.cells[found], self.cells[found + 1 :]
        if cell.execution_count is None and source.strip():
            raise RuntimeError("the run ended before this cell")
        outputs = [
            (output.output_type, {k: output[k] for k in output if k != "output_type"})
            for output in normalise.outputs_of(cell)  # as the committed ones: no progress bars
        ]
        self.queue = [
            {"msg_type": kind, "content": content, "parent_header": {"msg_id": cell.id}}
            for kind, content in [*outputs, ("status", {"execution_state": "idle"})]
        ]
        return cell.id

    def get_message(self, stream, timeout=None):
        if not self.queue:
            raise Empty
        return self.queue.pop(0)


def pytest_addoption(parser):
    parser.addoption(
        "--nbval-replay", type=Path, metavar="DIR", help="judge the executed copies in this folder"
    )


class Notebook(IPyNbFile):
    """nbval's notebook, with stderr left out as in committed outputs, and replayed if asked for."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.skip_compare += ("stderr",)

    def setup(self):
        folder = self.config.getoption("nbval_replay")
        if folder is None:
            return super().setup()
        self.kernel = ReplayKernel(executed_copy(self.path, folder))
        self.setup_sanitize_files()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    found = yield
    return [
        Notebook.from_parent(parent, path=file_path) if type(c) is IPyNbFile else c for c in found
    ]


def executed_copy(path: Path, folder: Path) -> Path:
    """The copy of this recipe; skips the test where it was run with other parameters than its own."""
    name = f"{path.parent.name}/{path.stem}"
    record = folder.parent / "run.json"
    result = json.loads(record.read_text()).get(name) if record.exists() else None
    copy = folder / f"{name}.ipynb"
    if result is None or not copy.exists():
        pytest.fail(f"{name} has not been run: python -m utils.book run {name}", pytrace=False)
    if result["parameters"]:
        changed = ", ".join(f"{k}={v}" for k, v in result["parameters"].items())
        pytest.skip(f"{name} was run with {changed}: its claims held, its outputs are others")
    return copy
