"""`update`: execute recipes, then write outputs and measurements into the committed notebooks.

Only recipes that passed are written. With --reuse the executed copies of the last `run` are taken.
"""

import copy
import json
import math
from datetime import UTC, datetime

import nbformat

from . import BookError, discover, execute, frontmatter, normalise
from .discover import Recipe


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "update",
        help="execute, then write outputs and measurements into the recipes",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="04_agents/01, a chapter (02_rag), or all"
    )
    parser.add_argument(
        "--reuse", action="store_true", help="take the executed copies of the last run"
    )
    parser.add_argument("--jobs", type=int, help="notebooks side by side")


def main(args) -> int:
    recipes = discover.resolve(args.recipe)
    for recipe in recipes:
        normalise.clean(recipe.path)  # what is written by machine is executed too
    recipes = discover.resolve(args.recipe)
    if args.reuse:
        record = discover.ROOT / "build" / "run.json"
        results = json.loads(record.read_text()) if record.exists() else {}
    else:
        results = execute.run(recipes, jobs=args.jobs)
    failed = [recipe.name for recipe in recipes if not write(recipe, results.get(recipe.name))]
    if failed:
        print(f"not written, because their run failed or is missing: {', '.join(failed)}")
    return int(bool(failed))


def write(recipe: Recipe, result: dict | None) -> bool:
    """Take over the outputs of one executed copy; False if its run did not pass."""
    if result is None or result["problem"] or result["parameters"]:
        return False
    nb = recipe.read()
    old = copy.deepcopy(nb)
    executed = discover.code_cells(nbformat.read(recipe.executed, as_version=4))
    own = discover.code_cells(nb)
    if [cell.source for cell in own] != [cell.source for cell in executed]:
        raise BookError(f"{recipe.name} was edited since it ran: run it again")
    for cell, run in zip(own, executed, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    book = nb.metadata.setdefault("cookbook", nbformat.from_dict({}))
    book.measured = steady(book.get("measured", {}), result) | {
        "on": f"{datetime.now(UTC):%Y-%m-%d}"
    }
    normalise.tidy(nb, old)
    frontmatter.dress(nb, recipe)
    recipe.path.write_text(normalise.dumps(nb), encoding="utf-8")
    return True


def steady(old: dict, result: dict) -> dict:
    """The measurements to two digits; the old ones where the new ones are within a tenth."""
    new = {key: float(f"{result[key]:.2g}") for key in ("cpu_seconds", "wall_seconds", "peak_mb")}
    new = {key: int(value) if value >= 10 else value for key, value in new.items()}
    return {key: old[key] if math.isclose(value, old.get(key, 0), rel_tol=0.1) else value
            for key, value in new.items()}  # fmt: skip
