"""Vectors of a corpus: made once, and anew for every other text."""

import numpy as np
import pytest

from utils import embedding, llm

TEXTS = [
    "How do I open a file?",
    "Bread is baked.",
    "A longer sentence about the opening of files and of folders.",
]


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """The number of texts that were really embedded; an empty folder for the vectors."""
    monkeypatch.setenv("COOKBOOK_VECTORS", str(tmp_path))
    calls, real = [], llm.embed
    monkeypatch.setattr(
        llm, "embed", lambda texts, **options: calls.extend(texts) or real(texts, **options)
    )
    return calls


def test_the_order_is_that_of_the_texts_and_the_length_is_one():
    vectors = llm.embed(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(llm.embed([text])[0], vector, atol=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]
    assert llm.embed([]).shape == (0, 384)


def test_a_corpus_is_embedded_once(counted, tmp_path):
    first, again = embedding.embed_corpus(TEXTS), embedding.embed_corpus(TEXTS)
    assert counted == TEXTS and np.array_equal(first, again)
    # Bfloat16 where the hardware has it
    np.testing.assert_allclose(first, llm.embed(TEXTS), atol=0.02)
    assert not list(tmp_path.glob("*.tmp"))


def test_another_text_is_another_corpus(counted):
    embedding.embed_corpus(TEXTS)
    embedding.embed_corpus([*TEXTS[:2], "Another."])
    embedding.embed_corpus(TEXTS[::-1])
    assert len(counted) == 9


def test_a_killed_run_leaves_no_half_file(counted, monkeypatch, tmp_path):
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        embedding.embed_corpus(TEXTS)
    monkeypatch.undo()
    monkeypatch.setenv("COOKBOOK_VECTORS", str(tmp_path))
    assert len(embedding.embed_corpus(TEXTS)) == 3
