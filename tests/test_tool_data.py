"""utils.tool_data: the tools, and that what is held out was never trained on."""

import json
import re
from dataclasses import fields

import pytest

from utils import tool_data, toolformat

# All that the training recipe may ever see: far more conversations than it takes.
TRAINING = tool_data.conversations(0, 1500)
TASKS = tool_data.tasks(0, 240)


def test_tools_fit_their_schemas_and_never_raise():
    assert [tool["function"]["name"] for tool in tool_data.TOOLS] == list(tool_data.FUNCTIONS)
    assert json.loads(tool_data.run("calculate", {"expression": "2 * (3 - 5) / 8"})) == {
        "result": -0.5
    }
    assert json.loads(
        tool_data.run("convert_currency", {"amount": 92, "source": "EUR", "target": "USD"})
    ) == {
        "amount": 100,
        "currency": "USD",
    }
    for name, arguments in [
        ("get_weather", {"city": "Atlantis"}),
        ("get_weather", {"town": "Paris"}),
        ("get_weather", {"city": ["Paris"]}),
        ("convert_currency", {"amount": "ten", "source": "EUR", "target": "USD"}),
        ("send_email", {"to": "Maria", "subject": "x"}),
        ("calculate", {"expression": "__import__('os').getcwd()"}),
        ("calculate", {"expression": "1 / 0"}),
        ("calculate", {"expression": 3}),
        ("no_such_tool", {}),
    ]:
        assert json.loads(tool_data.run(name, arguments)).keys() == {"error"}, name


def test_schema_reads_types_and_defaults():
    def look(at: str, times: int = 1, loud: bool = False) -> None:
        """Look."""

    function = tool_data.schema(look)["function"]
    assert function["parameters"]["required"] == ["at"]
    assert (
        toolformat.signature({"function": function})
        == "look(at: string, times?: integer, loud?: boolean): Look."
    )


@pytest.mark.parametrize("field", [field.name for field in fields(tool_data.Names)])
def test_held_out_names_are_not_trained(field):
    """No held-out name stands anywhere in the training text, as a whole word or number."""
    ours, theirs = (getattr(names, field) for names in (tool_data.HELD_OUT, tool_data.TRAIN))
    assert len(set(ours)) == len(ours) and not set(ours) & set(theirs)
    text = json.dumps(TRAINING, ensure_ascii=False)
    # A total or a result may happen to be the number of a held-out order.
    if field == "orders":
        text = " ".join(
            message["content"]
            for messages, _ in TRAINING
            for message in messages
            if message["role"] == "user"
        )
        text = re.sub(
            r"[\d.]+ (?:[-+*/]|plus|minus|times|divided by) [\d.]+|[\d.]+ [A-Z]{3}|[\d.]+ (?:dollars|euros|pounds|yen|rupees)",
            "",
            text,
        )
    words = set(re.findall(r"\w+", text))
    found = [
        name for name in map(str, ours) if name in words or (not name.isalnum() and name in text)
    ]
    assert not found


def test_held_out_phrasings_are_not_trained():
    for family in tool_data.FAMILIES:
        train, held = (set(map(str.lower, family.phrasings(held))) for held in (False, True))
        assert len(train) >= 10 and len(held) >= 5 and not train & held, family.name
    talk = tool_data.PHRASINGS["talk"]
    assert not {question.lower() for question, _ in talk["train"]} & set(
        map(str.lower, talk["held_out"])
    )


def test_tasks_are_balanced_and_solved_by_their_calls():
    assert sum(len(task.calls) == 2 for task in TASKS) == 80
    assert sum(len(task.calls) == 1 for task in TASKS) == 160
    for task in TASKS:
        assert [tool_data.run(*call) for call in task.calls] == task.results, task
        assert not any("error" in result for result in task.results), task
        assert task.facts and tool_data.contains(task.answer, task.facts), task
        assert "{" not in task.user + task.answer, "a gap was left open"


def test_a_user_has_said_every_first_argument():
    """A task must be solvable from its own words: numbers, names and subjects stand in the request."""
    for task in TASKS:
        for key, value in task.calls[0][1].items():
            if key not in ("source", "target", "expression"):  # euros, 3 times 4
                assert tool_data.contains(task.user, [str(value)]), task


def test_samples_are_seeded():
    assert tool_data.tasks(3, 12) == tool_data.tasks(3, 12) != tool_data.tasks(4, 12)
    assert (
        tool_data.conversations(3, 12)
        == tool_data.conversations(3, 12)
        != tool_data.conversations(4, 12)
    )
    assert tool_data.steps(3, 12) == tool_data.steps(3, 12) != tool_data.steps(4, 12)


def test_conversations_call_only_listed_tools_and_vary_the_list():
    lists = set()
    for messages, tools in TRAINING:
        names = [tool["function"]["name"] for tool in tools]
        lists.add(tuple(names))
        calls = [call for message in messages for call in message.get("tool_calls", [])]
        assert {call["function"]["name"] for call in calls} <= set(names)
    assert len(lists) > 300
    texts = [
        message["content"]
        for messages, _ in TRAINING
        for message in messages
        if message["role"] == "assistant"
    ]
    assert any((text or "").startswith("That did not work") for text in texts)


def test_steps_score_themselves():
    for kind, steps in tool_data.steps(0, 26).items():
        for step in steps:
            assert step.kind == kind
            right = toolformat.call(*step.call) if step.call else step.text or "Hello!"
            assert step.correct(right), step
            assert not step.correct(toolformat.call("get_weather", {"city": "Nowhere"})), step
            assert not step.correct("" if step.call else '{"name": '), step
            if kind == "answer":
                assert not step.correct("It worked."), step


def test_facts_are_whole_words_and_numbers():
    assert tool_data.contains("It is 4 degrees.", ["4"]) and tool_data.contains(
        "Each pays 4.", ["4"]
    )
    for text in (
        "It is 41 degrees.",
        "It is 4.5 degrees.",
        "It is -4 degrees.",
        "It is 1.4 degrees.",
    ):
        assert not tool_data.contains(text, ["4"]), text
