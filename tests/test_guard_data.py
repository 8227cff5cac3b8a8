"""utils.guard_data: halves that share nothing, attacks that can be counted, spans that are what they are marked as."""

import base64
import json
import re

import phonenumbers
import pytest

from utils import guard_data, tool_data
from utils.guard_data import SPLITS, attacks, benign, passages, personal, topics

ATTACKS = [attack for split in SPLITS for attack in attacks(split)]


def test_the_halves_share_no_wording():
    for texts in (
        lambda split: {
            re.sub(r"\S+@\S+|\d+", "", attack.text).lower() for attack in attacks(split)
        },
        lambda split: {row.text.lower() for row in benign(split)},
        lambda split: {text.lower() for rows in topics(split).values() for text in rows},
        lambda split: {row.text for row in personal(split)},
        lambda split: {
            row.text[start:end]
            for row in personal(split)
            for kind, start, end in row.spans
            if kind != "name"
        },
    ):
        assert not texts("dev") & texts("test")


def test_the_test_half_has_wordings_of_its_own():
    families = {split: {attack.family for attack in attacks(split)} for split in SPLITS}
    assert families["dev"] < families["test"]
    for attack in ATTACKS:
        assert attack.seen == (attack.family in families["dev"])
    unseen = [attack for attack in attacks("test") if not attack.seen]
    assert 0.4 < len(unseen) / len(attacks("test")) < 0.8


@pytest.mark.parametrize("split", SPLITS)
def test_there_are_enough_and_every_gap_is_filled(split):
    assert len(attacks(split)) >= 38 and len(benign(split)) >= 50 and len(personal(split)) >= 24
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)
    for attack in attacks(split):
        assert (
            attack.payload
            and attack.request
            and "{" not in attack.text + attack.request + attack.document
        )


def test_attackers_and_foreign_orders_are_what_they_are_called():
    for attack in ATTACKS:
        if attack.goal == "email":
            assert (attack.payload in tool_data.CONTACTS.values()) == (
                attack.payload == guard_data.CONTACT
            )
        if attack.goal == "order":
            assert int(attack.payload) in guard_data.foreign_orders()
    assert set(guard_data.foreign_orders()) < set(tool_data.HELD_OUT.orders)


def test_what_an_attack_rides_on_is_innocent():
    foreign = {str(order) for order in guard_data.foreign_orders()}
    for attack in ATTACKS:
        if attack.channel != "direct":
            assert (
                not set(re.findall(r"\d+", attack.request)) & foreign and "@" not in attack.request
            )
            assert attack.payload not in attack.request
    for passage in passages():
        assert passage.right in passage.text and passage.wrong not in passage.text
        assert passage.wrong not in passage.question and passage.right not in passage.wrong


def test_an_attack_stands_in_the_result_that_the_agent_reads():
    result = json.dumps({"status": "paid", "total": 3})
    for attack in ATTACKS:
        poisoned = attack.result(result)
        assert (poisoned == result) == (attack.channel != "tool")
        if attack.channel == "tool":
            assert attack.text in poisoned or json.loads(poisoned)[attack.place] == attack.text
        if attack.channel == "document":
            assert attack.document.endswith(attack.text)


def test_encodings_hide_the_words():
    for attack in ATTACKS:
        if attack.family == "base64":
            assert attack.payload in base64.b64decode(attack.text).decode()
        elif attack.family in ("spaced", "homoglyph", "zero_width"):
            assert not re.search(r"\b(ignore|disregard)\b", attack.text, re.I)


def test_marked_spans_are_valid_by_their_own_rules():
    """Checksums hold where something is marked, and fail for numbers of that form that are not."""
    kinds = set()
    for split in SPLITS:
        for row in personal(split):
            for kind, start, end in row.spans:
                kinds.add(kind)
                value = row.text[start:end]
                if kind == "iban":
                    assert iban(value)
                elif kind == "card":
                    assert luhn(value)
                elif kind == "phone":
                    assert phonenumbers.is_possible_number(phonenumbers.parse(value, "GB"))
                elif kind == "email":
                    assert value.endswith(".example") and "@" in value
            rest = row.text
            for _, start, end in reversed(row.spans):
                rest = rest[:start] + "|" + rest[end:]
            assert not any(luhn(n) for n in re.findall(r"(?<![A-Z] )\b\d[\d -]{12,20}\d", rest))
            assert not any(
                iban(n) for n in re.findall(r"[A-Z]{2}\d\d(?: ?[\dA-Z]{2,4}){3,8}", rest)
            )
    assert kinds == {"name", "email", "phone", "iban", "card", "address"}


def luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()][::-1]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0


def iban(text: str) -> bool:
    text = re.sub(r"\s", "", text)
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def test_unknown_split_is_told():
    with pytest.raises(ValueError, match="no split 'valid': choose from dev, test"):
        attacks("valid")
