"""Limits and prices: how settings and Redis write them, how near an owner is to a limit. Pure."""

import re

import msgspec

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(_SECONDS)})")
_PRICE = re.compile(r"([^=\s]+)=([0-9.]+)/([0-9.]+)")
_MILLION = 1_000_000
NO_RATES = "none"

#: Dollars for a million prompt tokens and completion tokens, by the beginning of a model's name.
Prices = dict[str, tuple[float, float]]


class Limits(msgspec.Struct, frozen=True):
    """Turns per period, tokens per day (UTC), turns at once; empty and 0 mean no limit."""

    rate_limit: str = ""
    daily_token_budget: int = 0
    max_concurrent_turns: int = 0

    @property
    def rates(self) -> str:
        """The rates as the scripts read them: `<turns>/<seconds>`, separated by spaces."""
        return " ".join(f"{count}/{_SECONDS[unit]}" for count, unit in read_rates(self.rate_limit))


class RateStatus(msgspec.Struct, frozen=True):
    """How far an owner is from the limit that is nearest."""

    limit: int
    remaining: int
    reset_ms: int

    def headers(self) -> dict[str, str]:
        """The headers of draft-ietf-httpapi-ratelimit-headers-07; none without a limit."""
        if not self.limit:
            return {}
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }

    @property
    def reset_seconds(self) -> int:
        return max(1, -(-self.reset_ms // 1000))


def read_rates(text: str) -> list[tuple[int, str]]:
    """Turns and units from `60/minute, 500/day`; raises ValueError."""
    rates = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _RATE.fullmatch(part)
        if not match:
            raise ValueError("must be like 60/minute or 60/minute,500/day")
        rates.append((int(match[1]), match[2]))
    return rates


def write_rates(rates: str) -> str:
    """Rates in the form of settings, from the form of the scripts."""
    names = {str(seconds): unit for unit, seconds in _SECONDS.items()}
    pairs = (rate.split("/") for rate in rates.split() if "/" in rate)
    return ",".join(f"{count}/{names[seconds]}" for count, seconds in pairs) or NO_RATES


def read_prices(text: str) -> Prices:
    """Prices from `gpt-x=0.25/2.00, ...`; raises ValueError."""
    prices = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = _PRICE.fullmatch(part)
        if not match:
            raise ValueError("must be like model=0.25/2.00,other=1/4")
        prices[match[1]] = (float(match[2]), float(match[3]))
    return prices


def cost(prices: Prices, model: str, prompt: int, completion: int) -> float | None:
    """Dollars, at the price of the longest prefix of the model's name; None when there is none."""
    names = [name for name in prices if model.startswith(name)]
    if not names:
        return None
    price_in, price_out = prices[max(names, key=len)]
    return round((prompt * price_in + completion * price_out) / _MILLION, 6)
