"""`chat_batch(choices=...)` and `one_of`: a model that can only answer with given texts."""

import json

import openai
import pytest

from utils import llm

COLOURS = ["It is blue.", "It is blue and very far away.", "It is a kind of cheese."]


def ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_answers_are_among_the_choices_whatever_the_batch(monkeypatch):
    """In float32, where rounding leaves no near ties open."""
    import torch

    monkeypatch.setattr("utils.hardware.dtype", lambda: torch.float32)
    llm._load.cache_clear()
    chats = [
        ask("What colour is the sky?"),
        ask("What is Camembert? Answer in one sentence."),
        ask("Hi"),
    ]
    choices = [COLOURS, COLOURS, ["Only this."]]
    answers = llm.chat_batch(chats, choices=choices)
    assert all(answer in texts for answer, texts in zip(answers, choices, strict=True))
    assert answers == [
        llm.chat_batch([c], choices=[t])[0] for c, t in zip(chats, choices, strict=True)
    ]
    llm._load.cache_clear()


def test_the_prompt_decides():
    chats = [ask(f"Repeat this sentence word for word: {text}") for text in COLOURS[1:]]
    assert llm.chat_batch(chats, choices=[COLOURS, COLOURS]) == COLOURS[1:]


class Tokenizer:
    eos_token_id = 0

    def __call__(self, text, add_special_tokens):
        return type("Encoding", (), {"input_ids": [ord(letter) for letter in text]})


class Written(list):
    """Stands for a tensor: slices that know `tolist`."""

    def __getitem__(self, item):
        return (
            type(self)(super().__getitem__(item))
            if isinstance(item, slice)
            else super().__getitem__(item)
        )

    def tolist(self):
        return list(self)


def test_masks_lead_to_every_choice_and_stop_when_one_is_left():
    choice = llm._Choice(Tokenizer(), [["ab", "abc", "x", "ab"], ["y"]], prompt_length=2)
    begin = [7, 7]
    assert set(choice(0, Written(begin))) == {ord("a"), ord("x")}
    assert set(choice(0, Written(begin + [97, 98]))) == {0, ord("c")}, "one text goes on, one ends"
    assert choice(0, Written(begin + [ord("x")])) == [0] and choice(1, Written(begin)) == [0]
    assert choice.text(0, [97, 98, 0, 0]) == "ab" and choice.text(0, [97, 98, 99, 0]) == "abc"
    assert choice.text(0, [ord("x"), 0]) == "x" and choice.text(1, [0, 0, 0]) == "y"


def test_every_chat_needs_choices():
    for choices in ([["a"]], [["a"], []]):
        with pytest.raises(ValueError, match="choices"):
            llm.chat_batch([ask("a"), ask("b")], choices=choices)


def test_one_of_binds_the_local_server(endpoint):
    texts = ['He said: "blue".', "It's a kind of cheese."]
    answer = openai.OpenAI(max_retries=0).chat.completions.create(
        model=endpoint.model,
        messages=ask("What colour is the sky?"),
        temperature=0,
        response_format=llm.one_of(texts),
    )
    assert json.loads(answer.choices[0].message.content)["answer"] in texts


def test_a_hosted_model_is_asked_with_the_schema(as_provider):
    assert llm.hosted()
    chats = [ask("What colour is the sky?"), ask("Hi")]
    answers = llm.chat_batch(chats, choices=[COLOURS, ["Only this."]])
    assert answers[0] in COLOURS and answers[1] == "Only this."
