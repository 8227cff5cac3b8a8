"""`new-recipe`: start a recipe from the template, at its place in a chapter.

Later recipes of the chapter move up by one. Links, badges, `needs` and numbers follow, in the
notebooks and in every other text file of the book; so do the README's table and the links from each
recipe to the previous and the next one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path

from . import BookError, discover, normalise, table
from .discover import Recipe

TEXT = {".ipynb", ".md", ".py", ".toml", ".yml", ".yaml", ".cfg", ""}
LINK = re.compile(r"\[(?P<number>\d+\.\d+)(?P<text>[^\]\n]*)\]\((?P<target>[^)\s#]+\.ipynb)")

TEMPLATE = """\
markdown
# {title}

TODO: one or two sentences on what the reader has at the end, with the measured result in them.

<!-- at-a-glance -->
<!-- /at-a-glance -->
code setup
code nbval-ignore-output
import utils  # first: it selects the book's model cache
from utils import hardware

import numpy as np

print(f"numpy {{np.__version__}}; {{hardware.describe()}}")
code parameters
SEED = 0  # of everything random
STEPS = 10  # TODO: every knob that a reader would turn, with a few words
markdown
## The problem, seen failing

TODO: real data, without the technique, going wrong. Count how often.
code
rng = np.random.default_rng(SEED)
markdown
## Build it up

TODO: small steps, each with a sentence of why before it and one that reads the output after it. By
hand first where the idea is small, then the library call that people use at work, and a check that
both give the same numbers.
code

markdown
## Measure

TODO: the technique against the baseline on the same labelled data, and what it costs (ms, tokens, MB).
code results

markdown
## Claims

TODO: a sentence on the margin. Exactly what the title promised, and nothing that could not fail.
code claims,nbval-ignore-output
raise NotImplementedError("state with `assert` what this recipe proves, then print the headline")
# assert accuracy > baseline + 0.1, f"{{accuracy:.2f}} is not clearly above {{baseline:.2f}}"
# print(f"Measured: ... from {{baseline:.2f}} to {{accuracy:.2f}} on {{len(questions)}} questions.")
markdown
## The recipe in one cell

TODO: what it needs in the environment. Public packages only, nothing of `utils`.
code recipe,nbval-ignore-output

markdown
## When it breaks

TODO: what goes wrong in production, how one notices, what it costs at scale, and what to change for a
hosted model, a GPU or a cluster.
markdown
## Exercises

1. TODO: a five-minute change.

<details><summary>Answer</summary>

TODO

</details>

2. TODO: a question that interviewers ask.

<details><summary>Answer</summary>

TODO

</details>
markdown
## Where it comes from

- TODO: papers and documentation, by name, year and link.
"""


def template(title: str):
    """A new recipe's notebook: every section of a recipe, with TODO where the author goes on."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = []
    parts = re.split(r"^(markdown|code)(?: (\S+))?\n", TEMPLATE, flags=re.MULTILINE)[1:]
    for kind, tags, source in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        make = new_code_cell if kind == "code" else new_markdown_cell
        metadata = {"tags": tags.split(",")} if tags else {}
        cells.append(make(source.format(title=title).strip(), metadata=metadata))
    meta = {"cpu_seconds": 30, "learn": "TODO", "models": [], "needs": [], "quick": False}
    return new_notebook(cells=cells, metadata={"cookbook": meta})


def place(chapter: str, name: str, at: int | None) -> tuple[Path, dict[str, str]]:
    """Where the recipe goes, and which names have to make room, as {"02_rag/03_x": "02_rag/04_x"}.

    Raises:
        BookError: there is no such chapter, the name is not one, or the number leaves a gap.
    """
    if not re.fullmatch(r"\d\d_[a-z]\w*", chapter):
        raise BookError(f"CHAPTER={chapter} is not of the form 02_rag")
    extra = chapter.partition("_")[2]
    if extra not in discover.pyproject()["project"]["optional-dependencies"]:
        raise BookError(f"{chapter} needs an extra `{extra}` in pyproject.toml first")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BookError(f"NAME={name} is not of the form query_rewriting")
    present = [recipe for recipe in discover.recipes() if recipe.chapter == chapter]
    if any(recipe.path.stem[3:] == name for recipe in present):
        raise BookError(f"{chapter} has a recipe {name} already")
    at = len(present) + 1 if at is None else at
    if not 1 <= at <= len(present) + 1:
        raise BookError(
            f"AT={at}: {chapter} has {len(present)} recipes, so 1 to {len(present) + 1}"
        )
    renames = {}
    for number, recipe in enumerate(present, 1):
        if number >= at:
            renames[recipe.name] = f"{chapter}/{number + 1:02}_{recipe.path.stem[3:]}"
    return discover.ROOT / chapter / f"{at:02}_{name}.ipynb", renames


def move(old: str, new: str) -> None:
    """Rename a notebook, through git where git knows it."""
    source, target = (discover.ROOT / f"{name}.ipynb" for name in (old, new))
    moved = subprocess.run(["git", "mv", source, target], cwd=discover.ROOT, capture_output=True)
    if moved.returncode != 0:
        source.rename(target)


def text_files() -> list[Path]:
    """The book's own text files: what git knows or would add, or all outside hidden folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=discover.ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [discover.ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in discover.ROOT.rglob("*") if ".venv" not in path.parts]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def mend(text: str, folder: Path, renames: dict[str, str]) -> str:
    """One file's text with the old names replaced by the new ones, all in one pass.

    `02_rag/03_x` is mended everywhere, `03_x.ipynb` in the chapter's own folder, "recipe 2.3" in
    prose, and in links that begin with a number the number follows the target.
    """
    stems = {old.partition("/")[2]: new.partition("/")[2] for old, new in renames.items()}
    numbers = {number_of(old): number_of(new) for old, new in renames.items()}
    chapter = next(iter(renames)).partition("/")[0]
    text = replace(text, r"(?<![\w-])", renames, r"(?![\w-])")
    if folder == discover.ROOT / chapter:
        text = replace(text, r"(?<![\w/-])(?:\./)?", stems, r"(?=\.ipynb)")
    return replace(text, r"(?<=[Rr]ecipe )", numbers, r"(?![\w.]*\d)")


def replace(text: str, before: str, names: dict[str, str], after: str) -> str:
    """Replace every key of `names` that stands between the two patterns by its value."""
    pattern = f"({before})({'|'.join(map(re.escape, names))}){after}"
    return re.sub(pattern, lambda match: match[1] + names[match[2]], text)


def number_of(name: str) -> str:
    """`02_rag/03_x` -> `2.3`."""
    return Recipe(discover.ROOT / f"{name}.ipynb").number


def renumber_links(text: str, folder: Path) -> str:
    """Links such as `[2.3 Title](03_title.ipynb)`, with the numbers that their targets now have."""

    def current(match: re.Match) -> str:
        found = discover.find(folder / match["target"])
        number = found.number if found else match["number"]
        return f"[{number}{match['text']}]({match['target']}"

    return LINK.sub(current, text)


def link(recipe: Recipe, word: str, target: Recipe) -> None:
    """Make `Previous: [...](...)` or `Next: [...](...)` at the end of a recipe lead to `target`."""
    nb = recipe.read()
    path = os.path.relpath(target.path, recipe.path.parent)
    wanted = f"[{target.number} {target.title}]({path})"
    present = re.compile(rf"\b{word}\b([^\[\n]*)\[[^\]\n]*\]\([^)\s]+\.ipynb\)")
    cells = [cell for cell in nb.cells if cell.cell_type == "markdown"]
    for cell in reversed(cells):
        if present.search(cell.source):
            cell.source = present.sub(lambda match: f"{word}{match[1]}{wanted}", cell.source)
            break
    else:
        cells[-1].source += f"\n\n{word}: {wanted}"
    recipe.path.write_text(normalise.dumps(nb), encoding="utf-8")


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser(
        "new-recipe",
        help="start a recipe from the template",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument("chapter", help="the chapter's folder, such as 02_rag")
    parser.add_argument("name", help="the file's name without number, such as query_rewriting")
    parser.add_argument("--at", type=int, help="its number in the chapter (default: the last)")
    parser.add_argument("--title", help="its heading (default: from the name)")
    return parser


def main(args: argparse.Namespace) -> int:
    """Make room, mend what refers to the moved recipes, write the new one."""
    path, renames = place(args.chapter, args.name, args.at)
    for old, new in sorted(renames.items(), reverse=True):
        move(old, new)
    if renames:
        for file in text_files():
            text = file.read_text(encoding="utf-8")
            mended = renumber_links(mend(text, file.parent, renames), file.parent)
            if mended != text:
                file.write_text(mended, encoding="utf-8")
    path.parent.mkdir(exist_ok=True)
    nb = template(args.title or args.name.replace("_", " ").capitalize())
    path.write_text(normalise.dumps(nb), encoding="utf-8")
    order = discover.recipes()
    here = order.index(Recipe(path))
    for before, after in pairwise(order[max(here - 1, 0) : here + 2]):
        link(before, "Next", after)
        link(after, "Previous", before)
    for recipe in discover.recipes():
        normalise.clean(recipe.path)
    table.main(argparse.Namespace(check=False))
    for old, new in renames.items():
        print(f"moved {old} to {new.partition('/')[2]}")
    print(f"wrote {path.relative_to(discover.ROOT)}: search it for TODO")
    return 0
