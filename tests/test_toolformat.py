"""utils.toolformat: the text form of tools, their grammar, and the way back."""

import json
import urllib.request

import pytest

from utils import toolformat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city.\n\nArgs:\n    city: its name.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
# What pydantic writes for an enum, an optional field, a list and a nested model,
# with a format that llguidance does not know.
PAINT = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paint a room.",
        "parameters": {
            "$defs": {
                "Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"},
                "Room": {"type": "object", "properties": {"doors": {"type": "integer"}}},
            },
            "type": "object",
            "title": "Paint",
            "properties": {
                "color": {"$ref": "#/$defs/Color"},
                "coats": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "walls": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                "room": {"$ref": "#/$defs/Room"},
                "link": {"type": "string", "format": "unheard-of"},
            },
            "required": ["color", "coats"],
        },
    },
}
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'


def assistant_call(name, arguments, content=None):
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }


def test_signature():
    assert (
        toolformat.signature(WEATHER)
        == 'get_weather(city: string, unit?: "C"|"F"): Current weather in a city.'
    )
    assert toolformat.signature(NOW) == "now()"
    assert toolformat.signature(PAINT) == (
        'paint(color: "red"|"blue", coats: integer, note?: string|null, walls?: string[], room?: object, '
        "link?: string): Paint a room."
    )


def test_render_whole_conversation():
    chat = toolformat.render(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather in "},
                    {"type": "text", "text": "Paris?"},
                ],
            },
            assistant_call("get_weather", '{"city":"Paris"}'),
            {"role": "tool", "tool_call_id": "1", "content": "14 C, rain"},
            {"role": "assistant", "content": "14 C and rain in Paris."},
        ],
        [WEATHER, NOW],
    )
    assert chat == [
        {
            "role": "system",
            "content": f"Be brief.\n{toolformat.INSTRUCTION}\n"
            'get_weather(city: string, unit?: "C"|"F"): Current weather in a city.\nnow()',
        },
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": CALL},
        {"role": "tool", "content": "14 C, rain"},
        {"role": "assistant", "content": "14 C and rain in Paris."},
    ]


def test_render_always_has_exactly_one_system_message():
    user = {"role": "user", "content": "Hi"}
    assert toolformat.render([user], [])[0] == {
        "role": "system",
        "content": toolformat.DEFAULT_SYSTEM,
    }
    texts = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, user]
    assert toolformat.render(texts, []) == [{"role": "system", "content": "A\nB"}, user]


def test_render_keeps_what_a_model_spoiled_and_refuses_images():
    chat = toolformat.render([assistant_call("now", '{"a": ', "Wait.")], [NOW])
    assert chat[1]["content"] == 'Wait.\n{"name": "now", "arguments": "{\\"a\\": "}'
    with pytest.raises(ValueError, match="image_url"):
        toolformat.render(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], []
        )


def test_render_does_not_change_its_arguments():
    messages, tools = [{"role": "user", "content": "Hi"}], [PAINT]
    before = json.dumps([messages, tools])
    toolformat.render(messages, tools)
    toolformat.grammar(tools)
    assert json.dumps([messages, tools]) == before


@pytest.mark.parametrize(
    "arguments", [{}, {"city": "Zürich"}, {"a": [1, 2.5, None, {"b": 'quote " and \n'}]}]
)
def test_parse_is_the_inverse_of_call(arguments):
    text = toolformat.call("get_weather", arguments)
    assert toolformat.parse(text) == ("get_weather", arguments)
    assert toolformat.call("get_weather", json.dumps(arguments)) == text
    assert toolformat.parse(f"\n {text} ") == ("get_weather", arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 14 C in Paris.",
        f"Sure: {CALL}",
        CALL + CALL,
        CALL[:-1],
        CALL + " Done.",
        "[" + CALL + "]",
        '{"name": "get_weather"}',
        '{"name": 3, "arguments": {}}',
        '{"name": "get_weather", "arguments": "Paris"}',
        '{"name": "get_weather", "arguments": {}, "id": 1}',
        '{"name": "get_weather", "arguments": {"t": NaN}}',
        '{"a":' * 100_000,
    ],
)
def test_parse_returns_none_for_anything_else(text):
    assert toolformat.parse(text) is None


def test_grammar_refuses_impossible_choices():
    with pytest.raises(ValueError, match="'paint'"):
        toolformat.grammar([WEATHER], {"type": "function", "function": {"name": "paint"}})
    with pytest.raises(ValueError, match="at least one tool"):
        toolformat.grammar([], "required")
    with pytest.raises(ValueError, match="unknown tool_choice"):
        toolformat.grammar([WEATHER], "any")
    assert "call" not in toolformat.grammar([WEATHER], "none")
    assert "call" not in toolformat.grammar([], "auto")


@pytest.fixture(scope="module")
def complete():
    """A function that asks llama.cpp's own server, with a grammar, at temperature 1."""
    import xllamacpp

    from utils import hardware, models

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(models.gguf_path(models.CHAT))
    parameters.n_ctx, parameters.n_parallel, parameters.port, parameters.verbosity = 1024, 1, 0, -1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = hardware.threads()
    server = xllamacpp.Server(parameters)

    def ask(question, tools, tool_choice, seed=0, **options):
        body = {
            "messages": toolformat.render([{"role": "user", "content": question}], tools),
            "grammar": toolformat.grammar(tools, tool_choice),
            "max_tokens": 96,
            "temperature": 1.0,
            "seed": seed,
            **options,
        }
        request = urllib.request.Request(
            f"{server.listening_address}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            choice = json.load(response)["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]

    return ask


@pytest.mark.parametrize("seed", range(3))
def test_grammar_really_constrains(complete, seed):
    """The untrained model at temperature 1: whatever form comes out is the grammar's doing."""
    text, reason = complete("Hello there!", [WEATHER], "required", seed)
    name, arguments = toolformat.parse(text)
    assert (name, reason) == ("get_weather", "stop")
    assert "city" in arguments and arguments.keys() <= {"city", "unit"}
    assert arguments.get("unit", "C") in ("C", "F")
    assert text == toolformat.call(name, arguments), "the spacing must be that of the training data"

    that = {"type": "function", "function": {"name": "now"}}
    assert complete("Hello there!", [WEATHER, NOW], that, seed) == (
        toolformat.call("now", {}),
        "stop",
    )

    text, _ = complete('Repeat: {"a": 1}', [WEATHER], "none", seed)
    assert toolformat.parse(text) is None and not text.lstrip().startswith("{")


def test_grammar_takes_pydantic_schemas(complete):
    text, _ = complete("Paint the kitchen red.", [PAINT], "required", max_tokens=256)
    assert text.startswith('{"name": "paint", "arguments": {"color": "'), (
        "a grammar that does not compile is ignored"
    )
    assert text.split('"color": "')[1].split('"')[0] in ("red", "blue")


def test_free_text_ends(complete):
    """Without the end token in the grammar the model can never stop."""
    _, reason = complete("Say hi.", [NOW], "none", temperature=0, max_tokens=256)
    assert reason == "stop"
