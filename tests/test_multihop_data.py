"""Questions over several passages: values really stand in the documents, training and test share none of them."""

import re

import pytest

from utils import data, multihop_data, tool_data

REAL = data.business_documents()


@pytest.mark.parametrize("documents", [REAL, multihop_data.variant(3)], ids=["real", "variant"])
@pytest.mark.parametrize("split", ["train", "test", "far"])
def test_answers_follow_from_the_values(documents, split):
    text = "\n".join(multihop_data.passages(documents))
    tasks = multihop_data.tasks(documents, split, 36, seed=1)
    assert len({task.text for task in tasks}) == 36
    assert {task.kind for task in tasks} == set(multihop_data.KINDS)
    for task in tasks:
        assert all(value in text for value in task.values), task
        *looks, last = task.steps
        assert (
            len(looks) == task.calls
            and last.tool == "finish"
            and multihop_data.right(task, last.argument)
        )
        if looks[-1].tool == "calculate":
            result = tool_data.calculate(looks[-1].argument.replace(",", ""))["result"]
            assert multihop_data.right(task, str(result)), task


def test_variant_shares_no_name_and_is_repeatable():
    other = multihop_data.variant(5)
    assert other == multihop_data.variant(5) and other != multihop_data.variant(6)
    code = re.compile(r"\b[A-Z]{2}-\d+-\w+\b")
    prices = [
        next(d.text for d in docs if d.id == "price_list#machines-and-accessories")
        for docs in (REAL, other)
    ]
    assert not set(code.findall(prices[0])) & set(code.findall(prices[1]))
    firms = "Tarnwick", "Quillon", "Greyfield", "Sorrel"
    assert not any(
        firm in d.text for d in other for firm in firms if d.title == "Parties and definitions"
    )


def test_splits_differ_and_the_seed_decides():
    train, test = (multihop_data.tasks(REAL, split, 36) for split in ("train", "test"))
    assert not {task.text for task in train} & {task.text for task in test}
    assert (
        test
        == multihop_data.tasks(REAL, "test", 36)
        != multihop_data.tasks(REAL, "test", 36, seed=1)
    )


def test_right_reads_the_first_number():
    task = next(task for task in multihop_data.tasks(REAL, "test", 6) if task.kind == "price")
    assert multihop_data.right(task, f"EUR {task.answer} in all") and not multihop_data.right(
        task, f"3 times {task.answer}"
    )
    assert not multihop_data.right(task, None) and not multihop_data.right(task, "none")
