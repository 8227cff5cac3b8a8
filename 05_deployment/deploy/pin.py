"""`python deploy/pin.py > deploy/requirements.txt`: what the image installs, in the versions of the book's lock.

What the service imports, what those packages require in turn on Linux under the image's Python, and nothing else:
the lock holds some 380 packages, and torch among them.
"""

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
SERVICE, LOCK = HERE.parent / "service", HERE.parents[1] / "requirements.lock"
PYTHON = re.search(r"FROM python:([\d.]+)", (HERE / "Dockerfile").read_text())[1]
NOT_IMPORTED = {"redis"}  # `limits` loads it when SERVICE_RATE_LIMIT_STORAGE says so
TARGET = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": PYTHON,
    "python_version": ".".join(PYTHON.split(".")[:2]),
    "sys_platform": "linux",
}


def imported() -> set[str]:
    """Distributions that the service's modules import."""
    modules = set()
    for path in SERVICE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.partition(".")[0])
    found = packages_distributions()
    return {canonicalize_name(name) for m in modules - sys.stdlib_module_names for name in found[m]}


def wanted(requirement: Requirement, extra: str = "") -> bool:
    return not requirement.marker or requirement.marker.evaluate(TARGET | {"extra": extra})


def closure() -> set[str]:
    """`imported()` and all that they require."""
    todo, done = [(name, "") for name in imported() | NOT_IMPORTED], set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) not in done:
            done.add((name, extra))
            needs = [r for r in map(Requirement, requires(name) or []) if wanted(r, extra)]
            todo += [(canonicalize_name(r.name), e) for r in needs for e in ["", *sorted(r.extras)]]
    return {name for name, _ in done}


def pins() -> list[str]:
    """One line for each, sorted."""
    lines = [line for line in LOCK.read_text().splitlines() if line[:1] not in ("#", "")]
    locked = {canonicalize_name(r.name): r for r in map(Requirement, lines) if wanted(r)}
    return [f"{name}{locked[name].specifier}" for name in sorted(closure())]


if __name__ == "__main__":
    print(
        "# Made by deploy/pin.py from requirements.lock: what the service needs, and nothing else."
    )
    print("\n".join(pins()))
