"""`run`: execute recipes from a clean kernel with papermill, measure them, hold them to their budgets.

Measured per notebook, and written to build/run.json:

- cpu_seconds: user and system time of the kernel and all its descendants, ended ones included. Budgets
  are those of the reference machine, which multiplies bfloat16; without that a recipe may take
  `WITHOUT_BFLOAT16` times as long;
- wall_seconds: from before the kernel starts until it is gone;
- peak_mb: the larger of the biggest process's own high-water mark (getrusage) and the sum of the
  resident memory of kernel and descendants, sampled twice a second (shared pages count in each).

Two notebooks run side by side with one thread each: on two cores four equal notebooks took 68 s
so, and 108 s one after the other with two threads.
"""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from utils import hardware

from . import BookError, changes, discover, repository
from .discover import Recipe

WITHOUT_BFLOAT16 = 4
"""Measured on a processor with AVX2 alone: passages are embedded in four times the CPU time, LoRA trains in twice."""


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "run",
        help="execute recipes from a clean kernel and measure them",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    add_arguments(parser)
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the results of the recipe, and write a page of it",
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="MIN",
        help="execute what a change has touched, and of the others what fits into so many minutes",
    )


def add_arguments(parser):
    """The options that `run` and `update` share."""
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="04_agents/01, a chapter (02_rag), or all"
    )
    parser.add_argument("--seed", type=int, help="run with another SEED")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set another name of the cell tagged `parameters`",
    )
    parser.add_argument(
        "--jobs", type=int, help="notebooks side by side (default: two if several are to run)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="wall time after which a notebook is killed (default: four budgets, at least 180 s)",
    )


def main(args) -> int:
    recipes = discover.resolve(args.recipe)
    results = run(recipes, parameters_of(args), args.jobs, args.timeout, args.within)
    if args.show:
        for recipe in recipes:
            show(recipe)
    return int(any(result["problem"] for result in results.values()))


def parameters_of(args) -> dict:
    """What `--seed` and `-p` ask for; values are read as Python literals, else as text."""

    def literal(text):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    seed = {} if args.seed is None else {"SEED": args.seed}
    return seed | {name: literal(value) for name, value in args.parameters}


def run(
    recipes: list[Recipe], parameters=None, jobs=None, timeout=None, within=None
) -> dict[str, dict]:
    """Execute the recipes, longest first; returns their results by name, and adds them to run.json.

    With `within` (minutes) those that a change has touched, longest first, then of the others what ends in
    time, judging by what it took when it was last updated.
    """
    check_parameters(recipes, parameters or {})
    cores = os.cpu_count() or 1
    jobs = jobs or min(2, cores, len(recipes))
    threads = os.environ.get("OMP_NUM_THREADS") or str(1 if jobs > 1 else cores)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "IPYTHONDIR": str(discover.ROOT / "build" / "ipython"),  # not the user's start-up files
    }

    required, optional = changes.in_order(recipes) if within else (recipes, [])
    deadline = time.monotonic() + 60 * (within or 0)

    def one(recipe):
        return recipe.name, execute(recipe, parameters or {}, timeout, environment)

    def if_it_fits(recipe):
        seconds = recipe.meta.get("measured", {}).get("wall_seconds", 0)
        if time.monotonic() + seconds < deadline:
            return one(recipe)
        recipe.executed.unlink(missing_ok=True)
        return recipe.name, None

    longest_first = sorted(required, key=lambda recipe: -recipe.meta.get("cpu_seconds", 0))
    pool = ThreadPoolExecutor(jobs)
    # Vectors of the corpus are made anew for each run, and shared by the recipes of a run.
    with tempfile.TemporaryDirectory(prefix="cookbook-vectors-") as vectors:
        environment.setdefault("COOKBOOK_VECTORS", vectors)
        try:
            done = [pool.map(one, longest_first), pool.map(if_it_fits, optional)]
            results = dict(result for results in done for result in results)
        finally:  # Ctrl-C does not wait: see __main__.py
            pool.shutdown(wait=False, cancel_futures=True)
    left_out = sorted(name for name, result in results.items() if result is None)
    results = {name: result for name, result in results.items() if result}
    path = discover.ROOT / "build" / "run.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(dict(sorted((known | results).items())), indent=1) + "\n")
    print(summary(results), flush=True)
    if left_out:
        print(f"\nleft out, for {within:g} minutes are over:", *left_out, sep="\n  ", flush=True)
    return results


def execute(recipe: Recipe, parameters: dict, timeout: float | None, environment: dict) -> dict:
    """Run one recipe in a process of its own (see job.py), saying which cell it is in."""
    budget = allowed(recipe.meta.get("cpu_seconds"))
    result = {
        "parameters": parameters,
        "cells": len(discover.code_cells(recipe.raw)),
        "claims": len(discover.asserts(recipe.raw)),
        "budget": budget,
        **dict.fromkeys(("cpu_seconds", "wall_seconds", "peak_mb")),
    }
    recipe.executed.parent.mkdir(parents=True, exist_ok=True)
    recipe.executed.unlink(missing_ok=True)
    spec = {
        "notebook": str(recipe.path),
        "output": str(recipe.executed),
        "cwd": str(recipe.path.parent),
        "parameters": parameters,
        "limit": timeout or max(180, 4 * (budget or 0)),
    }
    command = [sys.executable, "-m", "utils.book.job", json.dumps(spec)]
    log, started = recipe.executed.with_suffix(".log"), time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.0f} s  {recipe.name}  {text}", flush=True)

    say("starting a kernel")
    with log.open("w") as noise:
        job = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            start_new_session=True,
        )
        for line in job.stdout:
            event = json.loads(line)
            if "k" in event:
                say("cell {k}/{n}  {section:.60}".format(**event))
            else:
                result |= event
    code = job.wait()
    problem = result.get("problem", f"the runner ended with code {code}")
    if code or problem.startswith("the kernel died"):
        tail = log.read_text(errors="replace").splitlines()[-20:]
        problem = "\n".join([problem, f"--- the end of {log}", *tail])
    elif not problem and budget is None:
        problem = "metadata.cookbook.cpu_seconds, its budget, is missing"
    elif not problem and result["cpu_seconds"] > budget:
        problem = f"took {result['cpu_seconds']:.1f} CPU-seconds; its budget is {budget}"
    result["problem"] = problem
    say(verdict(result))
    return result


def allowed(budget: float | None) -> float | None:
    """CPU-seconds that a recipe may take on this machine, from its budget on the reference machine."""
    return budget and budget * (1 if hardware.multiplies_bfloat16() else WITHOUT_BFLOAT16)


def verdict(result: dict) -> str:
    return "FAIL" if result["problem"] else "pass"


def check_parameters(recipes: list[Recipe], parameters: dict) -> None:
    """papermill only logs a name that the notebook does not have; here it is an error."""
    if parameters:
        from papermill import inspect_notebook

        for recipe in recipes:
            names = set(inspect_notebook(recipe.path))
            if unknown := sorted(set(parameters) - names):
                raise BookError(
                    f"{recipe.name} has no parameter {', '.join(unknown)}; "
                    f"it has {', '.join(sorted(names)) or 'none'}"
                )


def summary(results: dict[str, dict]) -> str:
    """The problems in full, then one table."""
    width = max(map(len, results), default=len("recipe"))
    lines = [f"\nFAIL {name}: {r['problem']}" for name, r in results.items() if r["problem"]]
    heads = ("cells", "claims", "CPU s", "wall s", "peak MB")
    keys = ("cells", "claims", "cpu_seconds", "wall_seconds", "peak_mb")
    lines.append(f"\n{'recipe':{width}}" + "".join(f"{head:>9}" for head in heads))
    for name, result in sorted(results.items()):
        figures = ("-" if result[key] is None else f"{result[key]:,.0f}" for key in keys)
        lines.append(
            f"{name:{width}}" + "".join(f"{f:>9}" for f in figures) + f"  {verdict(result)}"
        )
    return "\n".join(lines)


def wide_table(cell: dict) -> str:
    """A table that pandas has cut into blocks of 80 columns, in one piece; empty if that does not fit or is not so."""
    [data] = [o.get("data", {}) for o in cell["outputs"]] if len(cell["outputs"]) == 1 else [{}]
    if "text/html" not in data or "\\\n" not in "".join(data["text/plain"]):
        return ""
    import pandas as pd

    [table] = pd.read_html(io.StringIO("".join(data["text/html"])), thousands=None)
    heads = [column if isinstance(column, tuple) else (column,) for column in table.columns]
    table.columns = [" ".join(h for h in head if not h.startswith("Unnamed: ")) for head in heads]
    text = table.to_string(index=False, na_rep="")
    return (
        text if len(text.partition("\n")[0]) <= shutil.get_terminal_size((160, 24)).columns else ""
    )


def show(recipe: Recipe) -> None:
    """Print what the executed copy measured and its cell tagged `results`, and make an HTML page of it."""
    if not recipe.executed.exists():
        return
    import nbformat
    from nbconvert import HTMLExporter

    nb = nbformat.read(recipe.executed, as_version=4)
    print(f"\n{recipe.number} {recipe.title}\n\nMeasured in this run: {discover.measured(nb)}")
    for cell in discover.tagged(nb, "results"):
        print("\n" + (wide_table(cell) or discover.output_text(cell).strip("\n")))
    html, _ = HTMLExporter().from_notebook_node(nb)
    # The page lies elsewhere than the notebook
    here = f"{repository.address()}/blob/main/{recipe.chapter}/"
    html = re.sub(r'(<a href=")(?!https?:|#|mailto:)', rf"\1{here}", html)
    # Only MathJax and Mermaid stay: without a network the page then shows their source, and all the rest.
    html = re.sub(r'<script src="[^"]*require[^"]*"></script>', "", html)
    page = recipe.executed.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    print(f"\nexecuted notebook: {recipe.executed}\npage to read:      {page}")
