"""The load generator of 05_deployment/serving: statistics, clock, errors. No model runs."""

import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "05_deployment"))

from serving import load

REQUEST = load.Request([{"role": "user", "content": "hi"}], 3)


def answer(due: float, *came: float, **more) -> load.Answer:
    return load.Answer(due, due, list(came), **({"tokens": len(came)} | more))


# --- statistics -----------------------------------------------------------------


def test_summary_of_a_known_list():
    answers = [answer(0, 1, 2, 3), answer(1, 2, 4, 6), answer(2, 5, 5.5, 6)]
    row = load.summary([*answers, load.Answer(0, 0, error="refused")])
    assert (row["requests"], row["errors"], row["seconds"]) == (4, 1, 6)
    assert row["tokens/s"] == 9 / 6 and row["requests/s"] == 3 / 6  # of the answered ones
    assert row["first p50"] == 1 and row["first p95"] == pytest.approx(2.8)  # of 1, 1 and 3
    assert row["token p50"] == 1  # of 1, 2 and 0.5
    assert row["total p50"] == 4 and row["total p95"] == pytest.approx(4.9)  # of 3, 5 and 4


def test_only_errors_are_no_result():
    with pytest.raises(RuntimeError, match="all 2 requests failed, the first with refused"):
        load.summary([load.Answer(0, 0, error="refused"), load.Answer(0, 0, error="late")])


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        ([answer(0, 1, 2), answer(0, 2, 3), answer(0, 3, 4)], 1),  # one begins as another ends
        ([answer(0, 1, 3), answer(0, 2, 4), answer(0, 3.5, 5)], 2),
        ([answer(0, 1, 9), answer(0, 2, 9), answer(0, 3, 9)], 3),
    ],
)
def test_answers_written_at_once(answers, most):
    assert load.at_once(answers) == most


# --- loops ----------------------------------------------------------------------


def engine(seconds: float, inside: list[int]):
    """A `send` that takes so long, and notes how many requests are in it."""
    now = [0]

    async def send(request: load.Request, due: float | None = None) -> load.Answer:
        sent = asyncio.get_running_loop().time()
        now[0] += 1
        inside.append(now[0])
        await asyncio.sleep(seconds)
        now[0] -= 1
        end = asyncio.get_running_loop().time()
        return load.Answer(sent if due is None else due, sent, [end, end], tokens=2)

    return send


def test_closed_loop_keeps_so_many_inside_and_no_more():
    inside: list[int] = []
    answers = asyncio.run(load.closed_loop(engine(0.01, inside), [REQUEST] * 9, 3))
    assert len(answers) == 9 and max(inside) == 3


def test_open_loop_does_not_wait_for_answers():
    inside: list[int] = []
    asyncio.run(load.open_loop(engine(0.5, inside), [REQUEST] * 6, rate=1000, seed=0))
    assert max(inside) == 6


def test_open_loop_measures_from_when_a_request_was_due():
    """With one connection the sixth request is sent after five others: the wait counts."""
    loop = load.open_loop(engine(0.05, []), [REQUEST] * 6, rate=1000, seed=0, connections=1)
    last = asyncio.run(loop)[-1]
    assert last.came[0] - last.sent < last.first - 0.15
    assert last.first >= 0.25


def test_open_loop_keeps_its_rate_whatever_the_seed():
    for seed in range(5):
        answers = asyncio.run(load.open_loop(engine(0, []), [REQUEST] * 20, 1000, seed))
        span = answers[-1].due - answers[0].due
        assert 0.6 * 20 / 1000 < span <= 20 / 1000


@pytest.mark.parametrize(("callers", "requests"), [(1, 8), (4, 8), (16, 32)])
def test_enough_requests_for_a_closed_loop(callers, requests):
    assert load.enough(callers) == requests
    drawn = [request.max_tokens for request in load.draw(requests, 3)]
    assert sorted(drawn) == sorted(load.LENGTHS * (requests // 8))


def test_arrivals_are_drawn_by_the_seed():
    def gaps(seed: int) -> list[float]:
        answers = asyncio.run(load.open_loop(engine(0, []), [REQUEST] * 5, 1000, seed))
        return [round(b.due - a.due, 6) for a, b in zip(answers, answers[1:], strict=False)]

    assert gaps(1) == gaps(1) != gaps(2)


# --- errors ---------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Every second request is refused; the others get three tokens."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.hits += 1
        if self.server.hits % 2 == 0:
            self.send_error(503)
            return
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        delta = [{"index": 0, "delta": {"content": "a"}}]
        details = {"prompt_tokens_details": {"cached_tokens": 4}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10} | details
        events = [chunk | {"choices": delta}] * 3 + [chunk | {"choices": [], "usage": usage}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in [*map(json.dumps, events), "[DONE]"]:
            self.wfile.write(f"data: {event}\n\n".encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.hits = 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_http_error_is_counted_and_neither_hidden_nor_retried(server):
    async def main() -> list[load.Answer]:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options = {"api_key": "none", "max_retries": 0, "default_headers": load.FRESH}
        async with openai.AsyncOpenAI(base_url=url, **options) as client:

            async def send(request: load.Request, due: float | None = None) -> load.Answer:
                return await load.ask(client, "m", request, {}, due)

            return await load.closed_loop(send, [REQUEST] * 4, 1)

    answers = asyncio.run(main())
    assert server.hits == 4
    assert [bool(a.error) for a in answers] == [False, True, False, True]
    assert "InternalServerError" in answers[1].error and "503" in answers[1].error
    assert load.summary(answers)["errors"] == 2
    assert [(a.text, a.tokens, a.prompt, a.cached) for a in answers[::2]] == [("aaa", 3, 7, 4)] * 2


def test_an_empty_answer_is_an_error():
    class Empty:
        """A client whose streams end at once."""

        @property
        def chat(self):
            return self

        completions = chat

        async def create(self, **_):
            async def nothing():
                return
                yield

            return nothing()

    assert asyncio.run(load.ask(Empty(), "m", REQUEST, {})).error == "no tokens"
