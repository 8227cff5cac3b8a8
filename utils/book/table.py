"""`table`: write the README's table of recipes, between `<!-- recipes -->` and `<!-- /recipes -->`, its reading paths and picture;
the chapters' pages and the indexes (see pages.py), the Chinese pages (see chinese.py); and the leaderboard of chapter 2, from its `leaderboard.json`.

Everything in the README comes from the notebooks: title, metadata, what the claims cell printed after `Measured:`,
and the plot of the cell tagged `picture`.
"""

import base64
import re
from itertools import groupby

from . import BookError, chinese, discover, frontmatter, pages
from .discover import Recipe

PICTURE = "docs/picture.png"
BLOCK = re.compile(r"(<!-- recipes -->\n).*?(<!-- /recipes -->)", re.DOTALL)
PATHS = re.compile(r"(<!-- paths -->\n).*?(<!-- /paths -->)", re.DOTALL)


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "table",
        help="write the README's table of recipes",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the table is out of step"
    )


def main(args) -> int:
    path = discover.ROOT / "README.md"
    present = path.read_text(encoding="utf-8")
    if not BLOCK.search(present):
        raise BookError(
            f"{path} has no place for the table: the lines <!-- recipes --> and <!-- /recipes -->"
        )
    text = BLOCK.sub(lambda match: f"{match[1]}{tables()}{match[2]}", present)
    text = PATHS.sub(lambda match: f"{match[1]}{pages.paths()}{match[2]}", text)
    if not (leaderboard_page(args.check) and generated_pages(args.check)):
        return 1
    image, drawn = discover.ROOT / PICTURE, picture()
    if text == present and (drawn is None or (image.exists() and image.read_bytes() == drawn)):
        return 0
    if args.check:
        print(
            "the README's table, paths or picture are not what the notebooks and docs/book.toml say: python -m utils.book table"
        )
        return 1
    path.write_text(text, encoding="utf-8")
    if drawn is not None:
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(drawn)
    return 0


def generated_pages(check: bool) -> bool:
    """Write the chapters' pages and the indexes; False if one has to change and `check` is set."""
    if not (discover.ROOT / "docs" / "book.toml").exists():
        return True  # a small book has no other pages
    for name, text in (pages.pages() | chinese.made()).items():
        path = discover.ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(
                f"{name} is not what the notebooks, docs/book.toml and docs/zh.toml say: python -m utils.book table"
            )
            return False
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return True


def leaderboard_page(check: bool) -> bool:
    """Write the chapter's page and its plot if the rows say something new; False if they do and `check` is set."""
    rows = discover.ROOT / "02_rag" / "leaderboard.json"
    if not rows.exists():
        return True
    from utils import leaderboard

    page, text = rows.with_name("leaderboard.md"), leaderboard.page(rows)
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return True
    if check:
        print(f"{page} is not what {rows.name} says: python -m utils.book table")
        return False
    page.write_text(text, encoding="utf-8")
    (discover.ROOT / "docs").mkdir(exist_ok=True)
    leaderboard.draw(rows).savefig(discover.ROOT / "docs" / "leaderboard.png")
    return True


def picture() -> bytes | None:
    """The plot of the first cell tagged `picture`, a PNG."""
    for recipe in discover.recipes():
        for cell in discover.tagged(recipe.read(), "picture"):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    return None


def tables() -> str:
    """One table per chapter."""
    parts = []
    for chapter, group in groupby(discover.recipes(), key=lambda recipe: recipe.chapter):
        number, _, key = chapter.partition("_")
        title = discover.CHAPTERS.get(key, key.replace("_", " ").capitalize())
        rows = "".join(row(recipe) for recipe in group)
        parts.append(f"\n### {int(number)}. {title}\n\n| Recipe | You learn | Measured | CPU time | Memory |\n"
                     f"|---|---|---|---|---|\n{rows}\n")  # fmt: skip
    return "".join(parts).lstrip("\n")


def row(recipe: Recipe) -> str:
    """One recipe's line."""
    cost = recipe.meta.get("measured", {})
    columns = (
        f"[{recipe.number} {recipe.title}]({recipe.name}.ipynb)",
        recipe.meta.get("learn", ""),
        discover.measured(recipe.raw),
        frontmatter.seconds(cost),
        frontmatter.memory(cost),
    )
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |\n"
