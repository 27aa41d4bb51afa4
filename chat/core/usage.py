"""What turns used, by owner, day and model, and what that cost. Pure."""

import csv
import io
from collections.abc import Iterable

import msgspec

from chat.core.limits import Prices, cost
from chat.core.messages import timestamp

DAY_MS = 86_400_000
_KEPT_DAYS = 400
COLUMNS = "owner day model requests prompt_tokens completion_tokens total_tokens cost".split()


class Used(msgspec.Struct, frozen=True):
    """What a turn used, as the model API counted it, or else by estimate."""

    model: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def line(self, now_ms: int) -> str:
        """As it is kept: `<day> <model> <requests> <prompt> <completion tokens>`."""
        day = timestamp(now_ms)[:10]
        return f"{day} {self.model} 1 {self.prompt_tokens} {self.completion_tokens}"


class UsageRow(msgspec.Struct, frozen=True):
    """What an owner used of one model on one day."""

    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


def read_line(line: str) -> UsageRow:
    """As `Used.line` writes it, or several of them added up."""
    name, *numbers = line.rsplit(" ", 3)
    day, _, model = name.partition(" ")
    return UsageRow(day, model, *map(int, numbers))


def oldest_day(now_ms: int) -> str:
    """Usage of the days before is forgotten."""
    return timestamp(now_ms - _KEPT_DAYS * DAY_MS)[:10]


def add_up(lines: Iterable[UsageRow], prices: Prices) -> dict[str, object]:
    """Totals; the cost, in dollars, is None while no model among them has a price."""
    total = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    costs: list[float] = []
    for line in lines:
        numbers = row_of("", line, prices)
        for name in total:
            total[name] += int(str(numbers[name]))
        if isinstance(price := numbers["cost"], float):
            costs.append(price)
    return {**total, "cost": round(sum(costs), 6) if costs else None}


def row_of(owner: str, line: UsageRow, prices: Prices) -> dict[str, object]:
    """A line as the usage report shows it."""
    tokens = (line.prompt_tokens, line.completion_tokens)
    price = cost(prices, line.model, *tokens)
    values = (owner, line.day, line.model, line.requests, *tokens, sum(tokens), price)
    return dict(zip(COLUMNS, values, strict=True))


def write_csv(rows: Iterable[dict[str, object]]) -> bytes:
    """RFC 4180, with a line of names."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()
