"""The proxy injects what it says, the same for the same seed, and counts what was paid."""

import time
from collections import Counter

import openai
import pytest

from utils import faults

SLOW_S = 2.0


@pytest.fixture
def call(endpoint):
    """Calls the model through a proxy that has one fault only; returns what came and what was noted."""

    def call(kind: str | None, stream: bool = False, **options):
        with faults.FaultProxy(
            endpoint.base_url,
            rate=bool(kind),
            kinds=[kind] if kind else faults.KINDS,
            slow_s=SLOW_S,
        ) as proxy:
            client = openai.OpenAI(base_url=proxy.base_url, max_retries=0, **options)
            try:
                result = client.chat.completions.create(
                    model=endpoint.model,
                    messages=[{"role": "user", "content": "Say yes."}],
                    max_tokens=4,
                    stream=stream,
                    extra_headers={"Idempotency-Key": "a"},
                )
                result = list(result) if stream else result
            except Exception as error:  # which one is what the tests ask
                result = error
            (noted,) = proxy.calls
            return result, noted

    return call


def test_without_a_fault_all_goes_through(call):
    answer, noted = call(None)
    assert answer.id == noted.answer_id and answer.usage.total_tokens == noted.tokens > 0
    assert (noted.key, noted.attempt, noted.paid, noted.whole) == ("a", 0, True, True)


def test_a_stream_goes_through(call):
    events, noted = call(None, stream=True)
    assert events[-1].choices[0].finish_reason and noted.whole and 1 <= noted.pieces <= 4


def test_429_says_how_long_to_wait(call):
    error, noted = call("429")
    assert isinstance(error, openai.RateLimitError) and not noted.paid
    assert error.response.headers["retry-after-ms"] == "300"
    assert error.response.headers["retry-after"] == "1"


def test_500_is_not_paid(call):
    error, noted = call("500")
    assert isinstance(error, openai.InternalServerError) and not noted.paid


@pytest.mark.parametrize("kind, paid", [("reset", False), ("lost", True)])
def test_reset_before_and_after_the_model(call, kind, paid):
    error, noted = call(kind)
    assert isinstance(error, openai.APIConnectionError) and noted.paid is paid and not noted.whole


def test_a_stream_lost_half_way_is_an_error_not_an_end(call):
    error, noted = call("lost", stream=True)
    assert isinstance(error, openai.APIConnectionError) and noted.paid and not noted.whole


def test_a_cut_answer_is_half_of_the_json(call):
    error, noted = call("cut")
    assert isinstance(error, ValueError) and noted.paid and not noted.whole  # JSONDecodeError


def test_a_cut_stream_ends_in_order_and_without_a_reason(call):
    events, noted = call("cut", stream=True)
    assert all(choice.finish_reason is None for event in events for choice in event.choices)
    assert noted.paid and not noted.whole


def test_a_slow_answer_comes_in_the_end(call):
    started = time.monotonic()
    answer, noted = call("slow", timeout=SLOW_S / 2)  # between bytes: it never fires
    assert answer.id == noted.answer_id and noted.whole and time.monotonic() - started >= SLOW_S


def test_a_slow_stream_comes_in_the_end_and_counts_as_whole(call):
    started = time.monotonic()
    events, noted = call("slow", stream=True)
    assert (
        events[-1].choices[0].finish_reason and noted.whole and time.monotonic() - started >= SLOW_S
    )


def test_faults_depend_on_seed_key_and_attempt_only():
    drawn = [faults.draw(0, str(i), 0, 0.3) for i in range(2000)]
    assert drawn == [faults.draw(0, str(i), 0, 0.3) for i in range(2000)]
    assert drawn != [faults.draw(7, str(i), 0, 0.3) for i in range(2000)]
    assert drawn != [faults.draw(0, str(i), 1, 0.3) for i in range(2000)]
    counts = Counter(drawn)
    assert 0.26 < 1 - counts[None] / 2000 < 0.34
    assert all(60 <= counts[kind] <= 140 for kind in faults.KINDS)


def test_unknown_faults_are_refused(endpoint):
    with pytest.raises(ValueError, match="flood"):
        faults.FaultProxy(endpoint.base_url, kinds=["flood"])


def test_busiest_window():
    times = [0, 0.5, 0.9, 1.0, 1.4, 5]
    assert faults.busiest(times, [1] * 6, 1.0) == 4  # from 0.5: 0.5, 0.9, 1.0, 1.4
    assert faults.busiest(times, [1, 1, 1, 1, 1, 9], 1.0) == 9
    assert faults.busiest([0, 1.0], [1, 1], 1.0) == 1  # half-open
    assert faults.busiest([], [], 1.0) == 0
