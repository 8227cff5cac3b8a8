"""The corpora and labelled sets: whole, in one order, scored strictly."""

import json
import subprocess
import sys

import pytest

from utils import data


def test_the_corpus_is_the_same_whatever_is_imported():
    code = "from utils import data; import hashlib; print(hashlib.sha256(repr(data.python_docs()).encode()).hexdigest())"
    patching = "import transformers, ipykernel.ipkernel; "  # the first patches logging.Logger
    outputs = {
        subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, check=True).stdout
        for before in ("import utils; ", "import utils; " + patching)
    }
    assert len(outputs) == 1


def test_documents_are_distinct_and_not_empty():
    documents = data.python_docs()
    assert len(documents) > 1_000
    assert len({document.id for document in documents}) == len(documents)
    assert all(len(document.text.split()) >= 5 for document in documents)


def test_every_question_has_its_passage():
    questions, documents = data.python_questions(), {d.id: d for d in data.python_docs()}
    assert len(questions) >= 150
    for question in questions:
        assert all(gold.document_id in documents for gold in question.gold)
        assert question.sentences, question.id


def test_the_halves_share_nothing():
    halves = [{q.question for q in data.python_questions(split)} for split in ("dev", "test")]
    assert all(halves) and not halves[0] & halves[1]
    assert len(data.python_questions()) == sum(map(len, halves))
    for topic in ("near", "off"):
        assert not set(data.unanswerable_questions(topic, "dev")) & set(data.unanswerable_questions(topic, "test"))


def test_the_evidence_counts_and_the_question_does_not():
    """Scoring is strict: the sentence that holds the answer is right, an echo of the question is not."""
    questions = data.python_questions()
    right = sum(any(data.score_answer(q, sentence) for sentence in q.sentences) for q in questions)
    echoes = [q.id for q in questions if data.score_answer(q, q.question)]
    assert right == len(questions)
    assert echoes == []
    assert not any(data.score_answer(q, "") or data.score_answer(q, "I do not know.") for q in questions)


def test_an_answer_that_lists_everything_is_wrong():
    errors = "ValueError, TypeError, KeyError, IndexError, EOFError, OSError, AttributeError, NameError, StopIteration"
    asked = [q for q in data.python_questions() if q.kind == "exception"]
    assert asked and not any(data.score_answer(q, errors) for q in asked)


def test_a_question_whose_page_has_gone_is_reported_by_its_id():
    rows = json.loads((data.DATASETS / "python_questions.json").read_text())["answerable"][:3]
    questions, missing = data.read_questions(rows, [])
    assert questions == [] and missing == [row["id"] for row in rows]


def test_own_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="matches"):
        data.text_files(tmp_path)
    (tmp_path / "b.txt").write_text("Two.", encoding="utf-8")
    (tmp_path / "a.md").write_text("# One", encoding="utf-8")
    assert [document.id for document in data.text_files(tmp_path)] == ["a.md", "b.txt"]
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnicodeDecodeError):
        data.text_files(tmp_path)


def test_passages_are_whole_sentences_of_bounded_length():
    text = "One two three. Four five. Six seven eight nine ten. Eleven."
    assert data.split_passages(text, words=5) == ["One two three. Four five.", "Six seven eight nine ten.", "Eleven."]
    assert data.split_passages("A sentence of five words.", words=2) == ["A sentence of five words."]
    assert data.split_passages("") == []
