"""The committed adapter of the support desk: what recipe 3.1 makes and 3.6, 3.8 and 3.9 start from."""

from pathlib import Path

import pytest

from utils import llm, support_data

ADAPTER = Path(__file__).parents[1] / "03_finetuning" / "adapters" / "support_reply"


@pytest.fixture(scope="module")
def tickets():
    return support_data.tickets("test", 24, 11)  # another seed than the recipe's


def share_right(tickets, **options) -> float:
    texts = llm.chat_batch(
        [support_data.chat(t) for t in tickets], max_new_tokens=40, batch_size=24, **options
    )
    return sum(
        support_data.check(t, text).right for t, text in zip(tickets, texts, strict=True)
    ) / len(tickets)


def test_writes_right_replies(tickets):
    assert share_right(tickets, adapter=ADAPTER) >= 0.5


def test_the_base_model_cannot(tickets):
    assert share_right(tickets[:10]) <= 0.2
