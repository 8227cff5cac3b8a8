"""Ten small functions that a team is asked for, with hidden tests. For recipe 4.6.

They stand in `datasets/function_tasks.toml`, written for this book (CC BY 4.0).
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What is asked, and what is right.

    Attributes:
        name: of the function.
        arguments: its parameters, as they stand between the parentheses.
        request: what it has to do, in a sentence.
        tests: expressions that are true for a right function. Not for whoever writes it.
        wrong: code with a plausible mistake: it runs, and fails at least one test.
        solution: code that passes all of them.
    """

    name: str
    arguments: str
    request: str
    tests: tuple[str, ...]
    wrong: str
    solution: str


def tasks() -> list[Task]:
    """All of them, in the order of the file."""
    text = (Path(__file__).parent / "datasets" / "function_tasks.toml").read_text(encoding="utf-8")
    return [Task(**row | {"tests": tuple(row["tests"])}) for row in tomllib.loads(text)["task"]]
