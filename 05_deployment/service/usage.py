"""Tokens and money, per request and per key."""

from collections import Counter, defaultdict

from .schemas import KeyUsage, Usage


class Meter:
    """Prices in US dollars per million tokens.

    The totals live in this process and die with it; the log lines are the ledger.
    """

    def __init__(self, prompt_price: float, completion_price: float):
        self._prompt_price, self._completion_price = prompt_price, completion_price
        self._totals: dict[str, Counter] = defaultdict(Counter)

    def price(self, prompt_tokens: int, completion_tokens: int) -> Usage:
        """What so many tokens cost, to a hundred-millionth of a dollar."""
        cost = (
            prompt_tokens * self._prompt_price + completion_tokens * self._completion_price
        ) / 1e6
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=round(cost, 8),
        )

    def add(self, key_id: str, prompt_tokens: int, completion_tokens: int) -> Usage:
        """Price one request and put it on the key's account."""
        self._totals[key_id].update(requests=1, prompt=prompt_tokens, completion=completion_tokens)
        return self.price(prompt_tokens, completion_tokens)

    def total(self, key_id: str) -> KeyUsage:
        """What the key has used since this process started."""
        total = self._totals[key_id]
        return KeyUsage(
            key_id=key_id,
            requests=total["requests"],
            **self.price(total["prompt"], total["completion"]).model_dump(),
        )
