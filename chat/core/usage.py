"""What turns used by owner, day and model, and what it cost. Pure."""

import csv
import io
from collections.abc import Iterable

import msgspec

from chat.core.limits import Prices, cost
from chat.core.messages import timestamp

DAY_MS = 86_400_000
_KEPT_DAYS = 400
_BEGINS_FORMULA = tuple("=+-@\t\r")
COLUMNS = "owner day model requests prompt_tokens completion_tokens total_tokens cost".split()


class Used(msgspec.Struct, frozen=True):
    """The tokens of a turn, as the model API counted them, or else estimated."""

    model: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def line(self, now_ms: int, requests: int = 1) -> str:
        """As it is stored: `<day> <model> <requests> <prompt tokens> <completion tokens>`."""
        day = timestamp(now_ms)[:10]
        return f"{day} {self.model} {requests} {self.prompt_tokens} {self.completion_tokens}"

    def booked(self, nonce: str) -> str:
        """What is booked of a turn from outside, for its producer: the field `booked` of a chat."""
        return f"{nonce} {self.prompt_tokens} {self.completion_tokens}"

    def beyond(self, booked: str, nonce: str) -> "Used | None":
        """What is missing where that much was booked; None: nothing, or it was another turn's."""
        booked_nonce, *tokens = booked.split() or [""]
        if booked_nonce != nonce:
            return None
        prompt = max(0, self.prompt_tokens - int(tokens[0]))
        completion = max(0, self.completion_tokens - int(tokens[1]))
        return Used(self.model, prompt, completion) if prompt or completion else None


class UsageRow(msgspec.Struct, frozen=True):
    """What an owner used of one model on one day."""

    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


def read_line(line: str) -> UsageRow:
    """Read a stored line: that of one turn, or the sum of several."""
    name, *numbers = line.rsplit(" ", 3)
    day, _, model = name.partition(" ")
    return UsageRow(day, model, *map(int, numbers))


def oldest_day(now_ms: int) -> str:
    """The first day whose usage is kept."""
    return timestamp(now_ms - _KEPT_DAYS * DAY_MS)[:10]


def add_up(rows: Iterable[UsageRow], prices: Prices) -> dict[str, object]:
    """Totals; the cost, in dollars, is None when none of the models has a price."""
    total = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    costs: list[float] = []
    for row in rows:
        numbers = row_of("", row, prices)
        for name in total:
            total[name] += int(str(numbers[name]))
        if isinstance(price := numbers["cost"], float):
            costs.append(price)
    return {**total, "cost": round(sum(costs), 6) if costs else None}


def row_of(owner: str, row: UsageRow, prices: Prices) -> dict[str, object]:
    """A row as the usage report shows it."""
    tokens = (row.prompt_tokens, row.completion_tokens)
    price = cost(prices, row.model, *tokens)
    values = (owner, row.day, row.model, row.requests, *tokens, sum(tokens), price)
    return dict(zip(COLUMNS, values, strict=True))


def write_csv(rows: Iterable[dict[str, object]]) -> bytes:
    """CSV as RFC 4180 has it, with a header line; no cell is a formula to a spreadsheet."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows({name: _inert(cell) for name, cell in row.items()} for row in rows)
    return out.getvalue().encode()


def _inert(cell: object) -> object:
    """Models and owners are named by clients: https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_BEGINS_FORMULA) else cell
