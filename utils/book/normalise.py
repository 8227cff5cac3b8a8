"""`clean`: bring notebooks into the form in which they are committed.

Results stay; what changes from run to run goes: metadata of tools, stderr, widgets, papermill's
cells. An old output stays where the new one differs in nothing but memory addresses and timings, by no
more than a quarter, so that a new run changes only the lines that say something new.
"""

import hashlib
import math
import re
import subprocess
from pathlib import Path

import nbformat
from nbval.plugin import coalesce_streams, get_sanitize_patterns

from . import BookError, discover, frontmatter

VOLATILE = Path(__file__).parents[2] / "tests" / "nbval_sanitize.cfg"
"""What nbval does not compare; the one list of it."""

KEPT_CELL_METADATA = {"tags", "jupyter", "cellView"}
PAPERMILL_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
WIDGET = "application/vnd.jupyter.widget-view+json"
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}  # fmt: skip


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "clean",
        help="normalise notebooks for committing",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="NOTEBOOK",
        help="files or names of recipes (default: all recipes)",
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if something would be changed"
    )


def main(args) -> int:
    paths = []
    for name in args.paths or [""]:
        paths += (
            [Path(name)]
            if Path(name).is_file()
            else [recipe.path for recipe in discover.resolve(name)]
        )
    changed = [path for path in paths if clean(path, args.check)]
    return int(args.check and bool(changed))


def clean(path: Path, check: bool = False) -> bool:
    """Normalise one file, or only say that it is not; whether there was anything to do."""
    text = normalised(path, committed(path))
    if text == path.read_text(encoding="utf-8"):
        return False
    print(f"{'not normalised' if check else 'normalised'}: {path}")
    if not check:
        path.write_text(text, encoding="utf-8")
    return True


def normalised(path: Path, old=None) -> str:
    """The text that the notebook in this file should have."""
    try:
        nb = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises a different kind for each way to be broken
        raise BookError(f"{path} is not a notebook: {error}") from error
    tidy(nb, old)
    if recipe := discover.find(path):
        frontmatter.dress(nb, recipe)
    return dumps(nb)


def committed(path: Path):
    """The notebook as it is in git's last commit, or None."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{path.name}"], cwd=path.resolve().parent, capture_output=True
    )
    return nbformat.reads(shown.stdout.decode(), as_version=4) if shown.returncode == 0 else None


def tidy(nb, old=None) -> None:
    """Normalise a notebook in place; `old` is the version whose equal outputs are kept."""
    kept = {cell.source: cell for cell in old.cells if cell.cell_type == "code"} if old else {}
    nb.cells = [
        cell for cell in nb.cells if not PAPERMILL_TAGS & set(cell.metadata.get("tags", []))
    ]
    for index, cell in enumerate(nb.cells):
        cell.setdefault("id", hashlib.md5(f"{index}{cell.source}".encode()).hexdigest()[:8])
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA and v}
        )
    count = 0
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = outputs_of(cell)
        before = kept.get(cell.source)
        if before is not None and cell.outputs:
            before.execution_count = cell.execution_count
            if same(text(outputs_of(before)), text(cell.outputs)):
                cell.outputs = outputs_of(before)
    book = {"cookbook": nb.metadata["cookbook"]} if "cookbook" in nb.metadata else {}
    nb.metadata = nbformat.from_dict(METADATA | book)
    nb.nbformat, nb.nbformat_minor = 4, 5


def outputs_of(cell) -> list:
    """The cell's outputs without stderr, widgets and overwritten lines; one piece per stream."""
    outputs = [
        o for o in cell.outputs if o.get("name") != "stderr" and WIDGET not in o.get("data", {})
    ]
    outputs = [o for o in coalesce_streams(outputs) if o.output_type != "stream" or o.text.strip()]
    for output in outputs:
        output.pop("transient", None)
        if output.output_type == "execute_result":
            output.execution_count = cell.execution_count
    return outputs


def text(value) -> str:
    """All that outputs say, line by line in a fixed order."""
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{text(value[key])}" for key in sorted(value))
    return "\n".join(map(text, value)) if isinstance(value, list) else str(value)


def same(old: str, new: str) -> bool:
    """Whether two texts differ in volatile parts only, and those by no more than a quarter."""
    numbers = zip(NUMBER.findall(old), NUMBER.findall(new), strict=False)
    return mask(old) == mask(new) and all(
        math.isclose(float(a), float(b), rel_tol=0.25) for a, b in numbers
    )


def mask(value: str) -> str:
    """The text with addresses and timings replaced, exactly as nbval does it."""
    for pattern, replacement in get_sanitize_patterns(VOLATILE.read_text(encoding="utf-8")):
        value = re.sub(pattern, replacement, value)
    return value


def dumps(nb) -> str:
    """Deterministic JSON with a final newline."""
    return nbformat.writes(nb).rstrip("\n") + "\n"
