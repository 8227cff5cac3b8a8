"""The first cell of every recipe: it makes Colab ready, and does nothing elsewhere."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import sample
from nbclient import NotebookClient

from utils import colab
from utils.book import discover, install, repository
from utils.book.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
FORK = "https://github.com/me/my.fork"
FLAGSHIP = ROOT / "02_rag" / "01_rag_from_scratch.ipynb"


def test_every_recipe_starts_with_the_setup_cell_of_its_chapter(recipe):
    nb = recipe.read()
    first = next(cell for cell in nb.cells if cell.cell_type == "code")
    assert first.source == repository.setup_cell(recipe.chapter.partition("_")[2])
    assert first.metadata.tags == ["setup"]
    assert repository.badge(recipe.path.relative_to(ROOT)) in nb.cells[0].source


@pytest.mark.parametrize("chapter", sorted(ROOT.glob("[0-9][0-9]_*/")), ids=lambda p: p.name)
def test_every_chapter_has_an_extra(chapter):
    assert colab.requirements(chapter.name.partition("_")[2])


def test_nothing_happens_outside_colab(tmp_path):
    """No process could be started, no file is written, and the interpreter stays as it was."""
    code = (
        "import os, sys, subprocess\n"
        "before = list(sys.path), set(sys.modules), os.getcwd()\n"
        f"{repository.setup_cell('rag')}\n"
        "assert (list(sys.path), set(sys.modules), os.getcwd()) == before\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "COLAB_RELEASE_TAG"} | {"PATH": ""}
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, env=env, check=True)
    assert not list(tmp_path.iterdir())


def test_a_package_replaced_under_the_kernel_asks_for_a_restart(monkeypatch):
    monkeypatch.setattr(colab, "install", lambda wanted: None)
    monkeypatch.setattr(colab, "loaded", lambda: {"numpy": "1.0", "pytest": pytest.__version__})
    with pytest.raises(RuntimeError, match=r"^numpy had been loaded .* Restart session"):
        colab.prepare("rag")


def test_loaded_names_distributions_not_modules():
    found = colab.loaded()
    assert found["pytest"] == pytest.__version__ and "nbformat" in found
    assert "yaml" not in found


@pytest.fixture
def colab_machine(tmp_path, monkeypatch):
    """A Python as on Colab: torch, and older numpy and pandas than the lock, a stub google.colab."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    lock = ROOT / "requirements.lock"
    installer = install.Installer(venv, lock)
    install.install_torch(installer, lock, install.TORCH_CPU_INDEX)
    there = ["numpy<2.4", "pandas<3", "ipykernel<7.3", "packaging", "requests<2.33", "tqdm<4.68"]
    installer.install("--quiet", *there)
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    python = str(venv / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return installer


def served_copy(folder: Path) -> Path:
    """A git repository with the book as it is on disk, which may be ahead of the last commit."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def imports_of(nb) -> str:
    """All import statements of a notebook, as one cell."""
    trees = (ast.parse(cell.source) for cell in discover.code_cells(nb)[1:])
    found = [
        n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(dict.fromkeys(map(ast.unparse, found)))


@pytest.mark.network
def test_a_lone_notebook_gets_ready_on_a_simulated_colab(colab_machine, tmp_path):
    content = tmp_path / "content"
    content.mkdir()
    source = served_copy(tmp_path / "served")
    versions = "{d.name.lower(): d.version for d in importlib.metadata.distributions()}"
    setup = repository.setup_cell("rag").replace('"/content/', f'"{content}/')
    cells = [
        f"import importlib.metadata\nbefore = {versions}",
        setup,
        imports_of(nbformat.read(FLAGSHIP, as_version=4)),
        setup,  # people run it again
        f"import json, torch, utils\nafter = {versions}\n"
        "print(json.dumps([before, after, torch.__version__, utils.__file__, os.getcwd()]))",
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    env = install.uv_environment(colab_machine.settings) | {
        "COLAB_RELEASE_TAG": "release-colab-test",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{source.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository.address(),
    }
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS", "VIRTUAL_ENV", "PYTHONPATH"):
        env.pop(name, None)  # Colab's torch comes from nowhere else either
    resources = {"metadata": {"path": str(content)}}
    NotebookClient(nb, kernel_name="colab", resources=resources, timeout=300).execute(env=env)

    before, after, torch_version, utils_file, folder = json.loads(nb.cells[-1].outputs[-1].text)
    kept = {"torch", "numpy", "pandas", "ipykernel", "ipython"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert torch_version == before["torch"] and before["numpy"].startswith("2.3")
    assert "transformers" not in before and "transformers" in after and "chromadb" in after
    assert "jupyterlab" not in after and "peft" not in after, "Colab needs neither"
    assert not [name for name in after if name.startswith("nvidia-")]
    book = content / repository.address().rsplit("/", 1)[1]
    assert Path(utils_file) == book / "utils" / "__init__.py"
    assert Path(folder) == book / "02_rag"


def test_set_repository_rewrites_every_place_and_no_other(book):
    """A fork's address reaches pyproject, badges, setup cells and prose; outputs stay."""
    old = repository.address()
    book.write("02_rag/01_counting", sample())
    other = "https://github.com/owner/small-book-extras"
    readme = f"[code]({old}), [issues]({old}/issues), `git clone {old}.git`, not [this]({other})\n"
    table = "<!-- recipes -->\n<!-- /recipes -->\n"
    (book.root / "README.md").write_text(readme + table)
    chapter = book.root / "02_rag" / "README.md"
    chapter.write_text(f'  click r2_1 href "{old}/blob/main/02_rag/01_counting.ipynb"\n')
    assert main(["set-repository", f"{FORK}/"]) == 0
    assert f'"{FORK}/blob/main/' in chapter.read_text()
    assert repository.address() == FORK
    assert (book.root / "README.md").read_text() == (
        f"[code]({FORK}), [issues]({FORK}/issues), `git clone {FORK}.git`, not [this]({other})\n"
        + table
    )
    [recipe] = discover.recipes()
    nb = recipe.read()
    [setup] = discover.tagged(nb, "setup")
    assert f'"{FORK}"' in setup.source and "/content/my.fork" in setup.source
    badge = "https://colab.research.google.com/github/me/my.fork/blob/main/02_rag/01_counting.ipynb"
    assert badge in nb.cells[0].source
    assert old not in recipe.path.read_text()
    before = recipe.path.read_text()
    assert main(["set-repository"]) == 0
    assert recipe.path.read_text() == before


@pytest.mark.parametrize("url", ["git@github.com:me/fork", "https://example.org/me/fork", "fork"])
def test_set_repository_refuses_what_colab_cannot_open(book, capsys, url):
    assert main(["set-repository", url]) == 2
    assert "is not of the form https://github.com/OWNER/NAME" in capsys.readouterr().err
