"""Where the recipes are: from names such as `04_agents/01` to notebooks, numbers, titles and metadata."""

import argparse
import ast
import json
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import BookError

ROOT = Path(os.environ.get("COOKBOOK_ROOT") or Path(__file__).parents[2])
"""The book's folder. Read where it is used (`discover.ROOT`), so that tests can point it elsewhere."""

RawHelp = argparse.RawDescriptionHelpFormatter

CHAPTERS = {
    "foundations": "Foundations",
    "rag": "Retrieval-augmented generation",
    "finetuning": "Fine-tuning",
    "agents": "Agents",
    "deployment": "Deployment",
}


@dataclass(frozen=True)
class Recipe:
    """One notebook, `<ROOT>/02_rag/01_rag_from_scratch.ipynb`."""

    path: Path

    @property
    def name(self) -> str:
        """`02_rag/01_rag_from_scratch`."""
        return f"{self.chapter}/{self.path.stem}"

    @property
    def chapter(self) -> str:
        """`02_rag`."""
        return self.path.parent.name

    @property
    def extra(self) -> str:
        """`rag`: the chapter's extra in pyproject.toml."""
        return self.chapter.partition("_")[2]

    @property
    def number(self) -> str:
        """`2.1`, from the names of folder and file."""
        return f"{int(self.chapter[:2])}.{int(self.path.name[:2])}"

    @property
    def executed(self) -> Path:
        """Where `run` puts the executed copy."""
        return ROOT / "build" / "executed" / f"{self.name}.ipynb"

    @cached_property
    def raw(self) -> dict:
        """The notebook as JSON, read once and without nbformat (whose import takes two seconds)."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BookError(f"{self.path} is not a notebook: {error}") from error

    @property
    def meta(self) -> dict:
        """The `cookbook` part of the metadata: cpu_seconds, learn, models, needs, quick, measured."""
        return self.raw["metadata"].get("cookbook", {})

    @property
    def title(self) -> str:
        """The heading without its number."""
        match = self.raw["cells"] and re.match(
            r"# (?:\d+\.\d+ )?(.+)", source(self.raw["cells"][0])
        )
        return match[1].strip() if match else self.path.stem

    def read(self):
        """A fresh nbformat node."""
        import nbformat

        try:
            return nbformat.read(self.path, as_version=4)
        except Exception as error:  # nbformat raises a different kind for each way to be broken
            raise BookError(f"{self.path} is not a notebook: {error}") from error


def recipes() -> list[Recipe]:
    """All recipes in the order of the book."""
    return [Recipe(path) for path in sorted(ROOT.glob("[0-9][0-9]_*/[0-9][0-9]_*.ipynb"))]


def resolve(spec: str | None) -> list[Recipe]:
    """Recipes meant by `4.1`, `04_agents/01`, `02_rag`, a notebook's path, or nothing (all). BookError if none."""
    known = recipes()
    spec = (spec or "").removesuffix(".ipynb").rstrip("/")
    if Path(spec).is_absolute() and Path(spec).is_relative_to(ROOT):
        spec = str(Path(spec).relative_to(ROOT))
    found = [
        r
        for r in known
        if not spec or spec in (r.number, r.chapter, r.name) or r.name.startswith(f"{spec}_")
    ]
    if not found:
        listing = "".join(f"\n  {r.number:5} {r.name}" for r in known)
        raise BookError(
            f"no recipe is called {spec!r}; name it by its number or its path:{listing}"
        )
    return found


def find(path: Path) -> Recipe | None:
    """The recipe in this file, or None if the file is another notebook."""
    path = path.resolve()
    return next((r for r in recipes() if r.path.resolve() == path), None)


# The functions below take a notebook as JSON (`Recipe.raw`) or from nbformat (`Recipe.read()`).


def source(cell: dict) -> str:
    """A cell's text, which JSON may hold in lines."""
    return "".join(cell["source"])


def tagged(nb: dict, tag: str) -> list:
    """The cells that carry this tag."""
    return [cell for cell in nb["cells"] if tag in cell["metadata"].get("tags", [])]


def code_cells(nb: dict) -> list:
    """The code cells that an author wrote, not papermill."""
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if "injected-parameters" not in cell["metadata"].get("tags", [])]


def output_text(cell: dict) -> str:
    """What a reader sees under the cell, as plain text."""
    shown = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    texts = [o.get("text") or [*o.get("data", {}).get("text/plain", ""), "\n"] for o in shown]
    return "".join("".join(text) for text in texts)


def asserts(nb: dict) -> list[ast.Assert]:
    """The assertions of the cell tagged `claims`."""
    trees = [ast.parse(source(cell)) for cell in tagged(nb, "claims")]
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def measured(nb: dict) -> str:
    """The sentence that the claims cell printed after `Measured:`, or an empty one."""
    text = "".join(output_text(cell) for cell in tagged(nb, "claims"))
    match = re.search(r"^Measured: (.+)$", text, re.MULTILINE)
    return match[1] if match else ""


def pyproject() -> dict:
    """pyproject.toml, where floors, extras and the repository's address stand."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
