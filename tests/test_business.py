"""The business corpus and its questions: whole, distinct, scored strictly, and no clause that gives its contract away."""

import re
from collections import Counter

import pytest

from utils import data

DOCUMENTS = {document.id: document for document in data.business_documents()}
QUESTIONS = data.business_questions()
ROWS = data._rows("business_questions.json")


def paragraphs(document: data.Document) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in document.text.split("\n\n")]


def test_documents_are_distinct_and_have_text():
    assert len(DOCUMENTS) == len(data.business_documents()) > 150
    assert all(
        document.text and document.section and document.title for document in DOCUMENTS.values()
    )
    assert len({name.partition("#")[0] for name in DOCUMENTS}) == 14


def test_the_corpus_is_large_enough():
    words = [
        word
        for document in DOCUMENTS.values()
        for word in re.findall(r"[A-Za-z0-9][\w.,'&-]*", document.text)
    ]
    chinese = re.findall(
        "[\u4e00-\u9fff]", " ".join(document.text for document in DOCUMENTS.values())
    )
    assert len(words) >= 10_000
    assert len(chinese) >= 1_000


def test_the_form_of_a_section():
    leave = DOCUMENTS["handbook#special-leave"]
    assert leave.section == "Velmora Instruments Employee Handbook > Annual leave"
    assert leave.source == "handbook.md, section Special leave"
    assert "\n- own wedding or registered partnership: 2 days\n- birth" in leave.text
    table = DOCUMENTS["price_list#spare-parts-and-consumables"].text.splitlines()
    assert table[0] == "Article number | Name | Price (EUR) | Delivery (days)"
    assert table[1].startswith("KX-2201-B | ") and not any("---" in row for row in table)
    assert "contract_logistics_zh_annex#费用与付款" in DOCUMENTS


def test_no_paragraph_nearly_repeats_another():
    """Clauses of the contracts repeat each other on purpose, with other figures."""
    seen: list[tuple[str, set]] = []
    for name, document in DOCUMENTS.items():
        if re.match(r"contract_\w+#", name) and "zh" not in name:
            continue
        for paragraph in paragraphs(document):
            words = re.findall(r"[\u4e00-\u9fff]|\w+", paragraph.lower())
            shingles = set(zip(words, words[1:], words[2:], strict=False))
            for other, others in seen:
                if shingles and others:
                    assert len(shingles & others) / len(shingles | others) <= 0.8, (
                        name,
                        other,
                        paragraph,
                    )
            seen.append((name, shingles))


def test_every_question_has_all_its_passages():
    assert len(QUESTIONS) == len(ROWS["answerable"]) == 60
    for question, row in zip(QUESTIONS, ROWS["answerable"], strict=True):
        assert len(question.gold) == len(row["gold"]) == len(question.sentences), question.id
        for gold in question.gold:
            held = [
                gold.evidence in paragraph for paragraph in paragraphs(DOCUMENTS[gold.document_id])
            ]
            assert sum(held) == 1, (question.id, gold)


def test_the_halves_share_nothing():
    halves = [data.business_questions(split) for split in ("dev", "test")]
    assert [len(half) for half in halves] == [30, 30]
    for field in ("id", "question", "gold"):
        one, other = ({getattr(question, field) for question in half} for half in halves)
        assert not one & other
    unanswerable = [set(data.business_unanswerable(split)) for split in ("dev", "test")]
    assert [len(half) for half in unanswerable] == [8, 8] and not unanswerable[0] & unanswerable[1]
    assert len(data.business_unanswerable()) == 16
    with pytest.raises(ValueError, match="split"):
        data.business_questions("train")


def test_the_halves_are_balanced():
    about = Counter(question.about for question in QUESTIONS)
    assert about == {"fact": 18, "party": 18, "identifier": 10, "table": 8, "chinese": 6}
    for field in ("about", "kind"):
        counts = [
            Counter(getattr(q, field) for q in data.business_questions(split))
            for split in ("dev", "test")
        ]
        assert counts[0].keys() == counts[1].keys()
        assert all(abs(counts[0][name] - counts[1][name]) <= 1 for name in counts[0]), counts


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_the_gold_sentence_is_right_and_an_echo_is_not(question):
    assert all(data.score_answer(question, sentence) for sentence in question.sentences)
    assert not any(
        re.search(pattern, question.question, re.IGNORECASE) for pattern in question.answers
    )
    for answer in (
        question.question,
        "",
        "I do not know.",
        "我不知道。",
        " ".join(map(str, range(1, 200))),
    ):
        assert not data.score_answer(question, answer)


def test_a_row_of_a_table_is_its_own_sentence():
    for question in QUESTIONS:
        for gold, sentence in zip(question.gold, question.sentences, strict=True):
            assert gold.evidence in sentence and len(sentence.split()) <= data.MAX_ANSWER_WORDS


def test_a_clause_does_not_say_whose_it_is():
    names = r"Velmora|Greyfield|Sorrel|Vane\b|Quillon|Tarnwick|Caldera|Hydrel|Stampa"
    for question in QUESTIONS:
        if question.about == "party":
            asked = re.findall(names, question.question)
            assert asked, question.question
            for gold in question.gold:
                text = DOCUMENTS[gold.document_id].text
                assert not re.search(names, text), (question.id, text)


def test_the_clause_of_another_contract_is_a_wrong_answer():
    """The same clause stands in every contract, with other figures."""
    asked = [
        q for q in QUESTIONS if q.about == "party" and q.gold[0].document_id.startswith("contract_")
    ]
    assert len(asked) >= 10
    rivals = 0
    for question in asked:
        gold = question.gold[0]
        contract, _, clause = gold.document_id.partition("#")
        shape = re.sub(r"[\d,.]*\d|(?<=courts of )\w+|(?<=only a ).*", lambda _: "@", gold.evidence)
        pattern = re.escape(shape).replace("@", r"[\w,.]+")
        for other in {"warehouse", "cleaning", "software", "logistics"} - {
            contract.removeprefix("contract_")
        }:
            for sentence in data.sentences(DOCUMENTS[f"contract_{other}#{clause}"].text):
                if re.search(pattern, sentence):
                    rivals += 1
                    assert not data.score_answer(question, sentence), (question.id, sentence)
    assert rivals >= 2 * len(asked)
