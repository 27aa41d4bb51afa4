"""What is tried again, when, and how often; what the log says of a refusal."""

import json
import time
from email.utils import formatdate

import pytest

from chat.models.upstream.retries import is_out_of_quota, is_retried, read_wait
from dev.model import Answer, ModelServer
from tests.harness import Client, Function
from tests.test_bad_input import assert_error


@pytest.mark.parametrize("stream", [False, True])
def test_the_server_says_whether_to_try_again(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=429, error="no", headers={"x-should-retry": "false"}))
    assert_error(client.say(chat_id, "x", stream=stream), 502, "upstream_refused")
    assert len(model.requests) == 1
    again = {"x-should-retry": "true", "retry-after-ms": "1"}
    model.enqueue(Answer(status=403, error="warming up", headers=again))
    assert client.say(chat_id, "x", stream=stream).status == 200
    assert len(model.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_the_wait_is_the_one_the_server_asks_for(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=503, error="no", headers={"retry-after-ms": "700"}))
    assert client.say(chat_id, "x", stream=stream).status == 200
    first, second = (asked.asked_at for asked in model.requests)
    assert second - first >= 0.7


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "soon", "", "-inf", "1e999", "Mon, 99 Foo"])
def test_a_wait_that_is_none_is_as_if_absent(
    client: Client, model: ModelServer, chat_id: str, value: str
) -> None:
    model.enqueue(Answer(status=503, error="no", headers={"Retry-After": value}))
    assert client.say(chat_id, "x").status == 200
    first, second = (asked.asked_at for asked in model.requests)
    assert second - first > 0.3


def test_waits_are_read_in_every_form() -> None:
    now = time.time()
    assert read_wait({"retry-after-ms": "1500", "retry-after": "9"}, now) == 1.5
    assert read_wait({"retry-after-ms": "x", "retry-after": "9"}, now) == 9
    assert read_wait({"retry-after": formatdate(now + 60, usegmt=True)}, now) == pytest.approx(
        60, abs=1
    )
    assert read_wait({"retry-after": formatdate(now - 60, usegmt=True)}, now) == 0
    assert read_wait({}, now) is None
    assert [is_retried(status, {}) for status in (408, 409, 429, 500, 529, 400, 404)] == [
        *(True,) * 5,
        False,
        False,
    ]


QUOTA = [
    (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    (402, {"message": "Insufficient Balance"}),
    (429, {"message": "x", "type": "exceeded_current_quota_error"}),
    (400, {"message": "Your credit balance is too low to access the API"}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status, error", QUOTA)
def test_a_quota_that_is_used_up_is_told_apart(
    function: Function,
    client: Client,
    model: ModelServer,
    chat_id: str,
    status: int,
    error: dict[str, str],
    stream: bool,
) -> None:
    model.enqueue(Answer(status=status, raw=json.dumps({"error": error}).encode()))
    reply = client.say(chat_id, "x", stream=stream)
    assert_error(reply, 503, "upstream_quota")
    assert reply.json["error"]["message"] == "The model is not available at the moment."
    assert reply.headers["x-should-retry"] == "false" and len(model.requests) == 1
    assert "is used up; see its billing page" in function.log.read_text()


def test_a_rate_limit_is_no_quota() -> None:
    assert not is_out_of_quota(429, b'{"error":{"code":"rate_limit_exceeded"}}')
    assert not is_out_of_quota(500, b"insufficient_quota")


@pytest.mark.parametrize("header", ["x-request-id", "apim-request-id", "cf-ray", "request-id"])
def test_the_log_has_status_code_and_request_id_of_a_refusal_and_no_words(
    function: Function, client: Client, model: ModelServer, chat_id: str, header: str
) -> None:
    error = {"error": {"message": "about your secret plan", "code": "model_not_found"}}
    raw, number = json.dumps(error).encode(), f"req-{chat_id}-{header}"
    model.enqueue(Answer(status=404, raw=raw, headers={header: number}))
    client.say(chat_id, "x")
    log = function.log.read_text()
    assert f"answered 404 (model_not_found, {number})" in log
    assert "secret plan" not in log
