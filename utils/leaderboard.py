"""Which retrieval technique is better on the same questions: one committed row for each.

`02_rag/leaderboard.json` is written by the recipes of the chapter, never by hand. A row keeps the value
of every held-out question, so that any two techniques can be compared in pairs, which is the only
comparison that a hundred questions allow. `python -m utils.book table` makes the chapter's page of it.

A recipe that runs again leaves its row as it is unless quality moved by more than `STEADY`: another
processor rounds differently and turns a near tie round, and milliseconds are never the same twice.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from utils import data, reader

PATH = Path(__file__).parents[1] / "02_rag" / "leaderboard.json"

STEADY = 0.025
"""Differences of a mean up to this one leave a row as it is (two questions of ninety; of answers twice as much)."""

KINDS = {"py": "paraphrased", "id": "identifier", "two": "two passages"}
"""The kind of a question, by the letters that its id begins with."""

K, DEPTH = 5, 10  # recall@5, MRR@10

_QUALITIES = ("recall", "rank", "right", "grounded")
_LOCK = Path(tempfile.gettempdir()) / "ai-engineer-cookbook-leaderboard.lock"


def kind(question_id: str) -> str:
    """`"identifier"` for `"id017"`: what is asked, see `KINDS`."""
    return KINDS[question_id.rstrip("0123456789")]


def enter(
    technique: str,
    recipe: str,
    questions: Sequence[data.Question],
    gold: Sequence[Sequence[int]],
    ranked: Sequence[Sequence[int]],
    passages: Sequence[str],
    milliseconds: float,
    *,
    answers: bool = True,
    path: Path = PATH,
) -> bool:
    """Score what a technique found, let the fixed reader answer from it, and enter the row.

    The reader (`utils.reader`) gets the best passage of every paraphrased question. Answers are scored by
    `data.score_answer`; groundedness is the share of their words that stand in the passage.

    Args:
        technique: its name, with the model or setting that makes it another technique.
        recipe: where it is made, such as "02_rag/06_hybrid_search".
        questions: held-out questions, of one kind or of all; questions without gold passage left out.
        gold: for each the numbers of its gold passages, not empty.
        ranked: for each the numbers of the passages found, best first, at least ten; fewer if no more were found.
        passages: the texts as they are put into a prompt.
        milliseconds: a question, one at a time, index in memory; kept to one digit.
        answers: whether the reader answers (it takes a minute on two cores without bfloat16).

    Returns:
        Whether the file was changed.

    Raises:
        ValueError: lengths differ, or a question has no gold passage.
    """
    if (
        not len(questions) == len(gold) == len(ranked)
        or not len(questions)
        or not all(map(len, gold))
    ):
        raise ValueError(
            "questions, gold and ranked must be of one length, and every question needs a gold passage."
        )
    row: dict[str, Any] = {
        "technique": technique,
        "recipe": recipe,
        "ms": float(f"{milliseconds:.0e}"),
    }
    values: dict[str, dict[str, float]] = {name: {} for name in _QUALITIES}
    for question, right, found in zip(questions, gold, ranked, strict=True):
        hits = np.isin(list(found)[:DEPTH], right)
        values["recall"][question.id] = hits[:K].sum() / len(right)
        values["rank"][question.id] = 1 / (1 + hits.argmax()) if hits.any() else 0.0
    readable = [
        (question, passages[found[0]])
        for question, found in zip(questions, ranked, strict=True)
        if kind(question.id) == "paraphrased" and len(found)
    ]
    readable = readable if answers else []
    texts = reader.read([q.question for q, _ in readable], [text for _, text in readable])
    for (question, passage), answer in zip(readable, texts, strict=True):
        values["right"][question.id] = float(data.score_answer(question, answer))
        values["grounded"][question.id] = reader.groundedness(answer, passage)
    row["tokens"] = round(_tokens([[passages[p] for p in list(r)[:K]] for r in ranked]))
    row |= {
        name: {q: round(float(v), 3) for q, v in sorted(values[name].items())}
        for name in _QUALITIES
    }
    return _write(row, path)


def _tokens(found: Sequence[Sequence[str]]) -> float:
    """Of the passages that go into a prompt, by the tokenizer of the book's chat model; mean over questions."""
    from transformers import AutoTokenizer

    from utils import models

    tokenizer = AutoTokenizer.from_pretrained(models.CHAT)
    return float(
        np.mean([len(ids) for ids in tokenizer(["\n\n".join(texts) for texts in found]).input_ids])
    )


def _write(row: dict[str, Any], path: Path) -> bool:
    with filelock.FileLock(_LOCK):  # two recipes may run side by side
        rows = {row["technique"]: row for row in read(path)}
        if row["technique"] in rows and _says_the_same(rows[row["technique"]], row):
            return False
        rows[row["technique"]] = row
        lines = ",\n".join(json.dumps(rows[name], ensure_ascii=False) for name in sorted(rows))
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        os.replace(unfinished, path)
    return True


def read(path: Path = PATH) -> list[dict[str, Any]]:
    """The rows as they stand in the file; none if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def table(path: Path = PATH, recipe: str | None = None) -> pd.DataFrame:
    """All techniques, the best recall@5 over all questions first, with 95 % bootstrap intervals.

    "behind the best" is the paired difference to the first row over the questions that both have: where
    its interval excludes 0, the first row is better, by these questions.

    Args:
        recipe: only rows that this recipe made, and the best of all.
    """
    rows = sorted(read(path), key=lambda row: (-_mean(row["recall"]), row["technique"]))
    shown = []
    for row in rows:
        if recipe and row is not rows[0] and row["recipe"] != recipe:
            continue
        own, best = row["recall"], rows[0]["recall"]
        behind = [own[name] - best[name] for name in own if name in best]
        shown.append({
            "technique": row["technique"],
            "recall@5": f"{_mean(own):.2f}",
            "95 %": "{:.2f} to {:.2f}".format(*_interval(list(own.values()))),
            "behind the best": "" if row is rows[0] else "{:+.2f} to {:+.2f}".format(*_interval(behind)),
            "MRR@10": f"{_mean(row['rank']):.2f}",
            "answers right": _share(row["right"]),
            "grounded": _share(row["grounded"]),
            "ms": f"{row['ms']:g}",
            "tokens": row["tokens"],
            "questions": len(own),
        })  # fmt: skip
    return pd.DataFrame(shown).set_index("technique") if shown else pd.DataFrame()


def by_kind(path: Path = PATH) -> pd.DataFrame:
    """Mean recall@5 of every technique (rows, in the order of `table`) on every kind of question (columns)."""
    rows = {row["technique"]: row["recall"] for row in read(path)}
    return pd.DataFrame({
        name: {
            shown: _mean({q: v for q, v in rows[name].items() if kind(q) == shown}) for shown in KINDS.values()
        }
        for name in table(path).index
    }).T.round(2)  # fmt: skip


def page(path: Path = PATH) -> str:
    """The chapter's page in Markdown: what the columns mean, all techniques, and recall by kind of question."""
    board = table(path).rename_axis("technique").reset_index()
    recipes = {row["technique"]: row["recipe"] for row in read(path)}
    board["technique"] = [
        f"[{name}]({Path(recipes[name]).name}.ipynb)" for name in board["technique"]
    ]
    kinds = by_kind(path).map("{:.2f}".format).rename_axis("recall@5").reset_index()
    return PAGE.format(
        board=_markdown(board), kinds=_markdown(kinds), questions=board["questions"].max()
    )


PAGE = """\
# Leaderboard of chapter 2

Which retrieval technique is better on the same questions? Made by `python -m utils.book table` from
`leaderboard.json`, in which every recipe of the chapter enters what it measured. All techniques search
the same corpus, Python's own documentation, for {questions} held-out questions of three kinds; none of them was
used to choose a setting.

![recall@5 of every technique, with 95 % intervals](../docs/leaderboard.png)

{board}

- **recall@5**: the share of a question's gold passages among the first five, mean over all questions.
  "behind the best" is the paired difference to the first row: where its interval excludes 0, the first
  row is better by these questions; where it does not, nothing was shown.
- **answers right** and **grounded**: the same small chat model reads the best passage of every paraphrased
  question; its answers are scored by rule, and their words looked up in the passage. Empty: nobody read.
- **ms** is one question at a time with the index in memory, to one digit, on two cores; **tokens** are
  those of five passages in a prompt. Who returns more text finds more: compare recall at like tokens
  ([2.4](04_chunking.ipynb)).

## By kind of question

{kinds}

*Paraphrased* questions are asked in other words than the passage's; *identifier* questions name a function,
a parameter or an exception as one types it into a search box; the answer to *two passages* stands in two
places, and recall is the share that was found.
"""


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(path: Path = PATH):
    """A figure: recall@5 of every technique with its interval, the best on top."""
    from matplotlib.figure import Figure

    rows = {row["technique"]: list(row["recall"].values()) for row in read(path)}
    names = list(table(path).index)
    figure = Figure(figsize=(8, 0.9 + 0.32 * len(names)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        axes.plot(_interval(rows[name]), [place, place], color="#0072B2", linewidth=2)
        axes.plot(np.mean(rows[name]), place, "o", color="#0072B2")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), xlabel="recall@5, held-out questions (95 % intervals)")
    axes.grid(axis="x", color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    return figure


def _share(values: Mapping[str, float]) -> str:
    """Mean and interval; nothing where nobody read."""
    low, high = _interval(list(values.values()))
    return f"{_mean(values):.2f} ({low:.2f} to {high:.2f})" if values else ""


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")


def _interval(values: list[float]) -> tuple[float, float]:
    """Its seed is fixed: the table is a function of the file."""
    if not values:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(values), size=(5000, len(values)))
    low, high = np.percentile(np.array(values)[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _says_the_same(old: dict, new: dict) -> bool:
    return (
        old["recipe"] == new["recipe"]
        and all(set(old[name]) == set(new[name]) for name in _QUALITIES)
        and all(
            not old[name] or abs(_mean(old[name]) - _mean(new[name])) <= STEADY * factor
            for name, factor in zip(_QUALITIES, (1, 1, 2, 2), strict=True)
        )
        and abs(old["tokens"] - new["tokens"]) <= 0.05 * max(old["tokens"], 1)
    )
