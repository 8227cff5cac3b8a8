"""How tools are written in the prompt, and how a call is read from the answer.

SmolLM2's chat template knows nothing of tools, so the book has one text form
of its own. The training recipe (`03_finetuning/03_lora_tool_calling`) teaches
it and `utils.gateway` serves it; both go through this module and then through
the tokenizer's own chat template, so that the model never meets a prompt in a
form it was not trained on.

The messages and tools are those of OpenAI's chat completions API:
https://platform.openai.com/docs/api-reference/chat
"""

import json
from typing import Any

DEFAULT_SYSTEM = "You are a helpful assistant."
INSTRUCTION = "To use a tool, reply with one JSON object. Otherwise reply in plain text. Tools:"

# Spaced exactly as json.dumps does it: a small model has learned one way, and a
# grammar that forces another makes its choices worse. Lenient: keywords that
# llguidance does not know are ignored (by default they void the whole grammar).
_JSON_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,
}


def signature(tool: dict[str, Any]) -> str:
    """One tool on one line.

    `get_weather(city: string, unit?: "C"|"F"): Current weather in a city.`
    Optional parameters carry a question mark; of the description only the
    first paragraph is kept; descriptions of parameters are left out, since
    every token of them is read again at every turn.

    Args:
        tool: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    """
    function = tool["function"]
    schema = function.get("parameters") or {}
    required = schema.get("required", [])
    parameters = ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(part, schema)}"
        for name, part in schema.get("properties", {}).items()
    )
    paragraph = (function.get("description") or "").strip().split("\n\n")[0]
    return f"{function['name']}({parameters}): {' '.join(paragraph.split())}".removesuffix(": ")


def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Chat with tools in, plain chat out, ready for `apply_chat_template`.

    The result starts with exactly one system message: the caller's system
    (or developer) texts, if any, then the instruction and one line per tool.
    A call of the assistant becomes the text `call` writes, one line per call;
    a result keeps its role `tool` and its content.

    Args:
        messages: OpenAI messages; content may be text or a list of text parts.
        tools: OpenAI tools; with none the instruction is left out.

    Raises:
        ValueError: for a part of a message that is not text, e.g. an image.
    """
    system = [_text(m) for m in messages if m["role"] in ("system", "developer")]
    listing = [INSTRUCTION, *map(signature, tools)] if tools else []
    head = "\n".join([*filter(None, system), *listing]) or DEFAULT_SYSTEM
    turns = [
        {"role": m["role"], "content": _turn(m)}
        for m in messages
        if m["role"] not in ("system", "developer")
    ]
    return [{"role": "system", "content": head}, *turns]


def call(name: str, arguments: dict[str, Any] | str) -> str:
    """The text of one call: `{"name": "get_weather", "arguments": {"city": "Paris"}}`.

    Args:
        name: name of the tool.
        arguments: an object, or its JSON text as OpenAI's `tool_calls` carry it.
            Text that is not JSON (a client may send back what a model spoiled)
            is kept as a string.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            pass
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def grammar(
    tools: list[dict[str, Any]], tool_choice: str | dict[str, Any] = "auto", end: str = "<|im_end|>"
) -> str:
    """A grammar for llama.cpp's `grammar` field that admits only well-formed answers.

    It is in llguidance's Lark dialect
    (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). A call
    names one of the tools and its arguments fit that tool's JSON schema, keys
    in the order of the schema; anything that does not start with a brace is
    plain text. The grammar forces the form only: the values are the model's.

    Beware: llama.cpp does not reject a grammar that it cannot compile (a
    `pattern` with a lookahead, say); it answers without one. So parse and
    check what comes back all the same.

    Args:
        tools: OpenAI tools.
        tool_choice: "auto" (call or text), "required" (a call), "none" (text),
            or `{"type": "function", "function": {"name": ...}}` (that call).
        end: the model's end-of-turn token. It must stand in the grammar: a rule
            for free text alone never lets llama.cpp stop.

    Raises:
        ValueError: if the choice is unknown, names no tool of the list, or
            asks for a call when there are no tools.
    """
    if isinstance(tool_choice, dict):
        wanted = tool_choice.get("function", {}).get("name")
        tools = [tool for tool in tools if tool["function"]["name"] == wanted]
        if not tools:
            raise ValueError(f"tool_choice names {wanted!r}, which is not among the tools")
        start = "call"
    elif tool_choice == "required":
        if not tools:
            raise ValueError('tool_choice "required" needs at least one tool')
        start = "call"
    elif tool_choice in ("auto", "none"):
        start = "call | text" if tools and tool_choice == "auto" else "text"
    else:
        raise ValueError(f"unknown tool_choice {tool_choice!r}")

    lines = ["%llguidance {}", f"start: {start}"]
    if "call" in start:
        lines.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools))))
        for i, tool in enumerate(tools):
            # A rule of its own for each tool's arguments: "#/$defs/..." in a
            # schema then still points into that schema.
            head = f'{{"name": {json.dumps(tool["function"]["name"], ensure_ascii=False)}, "arguments": '
            lines.append(f'call_{i}: {json.dumps(head)} arguments_{i} "}}"')
            lines.append(f"arguments_{i}: %json {json.dumps(_arguments_schema(tool))}")
    if "text" in start:
        lines.append(rf"text: /[^{{\s](.|\n)*/ {end}")
    return "\n".join(lines)


def parse(text: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments if the whole text is one call, else None; never raises.

    Whether the tool exists and the arguments fit its schema is the caller's
    business: a model without a grammar may well write a call to nothing.
    """
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if value.keys() != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")  # json.loads takes NaN and Infinity otherwise


def _turn(message: dict[str, Any]) -> str:
    calls = [
        call(c["function"]["name"], c["function"]["arguments"])
        for c in message.get("tool_calls") or []
    ]
    return "\n".join(filter(None, [_text(message), *calls]))


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    for part in content:
        if part.get("type") != "text":
            raise ValueError(f"only text content is supported, not {part.get('type')!r}")
    return "".join(part["text"] for part in content)


def _type(part: dict[str, Any], root: dict[str, Any]) -> str:
    """A JSON schema as a short type: `string`, `"a"|"b"`, `integer[]`, `string|null`."""
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[-1]
        definitions = root.get("$defs") or root.get("definitions") or {}
        # A definition may contain itself: only its name is written below the first level.
        return _type(definitions.get(name, {}), {}) if name in definitions else "object"
    if "enum" in part or "const" in part:
        return "|".join(
            json.dumps(v, ensure_ascii=False) for v in part.get("enum", [part.get("const")])
        )
    if "anyOf" in part or "oneOf" in part:
        return "|".join(_type(p, root) for p in part.get("anyOf") or part.get("oneOf"))
    kind = part.get("type", "any")
    if isinstance(kind, list):
        return "|".join(kind)
    if kind == "array":
        inner = _type(part.get("items", {}), root)
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    return kind


def _arguments_schema(tool: dict[str, Any]) -> dict[str, Any]:
    schema = dict(tool["function"].get("parameters") or {})
    # A schema without this line admits any further key, which nobody means.
    return {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
        **schema,
        "x-guidance": _JSON_STYLE,
    }
