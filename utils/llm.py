"""The chat model behind the OpenAI API, on this machine unless told otherwise.

Two roads lead to the same model, each where it is fastest: :func:`serve` starts
an OpenAI-compatible server for single, interactive calls; :func:`chat_batch`
answers a whole evaluation set in batches.

The environment decides what is called, as with every OpenAI client:

- nothing set: a local server on loopback, its address, key and model put into
  ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` and ``OPENAI_MODEL``;
- ``OPENAI_BASE_URL`` or ``OPENAI_MODEL`` set by the reader: that provider, and
  nothing is started. ``OPENAI_API_KEY`` alone does not count: many have one in
  their shell, and running a notebook must not send them a bill.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from utils import hardware, models

Chat = list[dict[str, Any]]

OPENAI = "https://api.openai.com/v1"


class LLMError(RuntimeError):
    """The model cannot be reached or started; the message says what to do."""


@dataclass
class Endpoint:
    """Where the model answers. ``local`` says whether it was started here."""

    base_url: str
    api_key: str = field(repr=False)
    model: str
    local: bool
    _stop: list = field(default_factory=list, repr=False)

    def close(self) -> None:
        """Stop a local server and take its address out of the environment."""
        for stop in reversed(self._stop):
            stop()
        self._stop.clear()
        for key in [key for key, running in _running.items() if running is self]:
            del _running[key]
        if os.environ.get("OPENAI_BASE_URL") == self.base_url and self.local:
            for name in NAMES:
                os.environ.pop(name, None)


NAMES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL")
_running: dict[tuple, Endpoint] = {}


def hosted() -> bool:
    """Whether the reader has chosen a provider through the environment."""
    ours = {endpoint.base_url for endpoint in _running.values()}
    base_url = os.environ.get("OPENAI_BASE_URL")
    return base_url not in ours if base_url else bool(os.environ.get("OPENAI_MODEL"))


def serve(
    model: str = models.CHAT,
    adapter: str | Path | None = None,
    *,
    parallel: int = 4,
    context: int = 8192,
    port: int = 0,
    api_key: str = "",
) -> Endpoint:
    """Give OpenAI clients something to talk to, and say what.

    Starts llama.cpp in this process (transformers' own server in a process of
    its own for a model without a GGUF file) with the gateway of
    :mod:`utils.gateway` in front, and sets the three environment variables. A
    second call with the same arguments returns the server that runs.

    Args:
        model: a public name, or the path of a GGUF file.
        adapter: folder of a PEFT LoRA adapter to put on the model.
        parallel: how many answers are written at once; more callers wait.
        context: tokens of prompt and answer that all of them share.
        port: 0 for any free one.
        api_key: what clients must send; empty for a random one.

    Raises:
        LLMError: the provider refuses the key or does not answer, the port is
            taken, or the server does not start.
        models.ModelError: the model cannot be got or is damaged.
    """
    if hosted():
        endpoint = Endpoint(
            os.environ.get("OPENAI_BASE_URL", OPENAI),
            os.environ.get("OPENAI_API_KEY", ""),
            os.environ.get("OPENAI_MODEL", model),
            local=False,
        )
        _check_provider(endpoint)
        os.environ["OPENAI_MODEL"] = endpoint.model
        return endpoint
    key = (model, adapter and str(Path(adapter).resolve()), parallel, context, port, api_key)
    if key not in _running:
        _running[key] = _start(model, adapter, parallel, context, port, api_key)
        # While its threads still have an interpreter to run in
        atexit.register(_running[key].close)
    endpoint = _running[key]
    values = (endpoint.base_url, endpoint.api_key, endpoint.model)
    os.environ.update(zip(NAMES, values, strict=True))
    return endpoint


def chat_batch(
    chats: Sequence[Chat],
    *,
    model: str = models.CHAT,
    adapter: str | Path | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    requests_per_minute: int = 300,
    choices: Sequence[Sequence[str]] | None = None,
) -> list[str]:
    """Answer many chats, greedily and in their order.

    Locally in batches through transformers, padded on the left and sorted by
    length; in float32 each answer equals the one generated alone, in bfloat16 a
    near tie may fall the other way. With a hosted model the chats are sent
    side by side within the rate limit.

    Args:
        chats: lists of ``{"role", "content"}`` messages.
        adapter: folder of a PEFT adapter to put on the local model.
        max_new_tokens: answers are cut after so many tokens.
        batch_size: chats read at once; lower it when memory runs out.
        requests_per_minute: for a hosted model only.
        choices: for each chat the texts that it may answer with; the model can
            write nothing else. Locally by masking the other tokens, whatever
            the length of the choices; hosted by a JSON schema with an `enum`.

    Returns:
        The answers' texts, one for each chat.
    """
    if choices is not None and (len(choices) != len(chats) or not all(choices)):
        raise ValueError("choices must hold at least one text for every chat.")
    if hosted():
        return _send_all(chats, max_new_tokens, requests_per_minute, choices)
    return _generate_all(chats, model, adapter, max_new_tokens, batch_size, choices)


def one_of(texts: Sequence[str]) -> dict[str, Any]:
    """A `response_format` of the OpenAI API that allows only `{"answer": one of these texts}`."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(dict.fromkeys(texts))}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "choice", "strict": True, "schema": schema},
    }


# --- a hosted model ----------------------------------------------------------


def _check_provider(endpoint: Endpoint) -> None:
    """One cheap request now, rather than the same error from every cell later."""
    import httpx

    address = endpoint.base_url.rstrip("/") + "/models"
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    # Its list of models wants the key its own way
    if httpx.URL(address).host == "api.anthropic.com":
        headers |= {"x-api-key": endpoint.api_key, "anthropic-version": "2023-06-01"}
    try:
        response = httpx.get(address, headers=headers, timeout=10)
    except httpx.HTTPError as error:
        raise LLMError(
            f"{endpoint.base_url} does not answer ({error}): check OPENAI_BASE_URL, or unset it and "
            "OPENAI_MODEL to run the local model."
        ) from error
    if response.status_code in (401, 403):
        raise LLMError(
            f"{endpoint.base_url} refuses the key in OPENAI_API_KEY ({response.status_code}): set the "
            "right one, or unset OPENAI_BASE_URL and OPENAI_MODEL to run the local model."
        )


def _send_all(
    chats: Sequence[Chat],
    max_tokens: int,
    requests_per_minute: int,
    choices: Sequence[Sequence[str]] | None = None,
) -> list[str]:
    import json
    from concurrent.futures import ThreadPoolExecutor

    import openai
    from tqdm.auto import tqdm

    client = openai.OpenAI(max_retries=5)
    gap, turn, lock = 60 / requests_per_minute, [time.monotonic()], threading.Lock()

    def send(chat: Chat, texts: Sequence[str] | None) -> str:
        with lock:  # starts are spaced evenly: no window ever holds more than the limit
            turn[0] = max(turn[0] + gap, time.monotonic())
            wait = turn[0] - time.monotonic()
        time.sleep(max(0, wait))
        options = {"response_format": one_of(texts)} if texts else {"max_tokens": max_tokens}
        answer = _complete(client, messages=chat, temperature=0, **options)
        content = answer.choices[0].message.content or ""
        return json.loads(content)["answer"] if texts else content

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(send, chats, choices or [None] * len(chats))
        return list(tqdm(answers, total=len(chats), desc="answers", leave=False))


def _complete(client, **options: Any):
    """A chat completion; what a reasoning model refuses is left out or given its newer name."""
    import openai

    try:
        return client.chat.completions.create(model=os.environ["OPENAI_MODEL"], **options)
    except openai.BadRequestError as error:
        if error.param not in options or error.param not in ("max_tokens", "temperature"):
            raise
        value = options.pop(error.param)
        if error.param == "max_tokens":
            options["max_completion_tokens"] = value
        return _complete(client, **options)


# --- batches through transformers --------------------------------------------


def load(model: str, adapter: str | Path | None = None):
    """Tokenizer (padding on the left) and model, on the device and in the dtype that fit.

    Kept for the next call: reading the weights takes seconds.
    """
    return _load(model, str(adapter) if adapter else None)


@lru_cache(maxsize=2)
def _load(model: str, adapter: str | None):
    models.ensure(model)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    options = {"device_map": "auto"} if hardware.device() == "cuda" else {}
    network = AutoModelForCausalLM.from_pretrained(model, dtype=hardware.dtype(), **options)
    if not options:
        network.to(hardware.device())
    if adapter:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter).merge_and_unload()
    return tokenizer, network.eval()


def _generate_all(
    chats: Sequence[Chat],
    model: str,
    adapter: str | Path | None,
    max_new_tokens: int,
    batch_size: int,
    choices: Sequence[Sequence[str]] | None = None,
) -> list[str]:
    import torch
    from tqdm.auto import tqdm

    tokenizer, network = load(model, adapter)
    prompts = [
        tokenizer.apply_chat_template(c, add_generation_prompt=True, tokenize=False) for c in chats
    ]
    # Like lengths together: less padding
    order = sorted(range(len(chats)), key=lambda i: len(prompts[i]))
    answers = [""] * len(chats)
    with (
        tqdm(total=len(chats), desc="answers", leave=False, delay=5) as bar,
        torch.inference_mode(),
    ):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer(
                [prompts[i] for i in rows],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
            batch = batch.to(network.device)
            length = batch.input_ids.shape[1]
            options: dict[str, Any] = {"max_new_tokens": max_new_tokens}
            if choices is not None:
                choice = _Choice(tokenizer, [choices[i] for i in rows], length)
                options = {"prefix_allowed_tokens_fn": choice, "max_new_tokens": choice.longest}
            out = network.generate(
                **batch, **options, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
            if choices is None:
                texts = tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
            else:
                texts = [choice.text(row, ids[length:].tolist()) for row, ids in enumerate(out)]
            for i, text in zip(rows, texts, strict=True):
                answers[i] = text.strip()
            bar.update(len(rows))
    return answers


class _Choice:
    """Masks for `generate` under which row i can only begin one of `choices[i]`.

    It stops as soon as the beginning belongs to one text alone: a few tokens
    decide, and the rest of the text need not be generated.
    """

    def __init__(self, tokenizer, choices: Sequence[Sequence[str]], prompt_length: int):
        self.end, self.prompt_length = tokenizer.eos_token_id, prompt_length
        self.texts = [list(dict.fromkeys(texts)) for texts in choices]
        self.tokens = [
            [tokenizer(text, add_special_tokens=False).input_ids + [self.end] for text in texts]
            for texts in self.texts
        ]

    @property
    def longest(self) -> int:
        """As many tokens as can be needed: no two texts share more."""
        return max(len(tokens) for row in self.tokens for tokens in row)

    def matching(self, row: int, written: list[int]) -> list[int]:
        """Which of the row's texts begin with these tokens."""
        n = len(written)
        return [i for i, tokens in enumerate(self.tokens[row]) if tokens[:n] == written]

    def __call__(self, row: int, ids) -> list[int]:
        written = ids[self.prompt_length :].tolist()
        left = self.matching(row, written)
        if len(left) < 2:
            return [self.end]
        return list({self.tokens[row][i][len(written)] for i in left})

    def text(self, row: int, written: list[int]) -> str:
        """The text that the generated tokens chose."""
        while len(found := self.matching(row, written)) != 1:  # padding, and the end put early
            written = written[:-1]
        return self.texts[row][found[0]]


# --- the local server --------------------------------------------------------


def _start(
    model: str,
    adapter: str | Path | None,
    parallel: int,
    context: int,
    port: int,
    api_key: str = "",
) -> Endpoint:
    import secrets

    from utils import gateway

    models.ensure(model)
    listening = _bind(port)
    api_key = api_key or f"local-{secrets.token_urlsafe(16)}"
    name = f"{model}:{Path(adapter).resolve().name}" if adapter else model
    gguf = models.gguf_path(model) if _has_llama_cpp() else None
    stops: list = []
    if gguf:
        upstream = _start_llama_cpp(gguf, adapter, api_key, name, parallel, context, stops)
    else:
        upstream = _start_transformers(model, adapter, stops)
    app = gateway.create_app(upstream, api_key, name, (models.EMBEDDING, embed), own_tools=not gguf)
    _start_gateway(app, listening, stops)
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    return Endpoint(base_url, api_key, name, local=True, _stop=stops)


def _has_llama_cpp() -> bool:
    import importlib.util

    return importlib.util.find_spec("xllamacpp") is not None


def _bind(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise LLMError(
            f"Port {port} is taken: choose another, or port=0 for any free one."
        ) from error
    return listening


def _start_llama_cpp(
    gguf: Path,
    adapter: str | Path | None,
    api_key: str,
    name: str,
    parallel: int,
    context: int,
    stops: list,
) -> str:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.model_alias = {name}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_ctx = context
    parameters.n_parallel = parallel
    parameters.kv_unified = True  # one caller may use the whole context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = hardware.threads()
    parameters.use_jinja = True
    parameters.verbosity = -1
    if adapter:
        from utils.adapter import to_gguf

        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(to_gguf(adapter)), 1.0
        parameters.lora_adapters = [lora]
    try:
        server = xllamacpp.Server(parameters)
    except Exception as error:  # the C++ side raises several kinds
        raise LLMError(
            f"llama.cpp cannot load {gguf} ({error}): if the file is damaged, {models.REPAIR}."
        ) from error
    holder = [server]
    stops.append(holder.clear)  # the server stops when its last reference goes
    return server.listening_address


def _start_transformers(model: str, adapter: str | Path | None, stops: list) -> str:
    """`transformers serve` in a process of its own, for models that have no GGUF file."""
    import httpx

    if adapter:
        raise LLMError(
            f"{model} has no GGUF file, and only llama.cpp serves adapters here: merge it first."
        )
    with _bind(0) as free:
        port = free.getsockname()[1]
    log = tempfile.NamedTemporaryFile(
        "w+", prefix="transformers-serve-", suffix=".log", delete=False
    )
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        str(hardware.dtype()).split(".")[-1],
    ]
    process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop() -> None:
        process.terminate()
        process.wait(20)

    atexit.register(stop)
    stops.append(stop)
    for _ in range(600):
        if process.poll() is not None:
            raise LLMError(f"`{' '.join(command[1:])}` ended: {Path(log.name).read_text()[-1000:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success:
                return f"http://127.0.0.1:{port}"
        except httpx.HTTPError:
            time.sleep(0.5)
    stop()
    raise LLMError(f"{model} did not start within five minutes; its log is {log.name}.")


def _start_gateway(app, listening: socket.socket, stops: list) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="gateway"
    )
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise LLMError("The gateway did not start; its error stands above.")
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join(10)

    stops.append(stop)


@lru_cache(maxsize=2)
def _encoder(dtype: Any = None):
    models.ensure(models.EMBEDDING)
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.EMBEDDING)
    return tokenizer, AutoModel.from_pretrained(models.EMBEDDING, dtype=dtype or "auto").eval()


def embed(texts: Sequence[str], *, fast: bool = False) -> np.ndarray:
    """Unit vectors of the book's embedding model: float32, shape (len(texts), 384).

    Through transformers, since importing sentence-transformers takes eight
    seconds; the same numbers (mean of the token vectors, normalised). Texts of
    like length are embedded together, which saves padding.

    Args:
        texts: each is cut after 256 tokens.
        fast: compute in the dtype that the hardware multiplies fastest; in
            bfloat16 a cosine then differs in the third digit. Meant for corpora.
    """
    import torch

    tokenizer, encoder = _encoder(hardware.dtype() if fast else None)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.zeros((len(texts), encoder.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            batch = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            )
            tokens = encoder(**batch).last_hidden_state.float()
            mask = batch.attention_mask.unsqueeze(-1)
            mean = (tokens * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return vectors
