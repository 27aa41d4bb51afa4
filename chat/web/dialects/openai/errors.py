"""Our errors as clients of OpenAI act upon them: statuses, codes, and whether to try again."""

from typing import Any

import msgspec

from chat.core.errors import ChatkeepError

_STATUS = {"prompt_too_long": 400}
_CODE = {
    "prompt_too_long": "context_length_exceeded",
    "budget_exhausted": "insufficient_quota",
    "quota_exceeded": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
    "too_many_waiting": "rate_limit_exceeded",
}
_TYPE = {"rate_limit_exceeded": "rate_limit_error", "insufficient_quota": "insufficient_quota"}
# Asking again would give the same, or run what may have run: every SDK asks three times.
_FINAL = frozenset(
    "insufficient_quota turn_in_progress idempotency_conflict upstream_refused upstream_timeout"
    " unsupported_endpoint internal_error".split()
)
_TOO_LONG = "This model's maximum context length is exceeded. "


class OpenAiError(ChatkeepError):
    """An error with another status, code or type than on the other routes."""

    def __init__(self, error: ChatkeepError) -> None:
        code = _CODE.get(error.code, error.code)
        prefix = _TOO_LONG if code == "context_length_exceeded" else ""
        super().__init__(prefix + error.message, param=error.param, code=code)
        self.status = _STATUS.get(error.code, error.status)
        self.headers = dict(error.headers)
        if code in _FINAL:
            self.headers["x-should-retry"] = "false"
        if code == "insufficient_quota":  # until midnight: no client should wait that long
            self.headers.pop("Retry-After", None)
        self._more = {k: v for k, v in error.body().items() if k != "error"}

    @property
    def type(self) -> str:
        default = "invalid_request_error" if self.status < 500 else "server_error"
        return _TYPE.get(self.code, default)

    def body(self) -> dict[str, Any]:
        return super().body() | self._more


def translate(error: ChatkeepError) -> ChatkeepError:
    """An error as these routes answer it."""
    return error if isinstance(error, OpenAiError) else OpenAiError(error)


def translate_event(error: msgspec.Raw | None) -> dict[str, Any]:
    """The error that ends a stream, from the one of the event."""
    found = msgspec.json.decode(error) if error else {}
    message = found.get("message", "The instance that ran this turn died; its text so far is kept.")
    wrapped = ChatkeepError(
        message, param=found.get("param"), code=found.get("code", "interrupted")
    )
    body: dict[str, Any] = OpenAiError(wrapped).body()["error"]
    return body
