"""The chapters' pages and the indexes: by task, by term, by paper, by interview question.

Read from the notebooks (titles, measured results, times, prerequisites, papers, interview questions) and from
`docs/book.toml` (what no notebook says). `python -m utils.book table` writes them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from . import BookError, discover, frontmatter, repository
from .discover import Recipe

ASKED = re.compile(r"^[*(]*Asked in interviews", re.MULTILINE)
QUESTION = re.compile(r"\*(?:Asked in interviews: )?([^*]{10,}?\?)\*")
IN_LIST = re.compile(
    r"^\d+\. (?:\*An interviewer asks:\*|\([^)]*interview[^)]*\)) (.+?)\n\n",
    re.MULTILINE | re.DOTALL,
)
PAPER = re.compile(
    r"\[([^\]]+)\]\((https?://(?:arxiv\.org|doi\.org|aclanthology\.org|papers\.nips\.cc)[^)\s]*)\)"
)


def pages() -> dict[Path, str]:
    """Every page that is made, by its path in the book."""
    book, recipes = read(), discover.recipes()
    known = {recipe.number: recipe for recipe in recipes}
    made = {Path("docs") / f"{name}.md": text for name, text in indexes(book, known).items()}
    for chapter in sorted({recipe.chapter for recipe in recipes}):
        inside = [recipe for recipe in recipes if recipe.chapter == chapter]
        made[Path(chapter) / "README.md"] = chapter_page(
            inside, book["chapters"][inside[0].extra], known
        )
    return made


def read() -> dict:
    """`docs/book.toml`."""
    return tomllib.loads((discover.ROOT / "docs" / "book.toml").read_text(encoding="utf-8"))


def link(recipe: Recipe, folder: str = "..") -> str:
    """A link to a recipe, from a page in `folder`."""
    return f"[{recipe.number} {recipe.title}]({folder}/{recipe.name}.ipynb)"


def chosen(numbers: Iterable[str], known: dict[str, Recipe]) -> list[Recipe]:
    """The recipes with these numbers.

    Raises:
        BookError: one of them is not in the book.
    """
    numbers = list(numbers)
    if missing := [number for number in numbers if number not in known]:
        raise BookError(
            f"docs/book.toml names recipe {', '.join(missing)}, which the book does not have"
        )
    return [known[number] for number in numbers]


# --- a chapter -----------------------------------------------------------------


def chapter_page(recipes: list[Recipe], words: dict, known: dict[str, Recipe]) -> str:
    """Questions, recipes with what they measured, what builds on what."""
    chapter = recipes[0].chapter
    asked = [(question, *chosen([number], known)) for question, number in words["questions"]]
    parts = [
        f"# {int(chapter[:2])}. {discover.CHAPTERS[recipes[0].extra]}",
        words["text"],
        "## Questions that it answers",
        "\n".join(f"- {question} {link(recipe)}" for question, recipe in asked),
        "## Recipes in reading order",
        "| Recipe | Measured | CPU time | Memory |\n|---|---|---|---|\n"
        + "\n".join(row(recipe) for recipe in recipes),
        "CPU time and peak memory are those of the committed run, on two cores without a GPU.",
        "## What builds on what",
        f"```mermaid\n{graph(recipes)}\n```",
    ]
    if (discover.ROOT / chapter / "leaderboard.json").exists():
        parts += [
            "## Leaderboard",
            "All techniques of the chapter on the same questions: [leaderboard](leaderboard.md).",
        ]
    return "\n\n".join(parts) + "\n"


def row(recipe: Recipe) -> str:
    """One recipe's line."""
    cost = recipe.meta.get("measured", {})
    columns = (
        link(recipe),
        discover.measured(recipe.raw).replace("|", "\\|"),
        frontmatter.seconds(cost),
        frontmatter.memory(cost),
    )
    return "| " + " | ".join(columns) + " |"


def graph(recipes: list[Recipe], titles: dict[str, str] | None = None) -> str:
    """The prerequisites inside of the chapter and into it, for Mermaid; `titles` by number, if not the English ones."""
    nodes, edges = dict[str, Recipe](), []
    for recipe in recipes:
        nodes[recipe.number] = recipe
        for name in recipe.meta.get("needs", []):
            for needed in discover.resolve(name):
                nodes[needed.number] = needed
                edges.append(f"  {node(needed)} --> {node(recipe)}")
    boxes = [box(recipe, titles) for recipe in nodes.values()]
    return "\n".join(["graph LR", *boxes, *edges, *map(click, nodes.values())])


def node(recipe: Recipe) -> str:
    """A recipe's name in a Mermaid graph, such as `r2_6`."""
    return f"r{recipe.number.replace('.', '_')}"


def box(recipe: Recipe, titles: dict[str, str] | None) -> str:
    """A recipe in a Mermaid graph."""
    return f'  {node(recipe)}["{label(recipe, titles)}"]'


def click(recipe: Recipe) -> str:
    """What makes a recipe's box a link; Mermaid on GitHub follows whole addresses only."""
    return f'  click {node(recipe)} href "{repository.address()}/blob/main/{recipe.name}.ipynb"'


def label(recipe: Recipe, titles: dict[str, str] | None) -> str:
    """Number and title, the latter from `titles` (by number) or the English one's part before the colon, which fits into a box."""
    title = (titles or {}).get(recipe.number) or recipe.title.split(":")[0].replace('"', "'")
    return f"{recipe.number} {title}"


# --- the reading paths ---------------------------------------------------------


def paths(chinese: dict[str, str] | None = None) -> str:
    """Each reading path as links, and the same as a map; with the Chinese titles by number, in Chinese."""
    known = {recipe.number: recipe for recipe in discover.recipes()}
    parts = []
    for path in read()["paths"]:
        stages = [
            (zh if chinese else name, chosen(numbers, known))
            for name, zh, numbers in path["stages"]
        ]
        steps = {
            name: ", ".join(
                f"[{label(recipe, chinese)}]({recipe.name}.ipynb)" for recipe in recipes
            )
            for name, recipes in stages
        }
        lines = [f"- **{name}**: {links}" for name, links in steps.items()]
        parts += [
            f"### {path['zh' if chinese else 'name']}",
            "\n".join(lines),
            f"```mermaid\n{path_map(stages, chinese)}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def path_map(stages: list[tuple[str, list[Recipe]]], titles: dict[str, str] | None) -> str:
    """Stages from top to bottom, the recipes of each from left to right, for Mermaid."""
    lines = ["graph TB"]
    for number, (name, recipes) in enumerate(stages, 1):
        boxes = ["  " + box(recipe, titles) for recipe in recipes]
        steps = " --> ".join(map(node, recipes))
        lines += [
            f'  subgraph s{number}["{number}. {name}"]',
            "    direction LR",
            *boxes,
            f"    {steps}",
            "  end",
        ]
    lines.append("  " + " --> ".join(f"s{number}" for number in range(1, len(stages) + 1)))
    return "\n".join([*lines, *(click(recipe) for _, recipes in stages for recipe in recipes)])


# --- indexes -------------------------------------------------------------------


def indexes(book: dict, known: dict[str, Recipe]) -> dict[str, str]:
    """Name of the page to its text."""
    return {
        "tasks": tasks(book["tasks"], known),
        "glossary": glossary(book["terms"], known),
        "papers": papers(list(known.values())),
        "interviews": interviews(list(known.values())),
    }


def tasks(entries: list[dict], known: dict[str, Recipe]) -> str:
    """What a reader has, and the recipes that help."""
    rows = []
    for entry in entries:
        helpful = ", ".join(link(recipe) for recipe in chosen(entry["recipes"], known))
        rows.append(f"| {entry['have']} | {entry['zh']} | {helpful} |")
    return "# By task\n\nWhat is wrong, and where to look, the likeliest recipe first.\n\n" + table(
        ("You have", "你遇到的问题", "Recipes"), rows
    )


def glossary(entries: list[dict], known: dict[str, Recipe]) -> str:
    """Terms in English and Chinese, each with the recipe that explains it."""
    rows = []
    for entry in sorted(entries, key=lambda entry: entry["term"].lower()):
        where = link(*chosen([entry["recipe"]], known))
        rows.append(
            f"| **{entry['term']}** | {entry['zh']} | {entry['text']}<br>{entry['zh_text']} | {where} |"
        )
    return "# Glossary\n\nThe book's terms in English and Chinese (术语表).\n\n" + table(
        ("Term", "中文", "Meaning 释义", "Explained in"), rows
    )


def papers(recipes: list[Recipe]) -> str:
    """The papers that recipes name, each once, with all recipes that do."""
    found: dict[str, tuple[str, list[Recipe]]] = {}
    for recipe in recipes:
        for title, address in PAPER.findall(prose(recipe)):
            _, where = found.setdefault(address, (" ".join(title.split()), []))
            if recipe not in where:
                where.append(recipe)
    lines = [
        f"- [{title}]({address}): {', '.join(link(recipe) for recipe in where)}"
        for address, (title, where) in sorted(found.items(), key=lambda item: item[1][0].lower())
    ]
    return (
        "# By paper\n\nThe papers that the recipes build, check or contradict.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def interviews(recipes: list[Recipe]) -> str:
    """What interviewers ask, by chapter; the answers stand in the recipes."""
    parts, chapter = ["# By interview question\n\nThe answers stand at the end of the recipes."], ""
    for recipe in recipes:
        questions = asked(recipe)
        if recipe.chapter != chapter and questions:
            chapter = recipe.chapter
            parts.append(f"\n## {int(chapter[:2])}. {discover.CHAPTERS[recipe.extra]}\n")
        parts += [f"- {question} {link(recipe)}" for question in questions]
    return "\n".join(parts) + "\n"


def asked(recipe: Recipe) -> list[str]:
    """The interview questions of a recipe: in its list of exercises, or after "Asked in interviews"."""
    text = prose(recipe)
    questions = IN_LIST.findall(text)
    if start := ASKED.search(text):
        questions += QUESTION.findall(text[start.start() :].split("\n## ")[0])
    joined = [" ".join(question.split()) for question in questions]
    return [question[0].upper() + question[1:] for question in joined]


def prose(recipe: Recipe) -> str:
    """All Markdown of a recipe."""
    cells = recipe.raw["cells"]
    return "\n\n".join(discover.source(cell) for cell in cells if cell["cell_type"] == "markdown")


def table(head: tuple[str, ...], rows: list[str]) -> str:
    """A Markdown table of finished rows."""
    return f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n" + "\n".join(rows) + "\n"
