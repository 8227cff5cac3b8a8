"""The committed tool-calling adapter: what recipe 3.3 made and chapter 4 runs on."""

from pathlib import Path

import pytest

from utils import llm, tool_data, toolformat

ADAPTER = Path(__file__).parents[1] / "03_finetuning" / "adapters" / "tool_calling"


@pytest.fixture(scope="module")
def steps():
    return tool_data.steps(11, 20)  # another seed than the recipe's


def share_right(steps, **options) -> float:
    chats = [toolformat.render(step.messages, step.tools) for step in steps]
    texts = llm.chat_batch(chats, max_new_tokens=40, batch_size=20, **options)
    return sum(step.correct(text) for step, text in zip(steps, texts, strict=True)) / len(steps)


def test_makes_held_out_calls(steps):
    assert share_right(steps["call"], adapter=ADAPTER) >= 0.7
    assert share_right(steps["second"], adapter=ADAPTER) >= 0.5


def test_stays_quiet_in_small_talk(steps):
    assert share_right(steps["talk"], adapter=ADAPTER) >= 0.7


def test_the_base_model_cannot(steps):
    assert share_right(steps["call"][:10]) <= 0.1
