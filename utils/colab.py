"""What a recipe's first cell runs on Google Colab, once the book is cloned there.

Colab comes with most of what the book needs, matched to its GPU. So only packages
that are missing or older than the book's floors are installed, and those that
Colab's own parts are built against are held at the versions it has.
"""

from __future__ import annotations

import importlib.metadata as metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from utils import servers

ROOT = Path(__file__).resolve().parents[1]

HELD = frozenset(
    "torch torchvision torchaudio triton numpy scipy pandas pyarrow scikit-learn matplotlib pillow "
    "protobuf jax jaxlib tensorflow ipython ipykernel jupyter-client traitlets tornado pyzmq "
    "google-colab".split()
)


def requirements(extra: str) -> list[str]:
    """What the notebooks of one chapter import: the project's dependencies and the chapter's extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + project["optional-dependencies"][extra]


def held() -> list[str]:
    """Colab's own versions as constraints, such as `numpy==2.0.2`."""
    installed = {canonical(found.name): found.version for found in metadata.distributions()}
    return sorted(f"{name}=={installed[name]}" for name in HELD & installed.keys())


def canonical(name: str) -> str:
    """A distribution's name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def install(wanted: list[str]) -> None:
    """Install with uv where it is there (seconds), else with pip (minutes), holding Colab's packages.

    Raises:
        RuntimeError: neither could do it; their messages are printed above.
    """
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text("\n".join(held()))
        options = ["--quiet", "--constraint", str(constraints), *wanted]
        commands = [[sys.executable, "-m", "pip", "install", *options]]
        if uv := shutil.which("uv"):
            commands.insert(0, [uv, "pip", "install", "--python", sys.executable, *options])
        for command in commands:
            if subprocess.run(command).returncode == 0:
                return
    raise RuntimeError("The book's packages could not be installed; the installer says why above.")


def loaded() -> dict[str, str]:
    """The distributions whose modules this kernel has imported, with their installed versions.

    Private modules do not count: every Python starts with setuptools' `_distutils_hack`.
    """
    owners = metadata.packages_distributions()
    modules = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")}
    return {name: metadata.version(name) for module in modules for name in owners.get(module, [])}


def prepare(extra: str) -> None:
    """Make the running kernel ready for the recipes of one chapter, and enter its folder.

    Raises:
        RuntimeError: a package was replaced that this kernel uses; the message says to restart. Or a
            server of chapter 5 could not be installed.
    """
    before = loaded()
    print("installing what Colab lacks ...", flush=True)
    install(requirements(extra))
    replaced = sorted(name for name, version in before.items() if metadata.version(name) != version)
    if replaced:
        raise RuntimeError(
            f"{', '.join(replaced)} had been loaded and was replaced by a newer release: choose "
            "Runtime > Restart session, then Run all again. This happens once."
        )
    if extra == "deployment":
        servers.install()
    os.chdir(next(ROOT.glob(f"[0-9][0-9]_{extra}")))
