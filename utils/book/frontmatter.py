"""The parts of a notebook that are written by machine: its number, badge, at-a-glance table, setup cell."""

import os
import re

from . import discover, repository
from .discover import Recipe

BLOCK = re.compile(r"<!-- at-a-glance -->.*?<!-- /at-a-glance -->", re.DOTALL)


def dress(nb, recipe: Recipe) -> None:
    """Write number, badge, table and setup cell of a recipe in place; a second time changes nothing."""
    first = nb.cells[0]
    first.source = re.sub(r"\A# (?:\d+\.\d+ )?", f"# {recipe.number} ", first.source)
    badge = repository.badge(f"{recipe.name}.ipynb")
    block = f"<!-- at-a-glance -->\n{badge}\n\n{at_a_glance(nb, recipe)}\n<!-- /at-a-glance -->"
    first.source = BLOCK.sub(lambda _: block, first.source)
    for cell in discover.tagged(nb, "setup"):
        cell.source = repository.setup_cell(recipe.extra)


def at_a_glance(nb, recipe: Recipe) -> str:
    """What the recipe costs (as measured by `update`) and needs."""
    meta = nb.metadata.get("cookbook", {})
    cost = meta.get("measured", {})
    models = ", ".join(
        f"[{name.split('/')[-1]}](https://huggingface.co/{name})" for name in meta.get("models", [])
    )
    return (
        "| CPU time | Peak memory | GPU | Network | Models | Know first |\n|---|---|---|---|---|---|\n"
        f"| {seconds(cost)} | {memory(cost)} | not needed | not needed | {models or 'none'} | {know_first(meta, recipe)} |"
        f"{verified(cost)}"
    )


def verified(cost: dict) -> str:
    """When `update` last executed it; nothing for a recipe that never ran."""
    return (
        f"\n\nLast verified: {cost['on']}, executed from top to bottom; all claims held."
        if "on" in cost
        else ""
    )


def know_first(meta: dict, recipe: Recipe) -> str:
    """Links to the recipes that this one builds on."""
    needed = [found for name in meta.get("needs", []) for found in discover.resolve(name)]
    return (
        ", ".join(
            f"[{r.number} {r.title}]({os.path.relpath(r.path, recipe.path.parent)})" for r in needed
        )
        or "-"
    )


def seconds(cost: dict) -> str:
    """`24 s`, `3 min`: CPU time for a reader."""
    value = cost.get("cpu_seconds")
    return (
        "not measured"
        if value is None
        else f"{value:.0f} s"
        if value < 100
        else f"{value / 60:.1f} min"
    )


def memory(cost: dict) -> str:
    """`0.8 GB`."""
    return f"{cost['peak_mb'] / 1000:.1f} GB" if "peak_mb" in cost else "not measured"
