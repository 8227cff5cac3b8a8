"""`set-repository`: write the repository's address into badges and Colab cells.

The address stands in pyproject.toml, under [project.urls]. A fork sets its own:
`make set-repository URL=https://github.com/me/my-fork`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from . import BookError, discover

COLAB = "https://colab.research.google.com"
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]*\w")
PROSE = ("*.md", "*/README*.md", "LICENSE-TEXT", "CITATION.cff")

SETUP = """\
# On Google Colab: fetch the book and install what is missing. Elsewhere this does nothing.
import os, subprocess, sys
if "COLAB_RELEASE_TAG" in os.environ:
    book, source = "/content/{name}", "{address}"
    if not os.path.isdir(book):
        subprocess.run(["git", "clone", "-q", "--depth", "1", source, book], check=True)
    sys.path.insert(0, book)
    from utils import colab
    colab.prepare("{extra}")
"""


def address() -> str:
    """The repository's address, such as `https://github.com/owner/name`."""
    return discover.pyproject()["project"]["urls"]["repository"]


def setup_cell(extra: str) -> str:
    """The source of a recipe's first code cell; `extra` is its chapter's extra, such as `rag`."""
    return SETUP.format(address=address(), name=address().rsplit("/", 1)[1], extra=extra).strip()


def badge(path: str | Path) -> str:
    """The badge that opens a notebook in Colab; `path` is relative to the book's folder."""
    target = f"{COLAB}{address().removeprefix('https:/').replace('/github.com', '/github')}"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({target}/blob/main/{Path(path).as_posix()})"


def replace_address(text: str, old: str, new: str) -> str:
    """`text` with links to the repository, and through Colab to its notebooks, pointing to `new`."""
    for host in ("https://github.com/", f"{COLAB}/github/"):
        there = re.escape(old.replace("https://github.com/", host))
        here = new.replace("https://github.com/", host)
        text = re.sub(there + r"(?![\w-]|\.(?!git\b)\w)", here, text)
    return text


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser(
        "set-repository",
        help="write the repository's address into badges and cells",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument("url", nargs="?", help="https://github.com/OWNER/NAME (default: as it is)")
    return parser


def main(args: argparse.Namespace) -> int:
    """Write the address wherever it stands."""
    from . import normalise

    new = (args.url or address()).rstrip("/").removesuffix(".git")
    if not ADDRESS.fullmatch(new):
        raise BookError(f"{new} is not of the form https://github.com/OWNER/NAME")
    old = address()
    prose = [path for pattern in PROSE for path in sorted(discover.ROOT.glob(pattern))]
    for path in (
        discover.ROOT / "pyproject.toml",
        *prose,
        *(recipe.path for recipe in discover.recipes()),
    ):
        text = path.read_text(encoding="utf-8")
        if (changed := replace_address(text, old, new)) != text:
            path.write_text(changed, encoding="utf-8")
    for recipe in discover.recipes():
        normalise.clean(recipe.path)
    print(f"badges and Colab cells point to {new}")
    return 0
