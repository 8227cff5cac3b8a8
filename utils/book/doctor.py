"""`doctor`: print what a bug report needs. It reads, and changes nothing; keys are never shown."""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from utils import CACHE, servers

from . import discover, install

KEYS = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")
SETTINGS = re.compile(
    r"(OPENAI|ANTHROPIC|COOKBOOK|UV|PIP|CUDA)_\w+|HF_(TOKEN|HOME|ENDPOINT)|OMP_NUM_THREADS|CI"
    r"|(HTTPS?|ALL|NO)_PROXY",
    re.IGNORECASE,
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def output(*command: str) -> str | None:
    """What a command prints, or None if it fails or does not exist."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=discover.ROOT, check=True
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def book() -> str:
    """The commit, and how much is changed since."""
    commit = output("git", "log", "-1", "--format=%h of %cs")
    if commit is None:
        return "not a git clone, or git is not installed"
    return f"{commit}, {len((output('git', 'status', '--short') or '').splitlines())} files changed"


def hardware() -> str:
    """`utils.hardware`'s line, where torch is installed."""
    try:
        from utils import hardware

        return hardware.describe()
    except ImportError as error:
        return f"{os.cpu_count()} cores ({platform.machine()}); {error}"


def environment() -> str:
    """Whether `.venv` is what the lock says, and what in it is not."""
    lock = discover.ROOT / "requirements.lock"
    stamp = discover.ROOT / ".venv" / "installed.txt"
    if not stamp.exists():
        return "not installed, or not to the end: run `make setup`"
    kind = stamp.read_text().split()[0]
    if kind == "newest":
        return "the newest releases (LOCK=)"
    if stamp.read_text() != install.fingerprint(discover.ROOT, lock):
        return "older than requirements.lock or pyproject.toml: run `make setup`"
    return "as locked" if not (found := differences(lock)) else f"as locked, but {found}"


def differences(lock: Path) -> str:
    """Packages of the running Python whose versions are not the locked ones."""
    pins = dict[str, set[str]]()
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    found = []
    for name, versions in pins.items():
        try:
            present = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # most of them are for another system
        if present.partition("+")[0] not in versions:
            found.append(f"{name} is {present}")
    return ", ".join(found)


def versions() -> str:
    """The packages that most reports are about."""
    shown = []
    for name in "torch transformers xllamacpp openai langchain chromadb peft jupyterlab".split():
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} -")
    return ", ".join(shown)


def models() -> str:
    """Which models are in the book's cache, and how large it is."""
    if not CACHE.exists():
        return f"{CACHE}: empty"
    names = sorted(path.name[8:].replace("--", "/") for path in CACHE.glob("hub/models--*"))
    size = sum(path.lstat().st_size for path in CACHE.rglob("*") if path.is_file()) / 1e9
    return f"{CACHE}: {size:.1f} GB: {', '.join(names) or 'no models'}"


def settings() -> str:
    """Variables that change what the book does; of keys only that they are set."""
    shown = {
        name: "(set)" if KEYS.search(name.upper()) else install.without_password(value)
        for name, value in sorted(os.environ.items())
        if SETTINGS.fullmatch(name)
    }
    return ", ".join(f"{name}={value}" for name, value in shown.items()) or "none"


def disk() -> str:
    """Free space where the book and its models lie."""
    home = next(path for path in (CACHE, *CACHE.parents) if path.exists())
    free = {str(path): install.free_gb(path) for path in (discover.ROOT, home)}
    return ", ".join(f"{path} {gigabytes:.0f} GB free" for path, gigabytes in free.items())


def tools() -> str:
    """Versions of the programs beside Python."""
    commands = [("make", "-v"), ("git", "--version"), *((name, "--version") for name in BROWSERS)]
    found = filter(None, (output(*command) for command in commands))
    shown = [text.splitlines()[0].strip() for text in found]
    there = [program for program in servers.PACKAGES if program not in servers.missing()]
    return ", ".join([*shown, *there]) or "none"


def report() -> dict[str, str]:
    """All lines, by what they are about."""
    return {
        "book": book(),
        "system": platform.platform(),
        "python": f"{platform.python_version()} at {sys.executable}",
        "hardware": hardware(),
        "packages": environment(),
        "versions": versions(),
        "models": models(),
        "disk": disk(),
        "settings": settings(),
        "tools": tools(),
    }


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    return subparsers.add_parser(
        "doctor", help="print what a bug report needs", description=__doc__
    )


def main(args: argparse.Namespace) -> int:
    """Print the report."""
    for name, line in report().items():
        print(f"{name + ':':10} {line}")
    return 0
