"""The service of recipe 5.11, over real HTTP: what it answers, and what it does while a part of it is away.

In front of it stands a small server that speaks as much of the OpenAI API as is needed, so that it can be killed at
will; the notebook runs the service in front of a real model, Redis and PostgreSQL.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from conftest import served
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from utils import servers

FOLDER = Path(__file__).parents[1] / "05_deployment"
sys.path.insert(0, str(FOLDER))

from rag_service import __main__ as command  # noqa: E402
from rag_service import cache, gate, pipeline, prompts  # noqa: E402
from rag_service.app import create_app  # noqa: E402
from rag_service.index import Index, Passage  # noqa: E402
from rag_service.metrics import Metrics  # noqa: E402
from rag_service.settings import RagSettings  # noqa: E402
from rag_service.store import Store  # noqa: E402
from service import limits  # noqa: E402

KEYS = {"desk": "desk-secret-0123456789", "shop": "shop-secret-0123456789"}
PASSAGES = [
    Passage(
        "leave",
        "Handbook: Leave",
        "You have 28 days. Days left over may be used until 31 March.",
        "handbook.md",
    ),
    Passage("parts", "Manual: Parts", "The filter is VT-200. It costs 12 euros.", "manual.md"),
]
MARCH, FILTER, FOOTBALL = (
    "Until when may days left over be used?",
    "How much is the filter VT-200?",
    "Who won the match?",
)


def vector(text: str) -> list[float]:
    """One dimension a word, by its hash: words in common make a cosine."""
    values = np.full(64, 0.01)
    for word in text.lower().replace(".", " ").replace("?", " ").split():
        values[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 64] += 1
    return (values / np.linalg.norm(values)).tolist()


class Model:
    """Embeds, and answers with the last of the sentences that it may copy; `calls` are the questions that it saw, and while it is `held` nobody gets an answer."""

    def __init__(self):
        self.calls, self.disobeys, self.held = [], False, False

    async def chat(self, request):
        body = await request.json()
        self.calls.append(body["messages"][-1]["content"])
        while self.held:
            await asyncio.sleep(0.01)
        allowed = (
            body.get("response_format", {})
            .get("json_schema", {})
            .get("schema", {})
            .get("properties", {})
            .get("answer", {})
            .get("enum")
        )
        text = (
            json.dumps({"answer": allowed[-1]})
            if allowed and not self.disobeys
            else "Whatever you like."
        )
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
        return JSONResponse(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
        )

    async def embeddings(self, request):
        texts = (await request.json())["input"]
        rows = [
            {"object": "embedding", "index": i, "embedding": vector(text)}
            for i, text in enumerate(texts)
        ]
        return JSONResponse(
            {
                "object": "list",
                "data": rows,
                "model": "e",
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        )

    def app(self):
        return Starlette(
            routes=[
                Route(f"/v1/{path}", handler, methods=["POST"])
                for path, handler in (
                    ("chat/completions", self.chat),
                    ("embeddings", self.embeddings),
                )
            ]
        )


def settings_for(folder, model_port, **changes):
    values = {
        "openai_base_url": f"http://127.0.0.1:{model_port}/v1", "openai_api_key": "k", "openai_model": "m", "max_retries": 0,
        "api_keys": {name: {"secret": secret, "rate_limit": "1000/minute"} for name, secret in KEYS.items()},
        "database_url": f"sqlite+aiosqlite:///{folder}/rag.db", "refuse_below": 0.3, "release_poll_s": 0.05,
        "usd_per_million_prompt_tokens": 100, "usd_per_million_completion_tokens": 1000,
    }  # fmt: skip
    return RagSettings(_env_file=None, **values | changes)


def version(name):
    return next(
        v for v in prompts.load(RagSettings.model_fields["prompts"].default) if v.startswith(name)
    )


async def fill(settings):
    store = Store(settings.database_url, 10, Metrics())
    await store.create()
    await store.replace_passages(
        PASSAGES, np.array([vector(passage.whole) for passage in PASSAGES])
    )
    await store.set_release(prompts.Release(production=version("copy")))
    await store.close()


@pytest.fixture
def model():
    """The model, its port, and a function that ends it."""
    model, port, stack = Model(), servers.free_port(), contextlib.ExitStack()
    stack.enter_context(served(model.app(), port))
    model.port, model.kill = port, stack.close
    yield model
    stack.close()


@pytest.fixture
def start(tmp_path, model):
    """A function that starts the service with changed settings; it returns a function that sends requests."""
    with contextlib.ExitStack() as stack:

        def started(**changes):
            settings = settings_for(tmp_path, model.port, **changes)
            asyncio.run(fill(settings))
            address = stack.enter_context(served(create_app(settings), servers.free_port()))
            client = stack.enter_context(httpx2.Client(base_url=address, timeout=20))

            def send(method, path, key="desk", **options):
                return client.request(
                    method,
                    path,
                    headers={"Authorization": f"Bearer {KEYS.get(key, key)}"},
                    **options,
                )

            send.ask = lambda question, key="desk": send(
                "POST", "/v1/answers", key, json={"question": question}
            )
            return send

        yield started


def test_an_answer_its_source_its_price_and_the_second_one_from_the_cache(start, model):
    send = start()
    first, second = send.ask(MARCH).json(), send.ask(f" {MARCH.upper()} ").json()
    assert (
        first["answer"] == "Days left over may be used until 31 March."
        and first["source"] == "handbook.md"
    )
    assert first["outcome"] == "answered" and first["prompt"] == version("copy")
    assert first["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "cost_usd": 0.005}
    assert (
        second["outcome"] == "cached"
        and second["answer"] == first["answer"]
        and second["usage"]["cost_usd"] == 0
    )
    assert len(model.calls) == 1 and "Handbook: Leave" in model.calls[0]
    assert send.ask(FILTER).json()["source"] == "manual.md"
    assert send("GET", "/v1/usage").json()["requests"] == 3


def test_what_the_documents_do_not_say_is_refused_without_the_model(start, model):
    send = start()
    said = send.ask(FOOTBALL).json()
    assert (
        said["outcome"] == "refused" and said["usage"]["completion_tokens"] == 0 and not model.calls
    )


def test_an_answer_that_is_no_sentence_of_the_passage_is_not_given(start, model):
    model.disobeys = True
    send = start()
    assert send.ask(MARCH).json()["outcome"] == "unchecked"
    model.disobeys = False
    assert send.ask(MARCH).json()["outcome"] == "answered"  # the failure was not cached


def test_keys_and_bodies_are_checked_as_in_the_chat_service(start):
    send = start()
    assert send.ask(MARCH, key="guessed").status_code == 401
    assert (
        send("POST", "/v1/answers", json={"question": "x" * 501}).json()["code"]
        == "invalid_request"
    )
    assert send("POST", "/v1/answers", json={"qestion": MARCH}).status_code == 422


def test_feedback_belongs_to_the_caller_and_the_last_one_counts(start):
    send = start()
    path = f"/v1/answers/{send.ask(MARCH).json()['id']}/feedback"
    assert send("POST", path, json={"helpful": True}).status_code == 200
    assert send("POST", path, json={"helpful": False}).status_code == 200
    assert send("POST", path, "shop", json={"helpful": True}).status_code == 404
    assert 'rag_feedback_total{helpful="false"' in send("GET", "/metrics").text


def test_a_dead_model_leaves_the_answers_given_before(start, model):
    send = start()
    send.ask(MARCH)
    model.kill()
    assert send.ask(MARCH).json()["outcome"] == "cached"
    failed = send.ask(FILTER)
    assert failed.status_code == 502 and failed.json()["code"] == "upstream_unreachable"
    assert send("GET", "/readyz").json() == {
        "status": "ok",
        "model": False,
        "cache": True,
        "database": True,
    }
    assert 'rag_dependency_up{name="model"} 0.0' in send("GET", "/metrics").text


def test_a_release_reaches_a_running_replica_and_so_does_its_withdrawal(start, tmp_path, model):
    send = start()

    def release(name):
        async def write():
            store = Store(f"sqlite+aiosqlite:///{tmp_path}/rag.db", 10, Metrics())
            await store.set_release(prompts.Release(production=name))
            await store.close()

        asyncio.run(write())
        end = time.monotonic() + 5
        while (now := send.ask(MARCH).json()["prompt"]) != name and time.monotonic() < end:
            time.sleep(0.02)
        return now

    assert release(version("free")) == version("free") and release(version("copy")) == version(
        "copy"
    )
    assert len(model.calls) == 2  # the way back found its answers in the cache
    assert release("unknown-12345678") == version("copy")  # no file of it here: the old one stays


def test_redis_dies_and_nobody_notices_but_the_bill(start, model):
    redis = servers.redis()
    send = start(
        redis_url=f"redis://127.0.0.1:{redis.port}/0",
        rate_limit_storage=f"async+redis://127.0.0.1:{redis.port}/0",
    )
    assert [send.ask(MARCH).json()["outcome"] for _ in range(2)] == ["answered", "cached"]
    redis.kill()
    said = [send.ask(MARCH) for _ in range(3)]
    assert [r.json()["outcome"] for r in said] == ["answered"] * 3 and len(model.calls) == 4
    assert not send("GET", "/readyz").json()["cache"]
    redis.start()
    time.sleep(limits.PAUSE_S)
    assert [send.ask(MARCH).json()["outcome"] for _ in range(2)] == ["answered", "cached"]
    redis.stop()


def test_a_redis_that_hangs_is_waited_for_once_a_second_and_not_by_every_request(start):
    redis = servers.redis()
    address = f"redis://127.0.0.1:{redis.port}"
    send = start(redis_url=f"{address}/0", rate_limit_storage=f"async+{address}/1")
    assert [send.ask(MARCH).json()["outcome"] for _ in range(2)] == ["answered", "cached"]
    redis.signal(signal.SIGSTOP)  # it accepts connections, and never answers
    said = [send.ask(FOOTBALL) for _ in range(5)]
    redis.signal(signal.SIGCONT)
    assert [r.json()["outcome"] for r in said] == ["refused"] * 5
    # The cache waits 0.2 s, the rate limit 0.25 s, each once.
    assert 0.4 < sum(r.elapsed.total_seconds() for r in said) < 0.9
    time.sleep(1.1 * limits.PAUSE_S)
    assert send.ask(MARCH).json()["outcome"] == "cached"
    redis.stop()


def test_who_is_at_the_model_and_who_waits_is_in_the_metrics(start, model):
    model.held = True
    send = start(max_concurrency=1)

    def seen(running, waiting):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            said = send("GET", "/metrics").text
            if f"rag_running {running}.0" in said and f"rag_waiting {waiting}.0" in said:
                return True
        return False

    with ThreadPoolExecutor() as callers:
        said = [callers.submit(send.ask, question) for question in (MARCH, FILTER)]
        full = seen(1, 1)
        model.held = False
        assert full and [future.result().json()["outcome"] for future in said] == ["answered"] * 2
    assert seen(0, 0)


ROW = {name: "" for name in ("caller", "question", "answer", "passage", "outcome", "prompt", "model")} | {
    "score": 0.5, "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": 0.0}  # fmt: skip


def test_answers_wait_for_the_database_in_order_and_none_is_stored_twice(tmp_path):
    async def run():
        store = Store(f"sqlite+aiosqlite:///{tmp_path}/later/rag.db", 3, Metrics())
        for name in "abcd":
            store.record(ROW | {"id": name, "caller": "desk"})
        with pytest.raises(OperationalError):
            await store.write()
        assert (await store.find("d", "desk"))["id"] == "d"
        (tmp_path / "later").mkdir()
        await store.create()
        await store.write()
        store.record(
            ROW | {"id": "d", "caller": "desk"}
        )  # as after a commit whose confirmation was lost
        await store.write()
        found = [name for name in "abcd" if await store.find(name, "desk")]
        await store.close()
        return found, store._metrics.lost._value.get()

    assert asyncio.run(run()) == (
        ["b", "c", "d"],
        1,
    )  # room for three: the oldest went, and was counted


def test_an_answer_given_while_the_others_are_written_is_not_forgotten(tmp_path):
    async def run():
        store = Store(f"sqlite+aiosqlite:///{tmp_path}/rag.db", 10, Metrics())
        await store.create()
        store.record(ROW | {"id": "a", "caller": "desk"})
        writing = asyncio.create_task(store.write())
        await asyncio.sleep(0)  # it has seen what waits, and asks for a connection
        store.record(ROW | {"id": "b", "caller": "desk"})
        await writing
        await store.write()
        found = [name for name in "ab" if await store.find(name, "desk")]
        left = len(store._outbox)
        await store.close()
        return found, left

    assert asyncio.run(run()) == (["a", "b"], 0)


def test_a_prompt_is_named_by_its_words_and_a_wrong_one_by_its_file(tmp_path):
    (tmp_path / "a.toml").write_text('system = "s"\nuser = "{passage} {question}"\n')
    [one] = prompts.load(tmp_path)
    assert [one] == list(prompts.load(tmp_path))
    (tmp_path / "a.toml").write_text('system = "S"\nuser = "{passage} {question}"\n')
    assert [one] != list(prompts.load(tmp_path))
    for wrong in (
        'system = "s"\nuser = "{passage} {qestion}"',
        'system = "s"',
        'system = "s',
        'system = "s"\nuser = "{passage} {question}"\nmax_token = 3',
    ):
        (tmp_path / "a.toml").write_text(wrong)
        with pytest.raises(ValueError, match="a.toml"):
            prompts.load(tmp_path)


def test_a_caller_stays_with_its_version_while_the_share_grows():
    callers = [f"caller-{i}" for i in range(2000)]
    arms = [
        {
            c
            for c in callers
            if prompts.Release(production="p", candidate="c", share=share).version_for(c) == "c"
        }
        for share in (0.1, 0.5)
    ]
    assert (
        arms[0] < arms[1]
        and abs(len(arms[0]) / 2000 - 0.1) < 0.03
        and abs(len(arms[1]) / 2000 - 0.5) < 0.05
    )


def test_the_key_of_the_cache_covers_all_that_the_answer_depends_on():
    keys = {
        cache.key(*parts)
        for parts in (
            ("i", "p", "m", "q"),
            ("j", "p", "m", "q"),
            ("i", "r", "m", "q"),
            ("i", "p", "n", "q"),
            ("i", "p", "m", "r"),
        )
    }
    assert len(keys) == 5 and cache.key("i", "p", "m", " Q? ") in keys


def test_the_index_finds_names_and_its_fingerprint_is_that_of_its_words():
    vectors = np.array([vector(passage.whole) for passage in PASSAGES], dtype=np.float32)
    index = Index(PASSAGES, vectors)
    assert index.best("VT-200", np.array(vector("VT-200")))[1].id == "parts"
    changed = [PASSAGES[0], Passage("parts", "Manual: Parts", "The filter is VT-201.", "manual.md")]
    assert (
        Index(changed, vectors).fingerprint
        != index.fingerprint
        == Index(list(PASSAGES), vectors).fingerprint
    )


@pytest.mark.parametrize(
    "content",
    ["", "not JSON", '{"answer": "else"}', '{"answer"', "[]", "null", '{"answer": ["a"]}'],
)
def test_only_a_sentence_of_the_passage_is_a_copy(content):
    assert (
        pipeline.copied(content, ["a."]) == ""
        and pipeline.copied('{"answer": "a."}', ["a."]) == "a."
    )


def test_the_gate_lets_through_what_loses_no_more_than_it_may():
    assert gate.passes([True, False], [True, True], may_lose=1) and not gate.passes(
        [False, False], [True, True], may_lose=1
    )
    result = pipeline.Result("answered", "yes", "", "", 0.9, "p", "m")
    assert gate.Case("q", lambda text: text == "yes").right(result) and not gate.Case(
        "q", None
    ).right(result)


def test_requests_are_counted_also_those_without_an_answer(start):
    send = start()
    send.ask(MARCH)
    send.ask(MARCH, key="guessed")
    send("GET", "/invented/path")
    said = send("GET", "/metrics").text
    for labels in ('path="/v1/answers",status="200"', 'path="/v1/answers",status="401"'):
        assert f"rag_requests_total{{{labels}}} 1.0" in said
    assert 'path="other",status="404"' in said and "invented" not in said


def test_a_dead_redis_stays_reported_after_the_pause(start):
    redis = servers.redis()
    send = start(redis_url=f"redis://127.0.0.1:{redis.port}/0")
    redis.kill()
    send.ask(MARCH)
    time.sleep(limits.PAUSE_S)
    assert not send("GET", "/readyz").json()["cache"]


def test_a_dead_database_is_reported_though_nothing_waits(tmp_path):
    async def run():
        store, taken = Store(f"sqlite+aiosqlite:///{tmp_path}/later/rag.db", 3, Metrics()), []
        follower = asyncio.create_task(store.follow(taken.append, 0.01))

        async def seen(up):
            async with asyncio.timeout(10):
                while store.up != up:
                    await asyncio.sleep(0.01)

        await seen(False)
        (tmp_path / "later").mkdir()
        await store.create()
        await store.set_release(prompts.Release(production="a"))
        await seen(True)
        while not taken:
            await asyncio.sleep(0.01)
        follower.cancel()
        await store.close()
        return taken[0].production

    assert asyncio.run(run()) == "a"


def test_the_commands_release_past_no_gate_and_roll_back(tmp_path, model, capsys):
    settings = settings_for(tmp_path, model.port, gate_every=19, request_timeout_s=5)
    asyncio.run(fill(settings))

    async def production():
        store = Store(settings.database_url, 10, Metrics())
        release = await store.release()
        await store.close()
        return release.production

    with pytest.raises(LookupError, match="no earlier"):
        asyncio.run(command.roll_back(settings))
    with pytest.raises(LookupError, match="names 0 of"):
        asyncio.run(command.release_version(settings, "nothing", 1.0))
    asyncio.run(command.release_version(settings, "free", 1.0))
    assert asyncio.run(production()) == version("free") and "of 2 right" in capsys.readouterr().out
    asyncio.run(command.roll_back(settings))
    assert asyncio.run(production()) == version("copy")


def test_the_gate_stops_a_release(tmp_path, model, monkeypatch):
    settings = settings_for(tmp_path, model.port, gate_every=19)
    asyncio.run(fill(settings))
    monkeypatch.setattr(gate, "passes", lambda *rights, may_lose: False)
    with pytest.raises(LookupError, match="is not released"):
        asyncio.run(command.release_version(settings, "free", 1.0))


def test_production_env_names_settings_that_exist():
    text = (FOLDER / "rag_service" / "production.env").read_text()
    lines = [line.split("=", 1) for line in text.splitlines() if line and line[0] != "#"]
    names = {f"SERVICE_{name.upper()}" for name in RagSettings.model_fields}
    ours = {"OPENAI_BASE_URL", "OPENAI_MODEL", "SERVICE_SECRETS_DIR"}
    assert {name for name, _ in lines} - ours <= names and ours <= {name for name, _ in lines}
    values = {
        name.removeprefix("SERVICE_").lower(): value
        for name, value in lines
        if name != "SERVICE_SECRETS_DIR"
    }
    settings = settings_for("", 0) and RagSettings(
        _env_file=None, api_keys={"a": {"secret": "x" * 16}}, openai_api_key="k", **values
    )
    Store(settings.database_url, 1, Metrics())  # the driver is there
    create_app(settings)


@pytest.mark.parametrize("place", ["environment", "file", "mounted"])
def test_a_key_that_is_configured_anywhere_is_not_replaced(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.delenv("SERVICE_API_KEYS", raising=False)
    if place == "environment":
        monkeypatch.setenv("SERVICE_API_KEYS", "{}")
    elif place == "file":
        (tmp_path / ".env").write_text("SERVICE_API_KEYS={}\n")
    else:
        (tmp_path / "SERVICE_API_KEYS").write_text("{}")
        monkeypatch.setenv("SERVICE_SECRETS_DIR", str(tmp_path))
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        command.embedded(stack)
    assert dict(os.environ) == before


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_model_ends_with_its_service(end, tmp_path):
    asyncio.run(fill(settings_for(tmp_path, 1)))
    port = servers.free_port()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "SERVICE_"))
    }
    path = os.pathsep.join([str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rag_service"],
            cwd=tmp_path,
            env=environment | {"SERVICE_PORT": str(port), "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until = time.monotonic() + 120
        while not servers.listening(port):
            assert process.poll() is None and time.monotonic() < wait_until, (
                tmp_path / "log"
            ).read_text()
            time.sleep(0.1)
        [child] = psutil.Process(process.pid).children()
        process.send_signal(end)
        process.wait(20)
        _, alive = psutil.wait_procs([child], timeout=20)
        assert not alive
    finally:
        process.kill()
    assert "key for this run: " in (tmp_path / "log").read_text()
