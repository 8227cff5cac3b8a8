"""What a committed recipe must look like: each check takes notebook and recipe, and yields what is wrong."""

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions

from . import discover, normalise
from .discover import Recipe, asserts, code_cells, tagged

MAX_BYTES = 1_000_000
MAX_LINES, MAX_RECIPE_LINES = 40, 60
MIN_WORDS = 500
DEBRIS = re.compile(r"\b\w*Warning:|(?:it/s|s/it)\]|\d%\||\r")
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:(?:home|Users|private|work|var/folders)/|(?:root|tmp)\b)|\b[A-Z]:\\+\w"
)
SECRET = re.compile(
    r"\bsk-[\w-]{20,}|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bAKIA[0-9A-Z]{16}"
    r"|\bAIza[\w-]{30,}|\bxox[abpr]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|\bBearer [\w.-]{30,}"
)
THERE_ANYWAY = sys.stdlib_module_names | {"utils", "IPython", "google"}  # google.colab, on Colab
DEPRECATED = {  # what must not be used -> what to use
    r"langchain\.(retrievers|chains|vectorstores|llms|text_splitter|document_loaders|schema|prompts|memory|hub)":
        "its package in LangChain 1.x (langchain_text_splitters, langchain_chroma, langchain_core ...)",
    r"langchain_community": "an integration package, or a few lines over langchain_core (it is being sunset)",
    r"initialize_agent|AgentExecutor|create_react_agent": "langchain.agents.create_agent",
    r"PPOTrainer": "RLOOTrainer or GRPOTrainer (TRL has no PPO trainer any more)",
    r"sentence_transformers\.losses": "sentence_transformers.sentence_transformer.losses",
    r"openai\.(ChatCompletion|Completion|Embedding)\b": "openai.OpenAI()",
    r"torch_dtype": "dtype (transformers 5)",
    r"pkg_resources": "importlib.metadata",
}  # fmt: skip


def check_valid(nb, recipe: Recipe) -> Iterator[str]:
    """Valid nbformat 4.5, with unique cell ids and at most one megabyte."""
    import nbformat

    ids = [cell.get("id") for cell in recipe.raw["cells"]]
    if len(set(ids)) < len(ids):
        yield "cell ids occur twice"
    try:
        nbformat.validate(recipe.raw)
    except nbformat.ValidationError as error:
        yield f"not valid: {str(error).splitlines()[0]}"
    if (nb.nbformat, nb.nbformat_minor) != (4, 5):
        yield f"nbformat {nb.nbformat}.{nb.nbformat_minor} instead of 4.5"
    if (size := recipe.path.stat().st_size) > MAX_BYTES:
        yield f"{size:,} bytes; at most {MAX_BYTES:,}"


def check_normalised(nb, recipe: Recipe) -> Iterator[str]:
    """A fixed point of `clean`: number, badge, at-a-glance table and setup cell included."""
    if normalise.normalised(recipe.path) != recipe.path.read_text(encoding="utf-8"):
        yield f"not normalised: python -m utils.book clean {recipe.name}"


def check_executed(nb, recipe: Recipe) -> Iterator[str]:
    """Committed from one clean run: counts 1..n, no errors but announced ones."""
    counts = [cell.execution_count for cell in code_cells(nb)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"
    for number, cell in enumerate(code_cells(nb), 1):
        if any(o.output_type == "error" for o in cell.outputs) and cell not in tagged(
            nb, "raises-exception"
        ):
            yield f"cell {number} shows an error without the tag raises-exception"


def check_outputs(nb, recipe: Recipe) -> Iterator[str]:
    """No stderr, warnings or progress bars among the outputs."""
    for number, cell in enumerate(code_cells(nb), 1):
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"cell {number} shows stderr"
        if found := DEBRIS.search(normalise.text(cell.outputs)):
            yield f"cell {number} shows a warning or a progress bar: {found[0]!r}"


def check_private(nb, recipe: Recipe) -> Iterator[str]:
    """No paths of one machine, no keys, in sources and outputs."""
    for number, cell in enumerate(nb.cells):
        shown = "\n".join([cell.source, *(text_of(output) for output in cell.get("outputs", []))])
        for what, pattern in (("machine path", MACHINE_PATH), ("secret", SECRET)):
            if found := pattern.search(shown):
                yield f"cell {cell.get('id', number)} has a {what}: {found[0][:12]}..."


def check_structure(nb, recipe: Recipe) -> Iterator[str]:
    """Title, tags, SEED, short cells, enough prose."""
    if not nb.cells or not re.match(r"# .+\n", nb.cells[0].source):
        yield "the first cell does not start with a title"
    if nb.cells and nb.cells[0].source.count("at-a-glance -->") != 2:
        yield "the first cell has no <!-- at-a-glance --> and <!-- /at-a-glance -->"
    for tag in ("setup", "parameters", "claims", "recipe"):
        if (count := len(tagged(nb, tag))) != 1:
            yield f"{count} cells are tagged {tag}; there must be one"
    for cell in tagged(nb, "parameters"):
        if not re.search(r"^SEED = \d+", cell.source, re.MULTILINE):
            yield "the parameters have no SEED"
    for number, cell in enumerate(code_cells(nb), 1):
        limit = MAX_RECIPE_LINES if cell in tagged(nb, "recipe") else MAX_LINES
        if (lines := len(cell.source.splitlines())) > limit:
            yield f"cell {number} has {lines} lines; at most {limit}"
    words = sum(
        len(re.findall(r"\w+", cell.source)) for cell in nb.cells if cell.cell_type == "markdown"
    )
    if words < MIN_WORDS:
        yield f"{words} words of prose; at least {MIN_WORDS}"
    for key in ("cpu_seconds", "learn", "models"):
        if key not in recipe.meta:
            yield f"metadata.cookbook.{key} is missing"


def check_claims(nb, recipe: Recipe) -> Iterator[str]:
    """Assertions that can fail, with messages, and the measured sentence."""
    if not asserts(nb):
        yield "the claims cell asserts nothing"
    for claim in asserts(nb):
        test = ast.unparse(claim.test)
        names = {node.id for node in ast.walk(claim.test) if isinstance(node, ast.Name)} - set(
            dir(builtins)
        )
        sides = (
            [claim.test.left, *claim.test.comparators]
            if isinstance(claim.test, ast.Compare)
            else []
        )
        if (
            not names
            or len({ast.dump(side) for side in sides}) == 1
            or isinstance(claim.test, ast.Tuple)
        ):
            yield f"this claim cannot fail: assert {test}"
        if claim.msg is None:
            yield f"this claim has no message: assert {test}"
    if not discover.measured(nb):
        yield "the claims cell did not print a line `Measured: ...`"


def check_names(nb, recipe: Recipe) -> Iterator[str]:
    """No undefined names."""
    from pyflakes.checker import Checker
    from pyflakes.messages import UndefinedName

    for message in Checker(ast.parse(code(nb)), builtins={"display", "get_ipython"}).messages:
        if isinstance(message, UndefinedName):
            yield f"undefined name {message.message_args[0]!r}"


def check_current(nb, recipe: Recipe) -> Iterator[str]:
    """No deprecated modules and names."""
    dotted = " ".join(imported(ast.parse(code(nb)))) + "\n" + code(nb)
    for pattern, instead in DEPRECATED.items():
        if found := re.search(rf"\b(?:{pattern})\b", dotted):
            yield f"{found[0]} is deprecated: use {instead}"


def check_imports(nb, recipe: Recipe) -> Iterator[str]:
    """Every import is declared in pyproject.toml, for all or for the chapter."""
    declared = declared_distributions(recipe.extra)
    names = {dotted.partition(".")[0] for dotted in imported(ast.parse(code(nb)))}
    own = {path.stem for path in recipe.path.parent.iterdir()}  # such as 05_deployment/service
    for name in sorted(names - own - THERE_ANYWAY):
        found = sorted(map(canonical, distributions().get(name, [])))
        if not declared.intersection(found):
            yield f"{name} ({' or '.join(found) or 'not installed'}) is not declared for {recipe.chapter}"


def check_links(nb, recipe: Recipe) -> Iterator[str]:
    """Relative links lead to files of the book."""
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
        targets = re.findall(r"\]\(<?([^)\s>]+)", prose) + re.findall(
            r"\b(?:href|src)=[\"']([^\"']+)", prose
        )
        for target in targets:
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path) and not (recipe.path.parent / path).exists():
                yield f"broken link: {target}"


def check_recipe_cell(nb, recipe: Recipe) -> Iterator[str]:
    """The recipe cell stands alone: nothing of `utils`, no names from other cells."""
    for cell in tagged(nb, "recipe"):
        if "utils" in {dotted.partition(".")[0] for dotted in imported(ast.parse(cell.source))}:
            yield "the recipe cell imports utils"


CHECKS = (check_valid, check_normalised, check_executed, check_outputs, check_private, check_structure, check_claims,
          check_names, check_current, check_imports, check_links, check_recipe_cell)  # fmt: skip


def problems(recipe: Recipe) -> list[str]:
    """All that is wrong with one recipe."""
    nb = recipe.read()
    return [f"{check.__name__}: {problem}" for check in CHECKS for problem in check(nb, recipe)]


def text_of(output) -> str:
    """An output's text, images left out."""
    data = {
        mime: value
        for mime, value in output.get("data", {}).items()
        if not mime.startswith("image/")
    }
    return normalise.text(output | {"data": data})


def code(nb) -> str:
    """The notebook as one Python text, magics and shell lines turned into calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    sources = (re.sub(r"^%%?time\b[ \t]*", "", cell.source, flags=re.M) for cell in code_cells(nb))
    return "\n".join(TransformerManager().transform_cell(source) for source in sources)


def imported(tree: ast.AST) -> set[str]:
    """Dotted names that are imported: `a.b` for `import a.b`, `a.b` and `a.b.c` for `from a.b import c`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def declared_distributions(extra: str) -> set[str]:
    """Names of the distributions in the base dependencies and in one extra."""
    project = discover.pyproject()["project"]
    lines = project["dependencies"] + project["optional-dependencies"].get(extra, [])
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def canonical(name: str) -> str:
    """`Scikit_Learn` -> `scikit-learn`."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> dict[str, list[str]]:
    """Import name -> distributions that provide it."""
    return dict(packages_distributions())
