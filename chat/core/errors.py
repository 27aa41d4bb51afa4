"""All errors that clients see, with their HTTP status.

    ChatkeepError
      InvalidRequest        400  invalid_json missing_field invalid_field invalid_chat_id
                                 invalid_cursor
      KeyMissing            401  the request has no key
      KeyRejected           401  the key is unknown, expired or revoked
      NotAllowed            403  the key is valid, but has no right to this
      NotFound              404  not_found chat_not_found message_not_found turn_not_found
      MethodNotAllowed      405
      IdempotencyConflict   409  the same Idempotency-Key with a different body
      TurnInProgress        409  the chat is busy, and the caller would not wait (any longer)
      ChatChanged           412  If-Match names an older revision; the newer messages are attached
      BodyTooLarge          413
      PromptTooLong         413
      RateLimited           429  rate_limited budget_exhausted too_many_waiting
      QuotaExceeded         429  the owner has as many chats, or bytes stored, as it may have
      InternalError         500  a bug; the log has the details
      UpstreamRefused       502  the model API refused the request, or broke off
      UpstreamUnavailable   503  the model API failed after all retries; nothing was stored
      UpstreamQuota         503  the operator's quota or credit at the model API is used up
      StoreUnavailable      503  Redis cannot be reached
      NoAgent               503  no agent is connected
      UpstreamTimeout       504  the model was silent for too long

Only `web` renders them.
"""

from typing import Any


class ChatkeepError(Exception):
    """An error shown to the client; `headers` are added to the HTTP response."""

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    @property
    def type(self) -> str:
        """OpenAI's `type` of the error: the client's fault, or the server's."""
        return "invalid_request_error" if self.status < 500 else "api_error"

    def body(self) -> dict[str, Any]:
        """The error as JSON, in OpenAI's format."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class InvalidRequest(ChatkeepError):
    """The request is wrong; `param` names the field."""

    status = 400
    code = "invalid_field"


class KeyRejected(ChatkeepError):
    """The key is unknown, expired or revoked."""

    status = 401
    code = "key_rejected"

    def __init__(self, message: str, *, param: str | None = "Authorization") -> None:
        super().__init__(message, param=param, headers={"WWW-Authenticate": "Bearer"})


class KeyMissing(KeyRejected):
    """The request has no key."""

    code = "key_missing"


class NotAllowed(ChatkeepError):
    """The key is valid, but has no right to this."""

    status = 403
    code = "not_allowed"


class NotFound(ChatkeepError):
    """It does not exist, or belongs to another owner: the client cannot tell which."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ChatkeepError):
    """The path exists, but not with this method."""

    status = 405
    code = "method_not_allowed"


class TurnInProgress(ChatkeepError):
    """Another turn of the same chat is running."""

    status = 409
    code = "turn_in_progress"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        # The OpenAI SDKs retry a 409 at once unless this header forbids it.
        headers = {"x-should-retry": "false"}
        super().__init__(message, retry_after=retry_after, headers=headers)


class IdempotencyConflict(ChatkeepError):
    """The same Idempotency-Key was sent with a different body."""

    status = 409
    code = "idempotency_conflict"


class ChatChanged(ChatkeepError):
    """The chat has not the ETag in If-Match; `messages` are those added since."""

    status = 412
    code = "chat_changed"

    def __init__(self, message: str, *, etag: str, messages: list[Any]) -> None:
        super().__init__(message, headers={"ETag": f'"{etag}"'})
        self.messages = messages

    def body(self) -> dict[str, Any]:
        return super().body() | {"messages": self.messages}


class BodyTooLarge(ChatkeepError):
    """The body is over `MAX_BODY_BYTES`."""

    status = 413
    code = "body_too_large"


class PromptTooLong(ChatkeepError):
    """The new message alone does not fit `MAX_PROMPT_TOKENS`."""

    status = 413
    code = "prompt_too_long"


class RateLimited(ChatkeepError):
    """A rate limit or budget, of the owner or of all owners together, is exhausted."""

    status = 429
    code = "rate_limited"


class QuotaExceeded(ChatkeepError):
    """The owner has as many chats, or as many bytes stored, as it may have; `what` names which."""

    status = 429
    code = "quota_exceeded"

    def __init__(self, what: str) -> None:
        most = "as many chats" if what == "chats" else "as many bytes stored"
        super().__init__(f"You have {most} as you may have. Delete a chat.", retry_after=3600)


class InternalError(ChatkeepError):
    """A bug; the log has the details, the client gets none."""


class UpstreamRefused(ChatkeepError):
    """The model API answered 4xx, or broke off in the middle of an answer."""

    status = 502
    code = "upstream_refused"


class UpstreamUnavailable(ChatkeepError):
    """The model API could not be reached, or kept failing, through all retries."""

    status = 503
    code = "upstream_unavailable"


class UpstreamQuota(UpstreamUnavailable):
    """The quota or credit at the model API is used up: trying again is useless."""

    code = "upstream_quota"

    def __init__(self) -> None:
        # What the operator has to do stands in the log; a client cannot do anything.
        message = "The model is not available at the moment."
        super().__init__(message, headers={"x-should-retry": "false"})


class StoreUnavailable(ChatkeepError):
    """Redis did not answer in time."""

    status = 503
    code = "store_unavailable"


def too_large_at_once() -> StoreUnavailable:
    """So much is worked on that a large request cannot be served as well."""
    return StoreUnavailable("This instance is busy with large requests.", retry_after=1)


class NoAgent(ChatkeepError):
    """No agent is connected."""

    status = 503
    code = "no_agent"


class UpstreamTimeout(ChatkeepError):
    """The model API accepted the request and then stayed silent."""

    status = 504
    code = "upstream_timeout"
