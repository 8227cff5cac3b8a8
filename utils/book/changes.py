"""Which recipes a change has touched: what `run --within` executes in any case, and what first.

A change is everything from the last commit that is `HOURS` older than the newest one. On GitHub each
chapter has a runner of its own and all recipes run; this is for one machine with less time.
"""

import json
import random
import re
import subprocess

from . import discover
from .discover import Recipe

HOURS = 4


def in_order(recipes: list[Recipe]) -> tuple[list[Recipe], list[Recipe]]:
    """The recipes whose code is new; and the others in the order in which to run them.

    First come those that import a changed module of `utils`, then the rest, shuffled by the newest commit: so each
    change tries other ones. Without a history (a shallow clone, no git) no recipe counts as new.
    """
    head, base = _commits()
    shuffled = random.Random(head).sample(recipes, len(recipes))
    if not base:
        return [], shuffled
    paths = _git("diff", "--name-only", base, head).splitlines()
    modules = set(re.findall(r"^utils/(\w+)\.py$", "\n".join(paths), re.M))
    before = {_code(json.loads(_git("show", f"{base}:{path}"))) for path in _notebooks(base)}
    new = [recipe for recipe in recipes if _code(recipe.raw) not in before]
    others = [recipe for recipe in shuffled if recipe not in new]
    return new, sorted(others, key=lambda recipe: not modules & _imports(recipe))


def _commits() -> tuple[str, str]:
    """The newest commit and the one to compare it with; empty where there is none."""
    if _git("rev-parse", "--is-shallow-repository").strip() != "false":
        return "", ""
    head, seconds = _git("log", "-1", "--format=%H %ct").split()
    return head, _git("rev-list", "-1", f"--before={int(seconds) - HOURS * 3600}", head).strip()


def _notebooks(commit: str) -> list[str]:
    files = _git("ls-tree", "-r", "--name-only", commit).splitlines()
    return [name for name in files if re.fullmatch(r"\d\d_\w+/\d\d_\w+\.ipynb", name)]


def _code(notebook: dict) -> str:
    """The code of a notebook: what a run executes."""
    return "\n\n".join(discover.source(cell) for cell in discover.code_cells(notebook))


def _imports(recipe: Recipe) -> set[str]:
    lines = re.findall(r"^from utils import (.+)$", _code(recipe.raw), re.M)
    return {name.strip() for line in lines for name in line.split(",")}


def _git(*arguments: str) -> str:
    """What git says; nothing where it has nothing to say, or is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=discover.ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout
