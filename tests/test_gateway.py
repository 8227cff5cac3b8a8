"""The gateway's own logic; what it does with a real model stands in test_llm.py."""

import json

import pytest

from utils.gateway import _CallStream, _extract_call, _with_tools

CALL = '{"name": "get_weather", "arguments": {"city": "Paris", "days": {"from": 1}}}'
ARGUMENTS = '{"city": "Paris", "days": {"from": 1}}'


def stream(text: str, pieces: int, reason: str = "stop"):
    """Feed a text in pieces of a few characters; join what comes out, as a client does."""
    state, content, name, arguments = _CallStream(), "", None, ""
    deltas = [state.push(text[i : i + pieces]) for i in range(0, len(text), pieces)]
    last, reason = state.finish(reason)
    for delta in filter(None, [*deltas, last]):
        content += delta.get("content", "")
        for call in delta.get("tool_calls", []):
            name = call["function"].get("name", name)
            arguments += call["function"]["arguments"]
    return content, name, arguments, reason


def whole(text: str, reason: str = "stop") -> dict:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    _extract_call(choice)
    return choice


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("text", [CALL, f"  {CALL}\n", CALL.replace("}}}", "} }\n}")])
def test_a_call_streams_as_its_arguments(text, pieces):
    content, name, arguments, reason = stream(text, pieces)
    assert (content, name, reason) == ("", "get_weather", "tool_calls")
    assert json.loads(arguments) == json.loads(ARGUMENTS)


@pytest.mark.parametrize("pieces", [1, 5, 1000])
@pytest.mark.parametrize(
    "text", ["It is 18 degrees.", "a {brace} in the text", "{not a call", '{"name": 3}', ""]
)
def test_text_streams_as_it_is(text, pieces):
    assert stream(text, pieces) == (text, None, "", "stop")


@pytest.mark.parametrize("pieces", [1, 4, 1000])
def test_a_call_cut_off_keeps_what_was_written(pieces):
    cut = CALL[:55]
    _, name, arguments, reason = stream(cut, pieces, "length")
    assert (name, reason) == ("get_weather", "length")
    assert cut.endswith(arguments) and arguments.startswith('{"city"')
    choice = whole(cut, "length")
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == arguments


def test_whole_and_streamed_agree():
    message = whole(CALL)["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": ARGUMENTS}
    assert whole(CALL)["finish_reason"] == "tool_calls"
    assert whole("plain")["message"] == {"role": "assistant", "content": "plain"}


def test_results_without_tools_leave_the_form_of_the_answer_free():
    """A summary of what the tools gave may be asked for as JSON."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    form = {"type": "json_object"}
    sent = _with_tools({"messages": messages, "response_format": form})
    assert "grammar" not in sent and sent["response_format"] == form
    assert "grammar" in _with_tools({"messages": messages, "tools": [tool]})
