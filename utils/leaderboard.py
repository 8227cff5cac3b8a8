"""Which retrieval technique is better on the same questions: one committed row for each.

`02_rag/leaderboard.json` is written by the recipes of the chapter, never by hand. A row keeps the value
of every held-out question, so that any two techniques can be compared in pairs, which is the only
comparison that a hundred questions allow.

A recipe that runs again leaves its row as it is unless quality moved by more than `STEADY`: another
processor rounds differently and turns a near tie round, and milliseconds are never the same twice.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

PATH = Path(__file__).parents[1] / "02_rag" / "leaderboard.json"

STEADY = 0.025
"""Differences of mean recall or MRR up to this one leave a row as it is: two questions of ninety."""

_LOCK = Path(tempfile.gettempdir()) / "ai-engineer-cookbook-leaderboard.lock"


def add(
    technique: str,
    recipe: str,
    recall: Mapping[str, float],
    reciprocal_rank: Mapping[str, float],
    milliseconds: float,
    tokens: float,
    path: Path = PATH,
) -> bool:
    """Enter a technique, or leave its row as it is if the new one says the same.

    Args:
        technique: its name, with the model or setting that makes it another technique.
        recipe: where it is made, such as "02_rag/02_retrieval_evaluation".
        recall: held-out question id to recall@5.
        reciprocal_rank: the same questions to 1/rank of the first gold passage, 0 below rank 10.
        milliseconds: a question, one at a time, index in memory; kept to one digit.
        tokens: that five passages put into the prompt, by the tokenizer of the book's chat model.

    Returns:
        Whether the file was changed.

    Raises:
        ValueError: the two measures are not of the same questions, or not between 0 and 1.
    """
    if not recall or set(recall) != set(reciprocal_rank):
        raise ValueError("recall and reciprocal_rank must be of the same questions, and of some.")
    if not all(0 <= value <= 1 for value in (*recall.values(), *reciprocal_rank.values())):
        raise ValueError("recall and reciprocal_rank lie between 0 and 1.")
    new = {
        "technique": technique,
        "recipe": recipe,
        "mrr": round(float(np.mean(list(reciprocal_rank.values()))), 3),
        "ms": float(f"{milliseconds:.0e}"),
        "tokens": round(float(tokens)),
        "recall": {name: round(float(recall[name]), 3) for name in sorted(recall)},
    }
    with filelock.FileLock(_LOCK):  # two recipes may run side by side
        rows = {row["technique"]: row for row in read(path)}
        if technique in rows and _says_the_same(rows[technique], new):
            return False
        rows[technique] = new
        lines = ",\n".join(json.dumps(rows[name], ensure_ascii=False) for name in sorted(rows))
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        os.replace(unfinished, path)
    return True


def read(path: Path = PATH) -> list[dict[str, Any]]:
    """The rows as they stand in the file; none if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def table(path: Path = PATH) -> pd.DataFrame:
    """All techniques, the best recall@5 first, with 95 % bootstrap intervals.

    "behind the best" is the paired difference to the first row over the questions that both have: where
    its interval excludes 0, the first row is better, by these questions.
    """
    rows = sorted(
        read(path), key=lambda row: (-np.mean(list(row["recall"].values())), row["technique"])
    )
    shown = []
    for row in rows:
        own, best = row["recall"], rows[0]["recall"]
        behind = [own[name] - best[name] for name in own if name in best]
        shown.append({
            "technique": row["technique"],
            "recall@5": f"{np.mean(list(own.values())):.2f}",
            "95 %": "{:.2f} to {:.2f}".format(*_interval(list(own.values()))),
            "behind the best": "" if row is rows[0] else "{:+.2f} to {:+.2f}".format(*_interval(behind)),
            "MRR@10": f"{row['mrr']:.2f}",
            "ms": f"{row['ms']:g}",
            "tokens": row["tokens"],
            "questions": len(own),
        })  # fmt: skip
    return pd.DataFrame(shown).set_index("technique") if shown else pd.DataFrame()


def _interval(values: list[float]) -> tuple[float, float]:
    """Its seed is fixed: the table is a function of the file."""
    if not values:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(values), size=(5000, len(values)))
    low, high = np.percentile(np.array(values)[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _says_the_same(old: dict, new: dict) -> bool:
    def recall(row: dict) -> float:
        return float(np.mean(list(row["recall"].values())))

    return (
        old["recipe"] == new["recipe"]
        and set(old["recall"]) == set(new["recall"])
        and abs(recall(old) - recall(new)) <= STEADY
        and abs(old["mrr"] - new["mrr"]) <= STEADY
        and abs(old["tokens"] - new["tokens"]) <= 0.05 * max(old["tokens"], 1)
    )
