"""The committed reward model: what recipe 3.7 made and recipe 3.8 optimises against."""

from pathlib import Path

import numpy as np
import pytest

from utils import models, support_data

ADAPTER = Path(__file__).parents[1] / "03_finetuning" / "adapters" / "reward"


@pytest.fixture(scope="module")
def score():
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    models.ensure(models.CHAT)
    tokenizer = AutoTokenizer.from_pretrained(models.CHAT)
    base = AutoModelForSequenceClassification.from_pretrained(
        models.CHAT, num_labels=1, num_hidden_layers=16, dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, ADAPTER).eval()

    @torch.inference_mode()
    def scores(chats, padding_side="right"):
        texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side=padding_side)
        return model(**inputs).logits[:, 0].numpy()

    return scores


def test_prefers_the_better_reply(score):
    pairs = support_data.preferences("test", 24, seed=11, noise=0)  # another seed than the recipe's
    chats = [support_data.chat(p.ticket, reply) for p in pairs for reply in (p.chosen, p.rejected)]
    scores = score(chats)
    assert (scores[::2] > scores[1::2]).mean() >= 0.75


def test_padding_on_either_side_gives_the_same_score(score):
    (pair,) = support_data.preferences("test", 1, seed=11, noise=0)
    chats = [
        support_data.chat(pair.ticket, reply)
        for reply in (pair.chosen, pair.rejected + " Not so." * 5)
    ]
    left, right = score(chats, "left"), score(chats)
    alone = np.concatenate([score([chat]) for chat in chats])
    assert np.allclose(left, alone, atol=1e-2) and np.allclose(right, alone, atol=1e-2)
