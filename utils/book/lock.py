"""Write requirements.lock: the exact versions of the reference machine, for Linux and macOS.

uv resolves pyproject.toml with all extras for every Python from 3.11 on. What
belongs to CUDA is left out again: it enters through torch's build for NVIDIA
cards, which the lock does not use (see utils/book/install.py).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from . import BookError, install

CUDA = re.compile(r"(nvidia|cuda|triton)\b")
HEADER = """\
# Exact versions for Python >= 3.11 on Linux and macOS. Made by `make lock`; floors are in pyproject.toml.
#
# torch is held at the version whose CPU build the reference machine has (`make lock TORCH=...` moves
# it), and nothing of CUDA is listed. There are no hashes: the build of torch, one pin here, comes from
# PyPI on macOS, from PyTorch's index on Linux, or from a folder of wheels, with other hashes each, and
# pip checks hashes for all packages of an installation or for none.
"""


def resolve(root: Path, torch: str, upgrade: bool) -> str:
    """The text of the lock. Pins that stand in the present one are kept, unless `upgrade`."""
    lock = root / "requirements.lock"
    command = [Path(sys.executable).with_name("uv"), "pip", "compile", root / "pyproject.toml",
               "--universal", "--python-version", "3.11", "--all-extras", "--no-annotate",
               "--no-header", "--quiet", "--no-sources", "--constraint", "-"]  # fmt: skip
    present = [] if upgrade or not lock.exists() else lock.read_text().splitlines()
    kept = root / "build" / "lock.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("".join(f"{line}\n" for line in present if not line.startswith("torch==")))
    result = subprocess.run(
        [*command, "--output-file", kept],
        env={k: v for k, v in os.environ.items() if k != "UV_FIND_LINKS"},  # one machine's wheels
        input=f"torch=={torch}\n",
        text=True,
        stdout=subprocess.PIPE,
    )
    if result.returncode:
        raise BookError("uv could not resolve the dependencies; its reason is above")
    lines = [line for line in kept.read_text().splitlines() if not CUDA.match(line)]
    return HEADER + "\n".join(lines) + "\n"


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser("lock", help="write requirements.lock")
    parser.add_argument("--torch", default="", help="version of torch (default: as it is locked)")
    parser.add_argument(
        "--upgrade", action="store_true", help="move every pin to the newest release"
    )
    return parser


def main(args: argparse.Namespace) -> int:
    """Resolve and write."""
    lock = install.ROOT / "requirements.lock"
    torch = args.torch or install.locked_version(lock, "torch")
    lock.write_text(resolve(install.ROOT, torch, args.upgrade))
    print(f"{lock.name}: {sum('==' in line for line in lock.read_text().splitlines())} packages")
    return 0
