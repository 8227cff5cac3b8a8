"""A recipe as people open it: JupyterLab in a real browser, Run All, read the table."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page

from utils import hardware
from utils.book import discover, hygiene, normalise, repository

ROOT = Path(__file__).resolve().parents[1]
# Ten minutes on a core without bfloat16: there a shorter one
FLAGSHIP = Path("02_rag/01_rag_from_scratch.ipynb")
RECIPE = FLAGSHIP if hardware.multiplies_bfloat16() else Path("02_rag/03_document_loading.ipynb")
WHOLE_NOTEBOOK = '{"windowingMode": "none"}'  # every cell is on the page, in view or not
NO_NEWS = '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}'
PROMPTS = ".jp-CodeCell .jp-InputArea-prompt"  # "[ ]:", while it waits or runs "[*]:", then "[3]:"
FINISHED = """prompts => {
    const texts = [...document.querySelectorAll(prompts)].map(prompt => prompt.innerText);
    const over = texts.some(text => /\\d/.test(text)) && !texts.some(text => text.includes('*'));
    return over || document.querySelector('.jp-Dialog');
}"""


@pytest.fixture
def lab(tmp_path):
    """JupyterLab with nobody's settings on a copy of the recipe without outputs: its address, the copy."""
    folder = tmp_path / "book"
    shutil.copytree(ROOT / RECIPE.parent, folder / RECIPE.parent)
    nb = nbformat.read(folder / RECIPE, as_version=4)
    for cell in discover.code_cells(nb):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(nb, folder / RECIPE)
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    for path, text in (
        (settings / "tracker.jupyterlab-settings", WHOLE_NOTEBOOK),
        (tmp_path / "config" / "labconfig" / "page_config.json", NO_NEWS),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"]
    options += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    log = tmp_path / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, log)
        yield f"http://127.0.0.1:{port}/doc/tree/{RECIPE}?token={token}", folder / RECIPE
    finally:
        server.terminate()  # which also ends its kernels
        server.wait(60)


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    """Until the server answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def run_all(page: Page, address: str, seconds: float) -> None:
    """Open the notebook, choose Run > Run All Cells, and wait until no cell is running; save."""
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=120_000)
    page.wait_for_selector("#jp-main-statusbar:has-text('| Idle')", timeout=120_000)
    page.click(".lm-MenuBar-item:has-text('Run')")
    page.click(".lm-Menu-item[data-command='runmenu:run-all']")
    page.wait_for_function(FINISHED, arg=PROMPTS, timeout=1000 * seconds)
    page.keyboard.press("Control+s")


def test_a_recipe_runs_in_jupyterlab(chromium, lab):
    page = chromium.new_page(viewport={"width": 1280, "height": 1500})
    page_errors, requests = [], []
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    committed = nbformat.read(ROOT / RECIPE, as_version=4)
    budget = committed.metadata.cookbook["cpu_seconds"]
    address, copy = lab
    before = copy.stat().st_mtime_ns
    try:
        run_all(page, address, seconds=max(300, 6 * budget))
    finally:
        (ROOT / "build").mkdir(exist_ok=True)
        page.screenshot(path=ROOT / "build" / "lab.png")
    assert page.locator(".jp-Dialog").all_inner_texts() == []
    while copy.stat().st_mtime_ns == before:  # the test's time limit ends this
        time.sleep(0.1)
    problems = list(hygiene.check_executed(nbformat.read(copy, as_version=4), None))
    assert not problems, problems
    assert page_errors == []
    own = (
        rf"(https?|wss?)://127\.0\.0\.1|data:|blob:|{re.escape(repository.COLAB)}/assets/"  # badge
    )
    assert [url for url in requests if not re.match(own, url)] == []

    cells = page.locator(".jp-Notebook .jp-Cell")
    assert cells.count() == len(committed.cells)
    [results] = discover.tagged(committed, "results")
    shown = cells.nth(committed.cells.index(results)).locator(".jp-OutputArea-output")
    text = "\n".join(shown.all_inner_texts())
    labels = set(re.findall(r"[A-Za-z][\w-]+", discover.output_text(results)))
    assert labels, "the cell tagged results has no committed output"
    assert labels <= set(re.findall(r"[A-Za-z][\w-]+", text)), text
    assert re.search(r"\d", text)
    assert normalise.text(results.outputs).count("<table") == shown.locator("table").count()
