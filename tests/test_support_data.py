"""utils.support_data: tickets that are right by their own check, splits that share nothing, flaws that are flaws."""

import re
from collections import Counter

import pytest

from utils import support_data
from utils.support_data import FLAWS, SPLITS, check, preferences, raw_records, tickets

TICKETS = {split: tickets(split, 300) for split in SPLITS}


def test_every_reply_passes_the_check():
    wrong = [t for split in SPLITS for t in TICKETS[split] if not check(t, t.reply).right]
    assert not wrong


def test_the_record_shows_what_a_reply_needs_and_more_than_that():
    for ticket in TICKETS["test"]:
        assert all(fact in ticket.record for fact in ticket.facts)
        numbers = re.findall(r"\d[\w.]*", ticket.record)
        assert len(numbers) > 2, "a reply has to choose"


def test_the_same_seed_gives_the_same_tickets():
    assert tickets("dev", 20, 3) == tickets("dev", 20, 3) != tickets("dev", 20, 4)
    assert len({(t.record, t.message) for t in tickets("train", 500)}) == 500


def words(text: str) -> str:
    """A question without its item and order number: the phrasing."""
    return re.sub(r"\d+", "", text)


@pytest.mark.parametrize("other", ["dev", "test"])
def test_splits_share_no_question_and_no_value(other):
    texts = support_data._texts("support")
    for topic in texts["topics"].values():
        assert not set(topic["train"]) & set(topic[other])
    for values in texts["values"].values():
        assert not set(values["train"]) & set(values[other])
    for lines in texts["flaws"].values():
        assert not set(lines["train"]) & set(lines[other])
    train = {words(t.message) for t in TICKETS["train"]}
    assert not train & {words(t.message) for t in TICKETS[other]}
    orders = [{re.match(r"Order (\d+)", t.record)[1] for t in TICKETS[s]} for s in ("train", other)]
    assert not orders[0] & orders[1]


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="no split 'valid': choose from train, dev, test"):
        tickets("valid", 1)
    with pytest.raises(ValueError, match="a share of the labels"):
        preferences("train", 4, noise=2)


@pytest.mark.parametrize(
    "text, grounded, concise, polite",
    [
        ("Thank you for asking. It comes on 3 May.", True, True, True),
        ("It comes on 3 May.", True, True, False),
        ("Thank you for asking. It comes on 4 May.", False, True, True),
        ("Thank you! It comes on 3 May and costs 20.00 EUR.", False, True, True),
        ("Thank you! Your order 10101 comes on 3 May.", True, True, True),
        ("Thank you for asking. " * 3 + "It comes on 3 May.", True, False, True),
        ("Thank you. " + "It is so very long " * 8 + "3 May.", True, False, True),
        ("Obviously. Thanks for asking, on 3 May.", True, True, False),
        ("", False, False, False),
    ],
)
def test_check(text, grounded, concise, polite):
    ticket = support_data.Ticket(
        "a",
        "Order 10101: lamp, expected 3 May, total 20.00 EUR.",
        "When?",
        "",
        ("3 May",),
        "arrival",
    )
    found = check(ticket, text)
    assert (found.grounded, found.concise, found.polite) == (grounded, concise, polite)
    assert found.right == (grounded and concise and polite)


def test_preferences_have_one_flaw_each_and_the_noise_that_was_asked_for():
    pairs = preferences("train", 200, noise=0.1)
    assert Counter(pair.flaw for pair in pairs) == dict.fromkeys(FLAWS, 50)
    assert sum(pair.swapped for pair in pairs) == 20
    for pair in pairs:
        better, worse = (
            (pair.rejected, pair.chosen) if pair.swapped else (pair.chosen, pair.rejected)
        )
        assert check(pair.ticket, better).right and not check(pair.ticket, worse).right, pair
    fails = {"padded": "concise", "rude": "polite", "ungrounded": "grounded", "evasive": "grounded"}
    for pair in preferences("test", 100, noise=0):
        assert not getattr(check(pair.ticket, pair.rejected), fails[pair.flaw]), pair


def test_hand_written_pairs():
    pairs = preferences("hand", 100)
    assert len(pairs) == 24 and Counter(pair.flaw for pair in pairs) == dict.fromkeys(FLAWS, 6)
    generated = {t.reply for split in SPLITS for t in TICKETS[split]}
    for pair in pairs:
        assert check(pair.ticket, pair.chosen).right and not check(pair.ticket, pair.rejected).right
        assert all(fact in pair.ticket.record for fact in pair.ticket.facts)
        assert pair.chosen not in generated


def test_raw_records_have_the_flaws_they_say():
    records = raw_records()
    flaws = Counter(flaw for record in records for flaw in record.flaws)
    kinds = (
        "duplicate",
        "near_duplicate",
        "personal",
        "language",
        "long",
        "empty",
        "useless",
        "cut_off",
    )
    assert set(flaws) == set(kinds)
    assert [record.id for record in records] == list(range(len(records)))
    assert 0.4 < sum(not record.flaws for record in records) / len(records) < 0.7
    secrets = [value for values in support_data.personal_data().values() for value in values]
    seen: dict[str, set] = {}
    for record in records:
        message, earlier = (record.record, record.message), seen.setdefault(record.origin, set())
        assert ("duplicate" in record.flaws) == (message in earlier)
        if "near_duplicate" in record.flaws:
            assert earlier and message not in earlier
        earlier.add(message)
        personal = (
            any(v.casefold() in record.message.casefold() for v in secrets) or "@" in record.message
        )
        assert personal == ("personal" in record.flaws) or "near_duplicate" in record.flaws, record
