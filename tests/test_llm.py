"""The local server through the official clients, and batches of answers, on the real models."""

import json
import os
import socket
import subprocess
import sys
import threading

import httpx2  # what the openai client speaks through
import openai
import pytest

from utils import llm, models

QUESTION = [{"role": "user", "content": "What is gravity?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city", "unit"],
        },
    },
}


@pytest.fixture
def client(endpoint):
    return openai.OpenAI(max_retries=0)


@pytest.fixture
def ask(client, endpoint):
    def ask(messages=QUESTION, **options):
        options = {"max_tokens": 24, "temperature": 0} | options
        return client.chat.completions.create(model=endpoint.model, messages=messages, **options)

    return ask


# --- what the server gives ---------------------------------------------------


def test_streaming_gives_the_same_kind_of_answer(ask):
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("Gravity is") and chunks[-1].usage.completion_tokens == 24
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"


def test_a_json_schema_binds(ask):
    schema = {
        "type": "object",
        "properties": {
            "planet": {"enum": ["Mars", "Venus"]},
            "moons": {"type": "integer", "maximum": 9},
        },
        "required": ["planet", "moons"],
        "additionalProperties": False,
    }
    form = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    answer = json.loads(ask(response_format=form, max_tokens=60).choices[0].message.content)
    assert answer["planet"] in ("Mars", "Venus") and isinstance(answer["moons"], int)


def test_log_probabilities(ask):
    content = ask(logprobs=True, top_logprobs=3, max_tokens=4).choices[0].logprobs.content
    assert len(content) == 4 and all(len(token.top_logprobs) == 3 for token in content)
    assert all(-20 < token.logprob <= 0 for token in content)


def test_embeddings_are_those_of_sentence_transformers(client):
    import numpy as np
    from sentence_transformers import SentenceTransformer

    texts = ["How do I open a file?", "A much longer sentence about nothing in particular. " * 40]
    ours = client.embeddings.create(model=models.EMBEDDING, input=texts)
    theirs = SentenceTransformer(models.EMBEDDING, device="cpu").encode(
        texts, normalize_embeddings=True
    )
    assert np.abs(np.array([item.embedding for item in ours.data]) - theirs).max() < 1e-5


def test_a_lora_adapter_does_what_it_does_in_transformers(tmp_path):
    """Every kind of layer is adapted, strongly: a wrong order of rows would show at once."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(models.CHAT, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(models.CHAT)
    network = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.15)
    network.save_pretrained(tmp_path / "odd")
    prompt = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        expected = network(**prompt).logits[0, -1].log_softmax(-1)
        with network.disable_adapter():
            plain = network(**prompt).logits[0, -1].log_softmax(-1)
    endpoint = llm._start(models.CHAT, tmp_path / "odd", 1, 512, 0)
    client = openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key)
    answer = client.chat.completions.create(
        model=endpoint.model,
        messages=QUESTION,
        max_tokens=1,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
    )
    endpoint.close()
    served = {t.id: t.logprob for t in answer.choices[0].logprobs.content[0].top_logprobs}

    def distance(reference) -> float:
        return sum(abs(reference[i].item() - p) for i, p in served.items()) / len(served)

    assert endpoint.model == f"{models.CHAT}:odd"
    assert distance(expected) < 0.35 < distance(plain)


def test_both_roads_cut_text_into_the_same_tokens(endpoint):
    import httpx
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.CHAT)
    address, headers = (
        endpoint.base_url.removesuffix("/v1"),
        {"Authorization": f"Bearer {endpoint.api_key}"},
    )
    for text in (
        "Hello, world!",
        "steps:\n\n1. first\n\n  22. second",
        "in 2025\t7 x  8",
        "你好 🙂 naïve",
        "def f(x):\n    return 10",
    ):
        served = httpx.post(f"{address}/tokenize", json={"content": text}, headers=headers).json()[
            "tokens"
        ]
        assert served == tokenizer(text).input_ids, text


# --- tools -------------------------------------------------------------------

ASK_WEATHER = [{"role": "user", "content": "What's the weather in Paris?"}]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_fits_the_schema(ask, choice):
    answer = ask(ASK_WEATHER, tools=[WEATHER], tool_choice=choice, max_tokens=60).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    call = answer.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and call.id.startswith("call_")
    assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("C", "F")


def test_a_streamed_call_is_the_same_call(ask):
    options = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 60}
    name, text, reason = None, "", None
    for chunk in ask(ASK_WEATHER, stream=True, **options):
        reason = chunk.choices[0].finish_reason or reason
        for call in chunk.choices[0].delta.tool_calls or []:
            name, text = call.function.name or name, text + (call.function.arguments or "")
    assert (
        name == "get_weather"
        and reason == "tool_calls"
        and set(json.loads(text)) == {"city", "unit"}
    )


def test_none_means_text(ask):
    message = ask(ASK_WEATHER, tools=[WEATHER], tool_choice="none").choices[0].message
    assert message.content and not message.tool_calls


def test_results_go_back_in(ask):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    messages = [
        *ASK_WEATHER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": 18}'},
    ]
    assert ask(messages, tools=[WEATHER], tool_choice="none").choices[0].message.content


@pytest.mark.parametrize(
    "options, said",
    [
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "nothing"}},
            },
            "'nothing'",
        ),
        ({"tools": [WEATHER], "response_format": {"type": "json_object"}}, "cannot be combined"),
        ({"messages": ["hello"]}, "messages must be"),
    ],
)
def test_impossible_requests_are_400(ask, options, said):
    with pytest.raises(openai.BadRequestError, match=said):
        ask(**options)


def test_langchain_and_langgraph_run_unmodified(endpoint):
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    def get_weather(city: str) -> str:
        """Current weather in a city."""
        return json.dumps({"city": city, "temperature": 18})

    model = ChatOpenAI(model=endpoint.model, temperature=0, max_tokens=60)
    bound = model.bind_tools([get_weather], tool_choice="required")
    assert bound.invoke("Weather in Oslo?").tool_calls[0]["name"] == "get_weather"
    parts = list(bound.stream("Weather in Oslo?"))
    total = parts[0]
    for part in parts[1:]:
        total += part
    assert total.tool_calls[0]["name"] == "get_weather" and "city" in total.tool_calls[0]["args"]
    # The untrained model may call or talk: either way the graph must come to an end.
    agent = create_agent(model, [get_weather])
    state = agent.invoke(
        {"messages": [{"role": "user", "content": "Weather in Oslo?"}]}, {"recursion_limit": 40}
    )
    assert state["messages"][-1].type == "ai"


# --- errors ------------------------------------------------------------------


def test_errors_are_those_of_a_provider(client, endpoint, ask):
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        openai.OpenAI(api_key="wrong", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError, match="'gpt-x' is not served here"):
        client.chat.completions.create(model="gpt-x", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="context"):
        ask([{"role": "user", "content": "word " * 9000}])
    assert {m.id for m in client.models.list()} == {models.CHAT, models.EMBEDDING}


def test_a_taken_port_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(llm.LLMError, match=f"Port {port} is taken"):
            llm._start(models.CHAT, None, 1, 512, port)


def test_a_corrupt_gguf_is_one_sentence(tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(models.gguf_path().read_bytes()[:1_000_000])
    with pytest.raises(llm.LLMError, match="cannot load .*bad.gguf.*--repair"):
        llm._start(str(bad), None, 1, 512, 0)


def test_a_reader_who_leaves_stops_the_model(client, endpoint):
    """Otherwise every closed browser tab would keep a core busy until max_tokens."""
    import httpx

    stream = client.chat.completions.create(
        model=endpoint.model,
        messages=QUESTION,
        max_tokens=4000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()
    address, headers = (
        endpoint.base_url.removesuffix("/v1"),
        {"Authorization": f"Bearer {endpoint.api_key}"},
    )
    for _ in range(100):
        slots = httpx.get(f"{address}/slots", headers=headers).json()
        if not any(slot["is_processing"] for slot in slots):
            return
        threading.Event().wait(0.1)
    pytest.fail("the model still writes ten seconds after its reader left")


# --- the environment ---------------------------------------------------------


def test_the_same_server_is_used_again(endpoint):
    assert llm.serve() is endpoint and os.environ["OPENAI_MODEL"] == models.CHAT


def test_a_chosen_provider_is_left_alone(as_provider):
    chosen = llm.serve("Qwen/Qwen3-1.7B")
    assert not chosen.local and chosen.model == as_provider.model
    chosen.close()
    assert os.environ["OPENAI_BASE_URL"] == as_provider.base_url
    chats = [[{"role": "user", "content": f"Say the number {i}."}] for i in range(5)]
    answers = llm.chat_batch(chats, max_new_tokens=8, requests_per_minute=6000)
    assert len(answers) == 5 and all(answers)


def test_what_a_reasoning_model_refuses_is_left_out(monkeypatch):
    """OpenAI's reasoning models answer 400 to `max_tokens` and to any temperature but 1."""
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append(body.keys() - {"model", "messages"})
        refused = next((name for name in ("max_tokens", "temperature") if name in body), None)
        if refused:
            error = {
                "message": f"Unsupported parameter: {refused}",
                "param": refused,
                "code": "unsupported_parameter",
            }
            return httpx2.Response(400, json={"error": error})
        message = {"role": "assistant", "content": "Yes."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(
            200,
            json={
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
            },
        )

    monkeypatch.setenv("OPENAI_MODEL", "m")
    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(api_key="k", base_url="http://provider/v1", http_client=http_client)
    found = llm._complete(client, messages=QUESTION, max_tokens=5, temperature=0)
    assert found.choices[0].message.content == "Yes."
    assert asked == [
        {"max_tokens", "temperature"},
        {"max_completion_tokens", "temperature"},
        {"max_completion_tokens"},
    ]
    with pytest.raises(openai.BadRequestError):
        llm._complete(client, messages=QUESTION, extra_body={"max_tokens": 5})


def test_a_key_alone_sends_no_bill(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-reader")
    assert not llm.hosted()


def test_a_wrong_key_and_a_dead_provider_are_one_sentence(as_provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(llm.LLMError, match="refuses the key in OPENAI_API_KEY"):
        llm.serve()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(llm.LLMError, match="does not answer"):
        llm.serve()


# --- batches and other models ------------------------------------------------


def test_a_batch_equals_one_by_one(monkeypatch):
    """In float32, where rounding leaves no near ties open."""
    import torch

    monkeypatch.setattr("utils.hardware.dtype", lambda: torch.float32)
    llm._load.cache_clear()
    questions = [
        "What is gravity?",
        "Hi",
        "Name three colours of the rainbow, in a short list.",
        "Who was Ada Lovelace?",
    ]
    chats = [[{"role": "user", "content": q}] for q in questions]
    together = llm.chat_batch(chats, max_new_tokens=16)
    alone = [llm.chat_batch([chat], max_new_tokens=16)[0] for chat in chats]
    llm._load.cache_clear()
    assert together == alone and len(set(together)) == 4


def test_a_model_without_gguf_is_served_by_transformers():
    snapshot = models.RELEASES[models.CHAT].snapshot
    endpoint = llm._start(str(snapshot), None, 1, 512, 0)
    client = openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key)
    options = {"model": endpoint.model, "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    answer = client.chat.completions.create(**options).choices[0].message.content
    streamed = [
        c.choices[0].delta.content or ""
        for c in client.chat.completions.create(**options, stream=True)
        if c.choices
    ]
    endpoint.close()
    assert answer.startswith("Gravity is") and "".join(streamed).startswith("Gravity is")


def test_a_process_with_a_server_ends_quietly():
    code = "from utils import llm; print(llm.serve().model)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, models.CHAT, "")
