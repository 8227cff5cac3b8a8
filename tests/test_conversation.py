"""The facts of the long conversations are told once each, and the price table is whole."""

import json

from utils import data


def test_every_answer_stands_in_its_own_fact_and_nowhere_else():
    facts, talk = data.conversation()
    assert len(facts) == 40 and len(talk) == 44
    for fact in facts:
        assert fact.is_in(fact.said)
        others = [other.said for other in facts if other is not fact]
        others += (
            [f.reply for f in facts]
            + [f.question for f in facts]
            + [text for turn in talk for text in turn]
        )
        assert not [text for text in others if fact.is_in(text)], fact


def test_nothing_is_said_twice():
    facts, talk = data.conversation()
    texts = (
        [fact.said for fact in facts]
        + [fact.question for fact in facts]
        + [user for user, _ in talk]
    )
    assert len(set(texts)) == len(texts)


def test_prices_are_dated_sourced_and_in_order():
    table = json.loads((data.DATASETS / "prices.json").read_text())
    assert table["quoted"] == "2026-11" and all(
        url.startswith("https://") for url in table["sources"]
    )
    for price in data.prices().values():
        assert 0 < price.cached < price.input <= price.write < price.output
