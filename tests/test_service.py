"""The chat service of chapter 5, over real HTTP on loopback.

In front of it stands no model but a small server that speaks as much of the
OpenAI API as the tests need and fails in the ways they ask for; the notebook
runs the service in front of a real model.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import schemathesis
from conftest import served
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

FOLDER = Path(__file__).parents[1] / "05_deployment"
sys.path.insert(0, str(FOLDER))

from service import faults  # noqa: E402
from service.__main__ import main  # noqa: E402
from service.app import Service, create_app  # noqa: E402
from service.disconnect import stop_when_client_leaves  # noqa: E402
from service.errors import CHAT_ERRORS  # noqa: E402
from service.settings import Settings  # noqa: E402

from utils import servers  # noqa: E402

KEYS = {"web": "web-secret-0123456789", "batch": "batch-secret-0123456789"}
ASK = {"messages": [{"role": "user", "content": "a very private question"}], "max_tokens": 8}
WORDS = ["to", " be", " or", " not"]


class Upstream:
    """Speaks /v1/chat/completions. Each attribute is a way to fail; `calls`, `most_at_once` and `left` are what it saw."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.statuses: list[int] = []  # answered first, one a call; then 200
        self.delay = 0.0  # seconds before its headers
        self.pause = 0.0  # seconds between the pieces of a stream
        self.stop_after: int | None = None  # pieces; then the stream ends without a finish_reason
        self.break_after: int | None = None  # pieces; then the connection breaks
        self.raw: Response | None = None  # instead of an answer
        self.calls = self.at_once = self.most_at_once = self.left = 0

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            self.at_once -= 1
            return JSONResponse(
                {"error": {"message": "upstream says: a very private question"}}, status
            )
        try:
            async with stop_when_client_leaves(request):
                await asyncio.sleep(self.delay)
        except ClientDisconnect:
            self.at_once -= 1
            self.left += 1
            return Response(status_code=499)
        return StreamingResponse(
            self.pieces(body),
            media_type="text/event-stream" if body.get("stream") else "application/json",
            headers={} if self.raw is None else dict(self.raw.headers),
        )

    async def pieces(self, body: dict):
        complete = False
        try:
            if self.raw is not None:
                yield self.raw.body
            elif body.get("stream"):
                for i, word in enumerate(WORDS):
                    if i == self.stop_after:
                        complete = True
                        return
                    if i == self.break_after:
                        raise ConnectionError("on purpose")
                    await asyncio.sleep(self.pause)
                    yield self.event(
                        choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}]
                    )
                yield self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
                if body.get("stream_options") == {"include_usage": True}:
                    yield self.event(
                        choices=[],
                        usage={"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
                    )
                yield b"data: [DONE]\n\n"
            else:
                message = {"role": "assistant", "content": "".join(WORDS)}
                yield json.dumps(
                    {
                        "id": "x",
                        "object": "chat.completion",
                        "created": 0,
                        "model": "stub",
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
                    }
                ).encode()
            complete = True
        finally:
            self.at_once -= 1
            self.left += not complete

    @staticmethod
    def event(**fields) -> bytes:
        chunk = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "stub",
        } | fields
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    def app(self) -> Starlette:
        async def models(request: Request) -> Response:
            return JSONResponse({"object": "list", "data": []})

        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", models),
            ]
        )


def make_settings(upstream: str, **changes) -> Settings:
    rate = changes.pop("rate_limit", "10000/minute")
    values = dict(
        openai_base_url=f"{upstream}/v1",
        openai_api_key="upstream-secret",
        openai_model="stub",
        api_keys={
            key_id: {"secret": secret, "rate_limit": rate} for key_id, secret in KEYS.items()
        },
        request_timeout_s=5,
        max_retries=0,
        usd_per_million_prompt_tokens=100,
        usd_per_million_completion_tokens=1000,
    )
    return Settings(_env_file=None, **values | changes)


def bearer(key_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[key_id]}"}


@pytest.fixture(scope="module")
def upstream_at() -> Iterator[tuple[Upstream, str]]:
    stub = Upstream()
    with served(stub.app()) as url:
        yield stub, url


@pytest.fixture
def upstream(upstream_at) -> Upstream:
    upstream_at[0].reset()
    return upstream_at[0]


@pytest.fixture
def start(upstream, upstream_at):
    """start(**settings) -> a client of a running service, authenticated as `web`; .service is its insides."""
    with contextlib.ExitStack() as stack:

        def start(upstream_url: str = upstream_at[1], **changes) -> httpx2.Client:
            app = create_app(make_settings(upstream_url, **changes))
            url = stack.enter_context(served(app))
            client = stack.enter_context(
                httpx2.Client(base_url=url, headers=bearer("web"), timeout=10)
            )
            client.service = app.state.service
            return client

        yield start


def wait_until(condition, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def events(response: httpx2.Response) -> list[tuple[str, dict]]:
    blocks = response.read().decode().strip().split("\n\n")
    pairs = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(pair["event"], json.loads(pair["data"])) for pair in pairs]


def check_problem(response: httpx2.Response, status: int, code: str) -> dict:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def crowd(client: httpx2.Client, n: int, ask: dict = ASK) -> list[httpx2.Response]:
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: client.post("/v1/chat", json=ask), range(n)))


# --- answers, tokens, money, logs ---------------------------------------------


def test_answer_its_cost_and_its_log_line(start):
    client = start()
    with capture_logs() as logs:
        answer = client.post("/v1/chat", json=ASK).json()
        wait_until(lambda: logs)
    assert answer["content"] == "to be or not"
    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "cost_usd": 10 * 100e-6 + 4 * 1000e-6,
    }
    (line,) = logs
    assert line["request_id"] == answer["request_id"]
    assert line["key_id"] == "web"
    assert (line["status"], line["model"], line["retries"]) == (200, "stub", 0)
    assert {name: line[name] for name in answer["usage"]} == answer["usage"]
    assert line["latency_ms"] > 0


def test_logs_hold_neither_keys_nor_text(start, upstream):
    client = start()
    upstream.statuses = [500, 400]
    with capture_logs() as logs:
        for _ in range(3):
            client.post("/v1/chat", json=ASK)
        client.post("/v1/chat", json={"messages": "a very private question"})
        client.post(
            "/v1/chat", json=ASK, headers={"Authorization": "Bearer a very private question"}
        )
        wait_until(lambda: len(logs) == 5)
    text = json.dumps(logs)
    for secret in ("private", "to be", "upstream-secret", *KEYS.values()):
        assert secret not in text


def test_upstreams_words_do_not_reach_the_client(start, upstream):
    client = start()
    upstream.statuses = [500, 400, 401]
    for _ in range(3):
        assert "private" not in client.post("/v1/chat", json=ASK).text


def test_usage_is_kept_per_key(start):
    client = start()
    for key_id in ("web", "web", "batch"):
        client.post("/v1/chat", json=ASK, headers=bearer(key_id))
    web, batch = (
        client.get("/v1/usage", headers=bearer(key_id)).json() for key_id in ("web", "batch")
    )
    assert (web["requests"], web["prompt_tokens"], web["completion_tokens"]) == (2, 20, 8)
    assert (batch["requests"], batch["cost_usd"]) == (1, 0.005)


def test_request_id_is_kept_if_sane_and_replaced_if_not(start):
    client = start()
    assert (
        client.get("/healthz", headers={"X-Request-ID": "from-the-proxy-1"}).headers["x-request-id"]
        == "from-the-proxy-1"
    )
    for bad in ("short", "x" * 65, "line break {}"):
        assert client.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad


# --- who may call, and how often ----------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {KEYS['web']}",
        f"Bearer {KEYS['web']}x",
        "Bearer \xff",
    ],
)
def test_without_a_good_key_nothing_reaches_the_model(start, upstream, header):
    client = start()
    del client.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for response in (
        client.post("/v1/chat", json=ASK, headers=headers),
        client.get("/v1/usage", headers=headers),
    ):
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["content-type"] == "application/problem+json"
    assert upstream.calls == 0


def test_rate_limit_counts_each_key_alone_and_ends(start, upstream):
    client = start(rate_limit="2/2 second")
    codes = [client.post("/v1/chat", json=ASK).status_code for _ in range(2)]
    refused = client.post("/v1/chat", json=ASK)
    check_problem(refused, 429, "rate_limited")
    assert codes == [200, 200] and upstream.calls == 2
    assert client.post("/v1/chat", json=ASK, headers=bearer("batch")).status_code == 200
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    time.sleep(
        int(refused.headers["retry-after"]) + 0.05
    )  # honest: after as long as it said, it works again
    assert client.post("/v1/chat", json=ASK).status_code == 200


@pytest.fixture
def redis_server():
    with servers.redis() as server:
        yield server


def test_replicas_share_the_limit_in_redis_and_live_without_it(start, upstream, redis_server):
    storage = f"async+redis://127.0.0.1:{redis_server.port}"
    one, other = (start(rate_limit="2/minute", rate_limit_storage=storage) for _ in range(2))
    codes = [client.post("/v1/chat", json=ASK).status_code for client in (one, other)]
    assert codes == [200, 200]
    check_problem(other.post("/v1/chat", json=ASK), 429, "rate_limited")
    redis_server.kill()
    with capture_logs() as logs:
        assert [c.post("/v1/chat", json=ASK).status_code for c in (one, other)] == [200, 200]
        wait_until(lambda: len(logs) == 2)
    assert [line["rate_limit"] for line in logs] == ["unavailable"] * 2


def test_a_redis_that_hangs_costs_less_than_a_second(start, upstream, redis_server):
    client = start(rate_limit_storage=f"async+redis://127.0.0.1:{redis_server.port}")
    assert client.post("/v1/chat", json=ASK).status_code == 200
    redis_server.signal(signal.SIGSTOP)
    response = client.post("/v1/chat", json=ASK)
    redis_server.signal(signal.SIGCONT)
    assert response.status_code == 200 and response.elapsed.total_seconds() < 2


# --- what may be asked ----------------------------------------------------------


def messages(n: int, size: int = 1) -> dict:
    return {"messages": [{"role": "user", "content": "x" * size}] * n}


@pytest.mark.parametrize(
    "body",
    [
        {}, [], None, "text", {"messages": []}, messages(33), messages(1, 0), messages(1, 8001),
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user"}]},
        ASK | {"max_tokens": 0}, ASK | {"max_tokens": 513}, ASK | {"max_tokens": "8"}, ASK | {"max_tokens": True},
        ASK | {"temperature": 2.1}, ASK | {"stream": "yes"}, ASK | {"maxtokens": 8},
        {"messages": [{"role": "user", "content": "\ud800"}]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)  # fmt: skip
def test_what_does_not_match_the_schema_is_422(start, upstream, body):
    response = start().post(
        "/v1/chat", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert check_problem(response, 422, "invalid_request")["errors"]
    assert upstream.calls == 0


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [(b"{", "application/json", 422), (b"", "application/json", 422), (b'{"\xff": 1}', "application/json", 400),
     (b"[" * 60_000, "application/json", 400), (json.dumps(ASK).encode(), "text/plain", 422)],
    ids=["cut off", "empty", "not UTF-8", "deeply nested", "wrong content type"],
)  # fmt: skip
def test_malformed_bodies_are_the_callers_fault(start, upstream, content, content_type, status):
    response = start().post("/v1/chat", content=content, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert upstream.calls == 0


def test_too_long_is_413(start, upstream):
    client = start()
    assert client.post("/v1/chat", json=messages(2, 4000)).status_code == 200
    check_problem(client.post("/v1/chat", json=messages(2, 4001)), 413, "prompt_too_long")
    check_problem(client.post("/v1/chat", json=messages(9, 8000)), 413, "body_too_large")
    chunked = client.post(
        "/v1/chat",
        content=(b" " * 4096 for _ in range(17)),
        headers={"Content-Type": "application/json"},
    )
    check_problem(chunked, 413, "body_too_large")  # no Content-Length to look at
    assert upstream.calls == 1


def test_a_whole_float_is_an_integer_as_in_json_schema(start):
    assert start().post("/v1/chat", json=ASK | {"max_tokens": 8.0}).status_code == 200


# --- the model fails --------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream_status", "status", "code"),
    [(400, 400, "refused_by_model"), (401, 502, "upstream_error"), (404, 502, "upstream_error"),
     (429, 503, "upstream_busy"), (500, 502, "upstream_error"), (503, 502, "upstream_error")],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors_are_mapped(start, upstream, upstream_status, status, code, stream):
    upstream.statuses = [upstream_status]
    with capture_logs() as logs:
        response = start().post("/v1/chat", json=ASK | {"stream": stream})
        wait_until(lambda: logs)
    check_problem(response, status, code)
    assert ("retry-after" in response.headers) == (status == 503)
    assert str(upstream_status) in logs[0]["upstream_error"]


@pytest.mark.parametrize(
    "raw",
    [JSONResponse({}), JSONResponse([]), JSONResponse({"choices": []}), Response("<h1>Welcome</h1>", media_type="text/html"),
     Response("{", media_type="application/json")],
    ids=["{}", "[]", "no choices", "HTML", "cut off"],
)  # fmt: skip
def test_nonsense_from_upstream_is_502(start, upstream, raw):
    upstream.raw = raw
    check_problem(start().post("/v1/chat", json=ASK), 502, "upstream_error")


def test_safe_errors_are_retried_and_others_are_not(start, upstream):
    client = start(max_retries=2)
    upstream.statuses = [503, 429]
    with capture_logs() as logs:
        assert client.post("/v1/chat", json=ASK).status_code == 200
        wait_until(lambda: logs)
    assert (upstream.calls, logs[0]["retries"]) == (3, 2)
    upstream.reset()
    upstream.statuses = [400]
    assert client.post("/v1/chat", json=ASK).status_code == 400
    assert upstream.calls == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_late_model_is_504_at_the_deadline_and_not_asked_again(start, upstream, stream):
    upstream.delay = 5
    if stream:  # its headers come at once, the first token does not
        upstream.delay, upstream.pause = 0, 5
    client = start(request_timeout_s=0.4, max_retries=2)
    started = time.monotonic()
    response = client.post("/v1/chat", json=ASK | {"stream": stream})
    took = time.monotonic() - started
    if stream:
        assert [(name, data["code"]) for name, data in events(response)] == [
            ("error", "upstream_timeout")
        ]
    else:
        check_problem(response, 504, "upstream_timeout")
    assert 0.4 <= took < 1.5
    assert upstream.calls == 1
    wait_until(lambda: upstream.left == 1)  # and it no longer works on it


def test_dead_model_fails_fast_and_the_service_recovers_by_itself(start, upstream):
    port = servers.free_port()
    client = start(f"http://127.0.0.1:{port}", max_retries=1)
    started = time.monotonic()
    check_problem(client.post("/v1/chat", json=ASK), 502, "upstream_unreachable")
    assert time.monotonic() - started < 3
    check_problem(client.get("/readyz"), 503, "not_ready")
    assert client.get("/healthz").status_code == 200
    with served(upstream.app(), port):
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/chat", json=ASK).status_code == 200


def test_our_own_bug_is_500_with_an_id_and_frees_its_slot(start, monkeypatch):
    client = start(max_concurrency=1, max_queue=0)

    def broken(ask):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(client.service.model, "answer", broken)
        check_problem(client.post("/v1/chat", json=ASK), 500, "internal_error")
    fresh = httpx2.post(
        client.base_url.join("/v1/chat"), json=ASK, headers=bearer("web")
    )  # uvicorn closes the old connection
    assert fresh.status_code == 200


# --- streams ------------------------------------------------------------------------


def test_stream_is_tokens_then_done(start):
    client = start()
    with capture_logs() as logs:
        response = client.post("/v1/chat", json=ASK | {"stream": True})
        wait_until(lambda: logs)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == (
        "no-cache",
        "no",
    )
    *tokens, (last, end) = events(response)
    assert [data["text"] for name, data in tokens if name == "token"] == WORDS
    assert last == "done" and end["finish_reason"] == "stop"
    assert end["usage"]["completion_tokens"] == logs[0]["completion_tokens"] == 4
    assert logs[0]["usage_estimated"] is False


def test_stream_pieces_come_as_they_are_written(start, upstream):
    upstream.pause = 0.15
    with start().stream("POST", "/v1/chat", json=ASK | {"stream": True}) as response:
        times = [time.monotonic() for line in response.iter_lines() if line.startswith("data: ")]
    assert times[3] - times[0] > 0.3


@pytest.mark.parametrize(
    ("fault", "code"), [("stop_after", "upstream_error"), ("break_after", "upstream_unreachable")]
)
def test_stream_whose_upstream_dies_half_way_ends_with_an_error_event(start, upstream, fault, code):
    setattr(upstream, fault, 2)
    client = start()
    with capture_logs() as logs:
        response = client.post("/v1/chat", json=ASK | {"stream": True})
        wait_until(lambda: logs)
    assert [name for name, _ in events(response)] == ["token", "token", "error"]
    problem = events(response)[-1][1]
    assert (problem["code"], problem["request_id"]) == (code, response.headers["x-request-id"])
    assert (logs[0]["code"], logs[0]["completion_tokens"], logs[0]["usage_estimated"]) == (
        code,
        2,
        True,
    )


def test_client_that_leaves_a_stream_stops_the_model_and_frees_the_slot(start, upstream):
    upstream.pause = 0.2
    client = start(max_concurrency=1, max_queue=0)
    with capture_logs() as logs:
        with client.stream("POST", "/v1/chat", json=ASK | {"stream": True}) as response:
            next(response.iter_lines())
        wait_until(lambda: upstream.left == 1 and logs)
    assert (logs[0]["code"], logs[0]["completion_tokens"]) == ("client_left", 1)
    # The counts never came; a prompt is not free all the same: 23 characters are taken for 6 tokens.
    assert (logs[0]["prompt_tokens"], logs[0]["usage_estimated"]) == (6, True)
    assert client.get("/v1/usage").json()["prompt_tokens"] == 6
    upstream.reset()
    assert client.post("/v1/chat", json=ASK).status_code == 200


@pytest.mark.parametrize("fault", ["delay", "pause"])  # before the first piece, and in the middle
def test_client_that_leaves_before_the_answer_stops_the_model_and_frees_the_slot(
    start, upstream, fault
):
    setattr(upstream, fault, 0.4)
    client = start(max_concurrency=1, max_queue=0)
    with capture_logs() as logs:
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/chat", json=ASK, timeout={"delay": 0.2, "pause": 0.6}[fault])
        wait_until(lambda: upstream.left == 1 and logs)
    assert (logs[0]["status"], logs[0]["code"]) == (499, "client_left")
    # What had been written must be paid for, so it is counted.
    assert logs[0].get("completion_tokens", 0) == {"delay": 0, "pause": 1}[fault]
    upstream.reset()
    assert client.post("/v1/chat", json=ASK).status_code == 200


def test_client_that_leaves_the_queue_is_never_sent_to_the_model(start, upstream):
    upstream.delay = 0.6
    client = start(max_concurrency=1, max_queue=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/v1/chat", json=ASK)
        wait_until(lambda: upstream.calls == 1)
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/chat", json=ASK, timeout=0.2)
        assert first.result().status_code == 200
    assert client.post("/v1/chat", json=ASK).status_code == 200
    assert upstream.calls == 2


# --- the browser's side, as the recipe shows it ----------------------------------------


def javascript() -> str:
    """The recipe's block of JavaScript."""
    recipe = json.loads((FOLDER / "06_fastapi_service.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in recipe["cells"])
    return prose.split("```js\n")[1].split("```")[0]


def in_node(client: httpx2.Client, messages: list[dict], leave_after: int | None = None) -> dict:
    """Run it in Node with the little that a browser has besides; leave the loop after so many pieces."""
    known = {
        "url": str(client.base_url), "key": KEYS["web"], "messages": messages, "leaveAfter": leave_after or 0,
    }  # fmt: skip
    before = f"""
    const {{ url, key, messages, leaveAfter }} = {json.dumps(known)};
    const {{ signal }} = new AbortController(), texts = [];
    const fetch = (path, init) => globalThis.fetch(new URL(path, url), init);
    const output = {{ append: (text) => texts.push(text) }};
    let error = null;
    try {{
    """
    body = javascript()
    loop = "output.append(text);"
    assert body.count(loop) == 1
    body = body.replace(loop, f"{{ {loop} if (texts.length === leaveAfter) break; }}")
    after = """
    } catch (caught) { error = { ...caught, message: caught.message }; }
    if (leaveAfter) await new Promise((resolve) => setTimeout(resolve, 1500)); // the page stays open
    console.log(JSON.stringify({ texts, error }));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", before + body + after],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_recipes_javascript(start, upstream):
    client = start(max_concurrency=1, max_queue=0)
    assert in_node(client, ASK["messages"]) == {"texts": WORDS, "error": None}

    refused = in_node(client, [])
    assert (refused["texts"], refused["error"]["status"]) == ([], 422)
    assert refused["error"]["code"] == "invalid_request"

    upstream.break_after = 2
    broken = in_node(client, ASK["messages"])
    assert (broken["texts"], broken["error"]["code"]) == (WORDS[:2], "upstream_unreachable")

    upstream.reset()
    upstream.pause = 0.2
    assert in_node(client, ASK["messages"], leave_after=1)["texts"] == WORDS[:1]
    assert upstream.left == 1  # not written to the end while the page stood open


# --- too many at once ------------------------------------------------------------------


def test_concurrency_and_queue_are_bounded_and_the_rest_is_shed(start, upstream):
    upstream.delay = 0.8
    client = start(max_concurrency=2, max_queue=3)
    responses = crowd(client, 12)
    shed = [r for r in responses if r.status_code == 503]
    assert sorted(r.status_code for r in responses) == [200] * 5 + [503] * 7
    assert upstream.most_at_once == 2 and upstream.calls == 5
    for response in shed:
        check_problem(response, 503, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
    assert max(r.elapsed.total_seconds() for r in shed) < 0.8  # told at once, not after a wait
    assert client.post("/v1/chat", json=ASK).status_code == 200


def test_nobody_waits_longer_than_the_queue_timeout(start, upstream):
    upstream.delay = 1.0
    client = start(max_concurrency=1, max_queue=5, queue_timeout_s=0.2)
    responses = crowd(client, 3)
    assert sorted(r.status_code for r in responses) == [200, 503, 503]
    assert all(0.2 <= r.elapsed.total_seconds() < 0.8 for r in responses if r.status_code == 503)


def test_streams_hold_their_slot_to_the_end(start, upstream):
    upstream.pause = 0.1
    client = start(max_concurrency=2, max_queue=8)
    responses = crowd(client, 6, ASK | {"stream": True})
    assert all(events(r)[-1][0] == "done" for r in responses)
    assert upstream.most_at_once == 2


def metric(client: httpx2.Client, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample)), 0.0)


def test_metrics_tell_what_is_inside_and_what_is_over(start, upstream):
    upstream.delay = 0.5
    client = start(max_concurrency=2, max_queue=2, queue_timeout_s=5)
    with ThreadPoolExecutor(1) as pool:
        five = pool.submit(crowd, client, 5)
        wait_until(lambda: metric(client, "chat_inside") == 4)
        assert (metric(client, "chat_running"), metric(client, "chat_waiting")) == (2, 2)
        assert sorted(r.status_code for r in five.result()) == [200, 200, 200, 200, 503]
    client.get("/invented/by/a/caller")
    wait_until(lambda: metric(client, 'chat_requests_total{path="/v1/chat",status="200"}') == 4)
    assert metric(client, 'chat_requests_total{path="/v1/chat",status="503"}') == 1
    assert metric(client, 'chat_requests_total{path="other",status="404"}') == 1
    assert metric(client, "chat_inside") == 0


# --- the process -----------------------------------------------------------------------


def environment(upstream_url: str, **more: str) -> dict[str, str]:
    return os.environ | {
        "OPENAI_BASE_URL": f"{upstream_url}/v1", "OPENAI_API_KEY": "upstream-secret", "OPENAI_MODEL": "stub",
        "SERVICE_API_KEYS": json.dumps({"web": {"secret": KEYS["web"]}}), **more,
    }  # fmt: skip


def test_process_logs_json_and_finishes_its_streams_on_sigterm(upstream, upstream_at):
    upstream.pause = 0.3
    port = servers.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=FOLDER,
        env=environment(upstream_at[1], SERVICE_PORT=str(port)),
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer("web")) as client:

            def ready() -> bool:
                with contextlib.suppress(httpx2.ConnectError):
                    return client.get("/readyz").status_code == 200

            wait_until(ready, 20)
            with client.stream("POST", "/v1/chat", json=ASK | {"stream": True}) as response:
                lines = response.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                assert "event: done" in list(lines)
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    lines = [json.loads(line) for line in output.splitlines()]  # every line is JSON, uvicorn's too
    (request,) = [line for line in lines if line["event"] == "request"]
    assert (request["path"], request["completion_tokens"]) == ("/v1/chat", 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVICE_API_KEYS", None), ("SERVICE_API_KEYS", ""), ("SERVICE_API_KEYS", "{}"), ("SERVICE_API_KEYS", '{"web": {"secret": "hush"}}'),
     ("SERVICE_API_KEYS", '{"web": {"secret": "hush-hush-hush-hush", "rate_limit": "often"}}'),
     ("SERVICE_MAX_CONCURRENCY", "0"), ("OPENAI_MODEL", None)],
)  # fmt: skip
def test_wrong_settings_stop_the_start_with_one_line_and_no_secret(
    monkeypatch, tmp_path, name, value
):
    monkeypatch.chdir(tmp_path)
    for variable, good in environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(variable, good)
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        main()
    message = stop.value.code
    assert name.removeprefix("SERVICE_").lower() in message.lower()
    assert "\n" not in message and "hush" not in message


def test_secrets_may_be_files(upstream_at, tmp_path):
    port, variables = servers.free_port(), environment(upstream_at[1])
    for name in ("SERVICE_API_KEYS", "OPENAI_API_KEY"):
        (tmp_path / name).write_text(variables.pop(name) + "\n")
    more = {"SERVICE_PORT": str(port), "SERVICE_SECRETS_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-m", "service"], cwd=FOLDER, env=variables | more)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer("web")) as client:

            def answered() -> bool:
                with contextlib.suppress(httpx2.ConnectError):
                    return client.post("/v1/chat", json=ASK).status_code == 200

            wait_until(answered, 20)
    finally:
        process.kill()


def test_fault_proxy_passes_on_delays_and_counts(upstream, upstream_at):
    with served(faults.create_app(upstream_at[1])) as url, httpx2.Client(base_url=url) as proxy:
        assert proxy.post("/v1/chat/completions", json={}).json()["choices"]
        assert proxy.post("/v1/chat/completions", json={"stream": True}).text.endswith("[DONE]\n\n")
        proxy.post("/faults", json={"fail_next": 1})
        assert proxy.post("/v1/chat/completions", json={}).status_code == 503
        proxy.post("/faults", json={"delay_s": 2})
        with pytest.raises(httpx2.ReadTimeout):
            proxy.post("/v1/chat/completions", json={}, timeout=0.2)
        wait_until(
            lambda: (
                proxy.get("/faults").json()
                == {"calls": 4, "finished": 2, "refused": 1, "abandoned": 1, "events": 5}
            )
        )


# --- what the OpenAPI document says, fuzzed ------------------------------------------------


fuzzed_app = create_app(
    make_settings("http://127.0.0.1:1")
)  # its upstream is set when the tests run
api = schemathesis.openapi.from_asgi(
    "/openapi.json", fuzzed_app, config=schemathesis.Config.from_dict({"seed": 0})
)


@pytest.fixture(scope="module")
def fuzzed_service(upstream_at):
    upstream_at[0].reset()
    fuzzed_app.state.service = Service(make_settings(upstream_at[1]))


@api.parametrize()
@hypothesis_settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_openapi_fuzzed(case, fuzzed_service):
    """All of schemathesis' checks: no 5xx, documented statuses and media types, bodies as in the schema, keys wanted, bad input refused."""
    case.call_and_validate(headers=bearer("web"))


def test_every_status_is_documented():
    assert set(CHAT_ERRORS) == {400, 401, 413, 422, 429, 500, 502, 503, 504}
