"""The extraction tasks hold what their users count on: 60 messages, and gold fields that stand in them."""

import re
from collections import Counter

import pytest

from utils import data

FIELDS = {
    "appointment": ["name", "day", "time"],
    "order": ["item", "quantity", "color", "city"],
    "ticket": ["product", "team", "order_id"],
}
WORDS = {"a": 1, "one": 1, "two": 2, "three": 3}


def test_twenty_of_each_kind_and_no_message_twice():
    tasks = data.extraction_tasks()
    assert Counter(task.kind for task in tasks) == dict.fromkeys(FIELDS, 20)
    assert len({task.text for task in tasks}) == 60
    assert data.extraction_tasks("order") == [task for task in tasks if task.kind == "order"]
    with pytest.raises(ValueError, match="kind is one of"):
        data.extraction_tasks("invoice")


def test_gold_is_in_the_form_that_is_promised():
    for task in data.extraction_tasks():
        assert list(task.gold) == FIELDS[task.kind]
        match task.kind:
            case "appointment":
                assert task.gold["day"].endswith("day")
                assert re.fullmatch(r"[01]\d:[0-5]\d", task.gold["time"])
            case "order":
                assert isinstance(task.gold["quantity"], int) and task.gold["quantity"] > 0
            case "ticket":
                assert task.gold["team"] in ("billing", "delivery", "technical")
                assert re.fullmatch(r"[A-Z]\d{4}", task.gold["order_id"] or "A0000")


def test_gold_stands_in_the_message():
    """Word for word, but for the team, which is a judgement, and times that are said in words or with pm."""
    for task in data.extraction_tasks():
        for field, value in task.gold.items():
            text = task.text.lower()
            match field, value:
                case ("team", _) | (_, None):
                    continue
                case "quantity", _:
                    said = re.findall(r"\w+", text)
                    assert str(value) in said or value in map(WORDS.get, said), task
                case "time", _ if re.search(r"\d [ap]m|half past", text):
                    continue
                case "time", _:
                    assert value.lstrip("0") in text, task
                case _:
                    assert value.lower() in text, task


def test_what_is_not_mentioned_is_none():
    tickets, orders = data.extraction_tasks("ticket"), data.extraction_tasks("order")
    assert sum(task.gold["order_id"] is None for task in tickets) == 10
    assert sum(task.gold["color"] is None for task in orders) == 10
    for task in tickets:
        assert bool(re.search(r"\b[A-Z]\d{4}\b", task.text)) == (task.gold["order_id"] is not None)
