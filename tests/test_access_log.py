"""What the log says of a turn: why it failed, how often the model was asked; and of an admin's acts."""

from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import (
    ADMIN_KEY,
    Client,
    Function,
    StartFunction,
    as_admin,
    free_port,
    start_stream,
    wait_until,
)
from tests.traces import log_lines

Line = dict[str, Any]
_ID = {"x-request-id": "req_0123"}


@pytest.fixture(scope="module")
def quick_to_give_up(start_function: StartFunction) -> Function:
    return start_function(
        UPSTREAM_TIMEOUT_SECONDS="0.5", AGENT_KEY="a" * 32, K_REVISION="chat-00042-abc"
    )


def _line_of(function: Function, chat_id: str) -> Line:
    def found() -> list[Line]:
        return [line for line in log_lines(function) if line.get("chat") == chat_id]

    assert wait_until(found)
    return found()[-1]


_FAILURES: dict[str, tuple[list[Answer], Line]] = {
    "the model fails three times": (
        [Answer(status=500, error="boom", headers=_ID | {"retry-after": "0"})] * 3,
        {
            "status": 503,
            "code": "upstream_unavailable",
            "attempts": 3,
            "upstream_status": 500,
            "upstream_request_id": "req_0123",
            "upstream_failure": "answered 500",
        },
    ),
    "the model's quota is used up": (
        [Answer(status=429, error="no credit left", headers={"retry-after": "0"})] * 3,
        {
            "status": 503,
            "code": "upstream_unavailable",
            "attempts": 3,
            "upstream_status": 429,
            "upstream_failure": "answered 429",
        },
    ),
    "the model refuses the key": (
        [Answer(status=401, error="who are you", headers=_ID)],
        {
            "status": 502,
            "code": "upstream_refused",
            "attempts": 1,
            "upstream_status": 401,
            "upstream_request_id": "req_0123",
            "upstream_failure": "answered 401",
        },
    ),
    "the model is silent": (
        [Answer(hang=1.0)],
        {
            "status": 504,
            "code": "upstream_timeout",
            "attempts": 1,
            "upstream_failure": "was silent for 0.5 s",
        },
    ),
    "the answer cannot be read": (
        [Answer(raw=b"<html>")],
        {"status": 502, "code": "upstream_refused", "attempts": 1, "upstream_status": 200},
    ),
}


@pytest.mark.parametrize("kind", _FAILURES)
def test_a_turn_that_failed_has_its_reason_in_the_log(
    quick_to_give_up: Function, model: ModelServer, chat_id: str, kind: str
) -> None:
    answers, expected = _FAILURES[kind]
    model.enqueue(*answers)
    assert quick_to_give_up.client.say(chat_id, "x").status == expected["status"]
    line = _line_of(quick_to_give_up, chat_id)
    common = {
        "severity": "ERROR",
        "ending": "failed",
        "stream": False,
        "model": "gpt-5.4-mini",
        "revision": "chat-00042-abc",
    }
    assert {name: line.get(name) for name in expected | common} == expected | common
    assert not any(answer.error and answer.error in str(line) for answer in answers)


def test_a_stream_that_broke_off_is_an_error_in_the_log_although_it_began_with_200(
    quick_to_give_up: Function, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["one ", "two "], cut=True))
    stream, _ = start_stream(quick_to_give_up.client, chat_id)
    stream.rest()
    line = _line_of(quick_to_give_up, chat_id)
    expected = ("ERROR", 200, "upstream_refused", "failed", "broke off")
    names = ("severity", "status", "code", "ending", "upstream_failure")
    assert tuple(line[name] for name in names) == expected


def test_a_second_attempt_that_succeeds_is_counted(
    quick_to_give_up: Function, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=503, headers={"retry-after": "0"}), Answer(pieces=["yes"]))
    assert quick_to_give_up.client.say(chat_id, "x").status == 200
    line = _line_of(quick_to_give_up, chat_id)
    assert (line["severity"], line["attempts"], line["upstream_status"]) == ("INFO", 2, 200)
    assert (line["tokens_in"], line["tokens_out"]) == (1, 1) and "code" not in line


def test_a_model_that_cannot_be_reached_is_told_from_one_that_fails(
    start_function: StartFunction, chat_id: str
) -> None:
    function = start_function(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    assert function.client.say(chat_id, "x").status == 503
    line = _line_of(function, chat_id)
    assert line["upstream_failure"] == "could not be reached (ConnectionRefusedError)"
    assert (line["code"], line["attempts"]) == ("upstream_unavailable", 3)


def test_a_turn_that_did_not_begin_has_its_code_in_the_log(
    quick_to_give_up: Function, chat_id: str
) -> None:
    client = quick_to_give_up.client
    for chat, body, code in (
        (f"{chat_id}-agent", b'{"content": "x", "model": "agent"}', "no_agent"),
        (f"{chat_id}-json", b"{", "invalid_json"),
        (f"{chat_id}-field", b'{"content": 1}', "invalid_field"),
    ):
        status = client.post(f"/{chat}/chat", body).status
        line = _line_of(quick_to_give_up, chat)
        assert (line["status"], line["code"]) == (status, code)


def test_limits_and_a_store_that_is_away_have_their_code_in_the_log(
    start_function: StartFunction, model: ModelServer, chat_id: str
) -> None:
    limited = start_function(RATE_LIMIT="1/hour", AUTH="keys", ADMIN_KEY=ADMIN_KEY)
    user = as_admin(limited.client.base).post("/admin/users/add", {}).json
    client = Client(limited.client.base, {"Authorization": f"Bearer {user['token']}"})
    assert [client.say(chat_id, "x").status for _ in range(2)] == [200, 429]
    assert _line_of(limited, chat_id)["code"] == "rate_limited"
    away = start_function(REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert away.client.say(chat_id, "x").status == 503
    line = _line_of(away, chat_id)
    assert (line["code"], line["severity"]) == ("store_unavailable", "ERROR")


def test_every_act_of_an_admin_leaves_a_line_without_a_key(start_function: StartFunction) -> None:
    function = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY)
    admin = as_admin(function.client.base)
    token = admin.post("/admin/users/add", {"user_id": "ada", "rate_limit": "5/minute"}).json[
        "token"
    ]
    admin.post("/admin/users/rotate", {"user_id": "ada"})
    admin.request("PATCH", "/admin/users/ada", {"daily_token_budget": 7})
    admin.get("/admin/users")
    admin.get("/admin/usage")
    admin.post("/admin/users/delete", {"user_id": "ada"})
    admin.request("DELETE", "/admin/users/ada?erase=true", X_Request_Id="r-7")
    Client(function.client.base).get("/admin/users")  # no key: no act

    def acts() -> list[Line]:
        return [line for line in log_lines(function) if "audit" in line]

    assert wait_until(lambda: len(acts()) >= 7)
    assert [(line["audit"], line.get("user"), line.get("changed")) for line in acts()] == [
        ("add a key", "ada", {"rate_limit": "5/minute"}),
        ("rotate keys", "ada", None),
        ("change limits", "ada", {"daily_token_budget": 7}),
        ("list users", None, None),
        ("read usage", None, None),
        ("revoke keys", "ada", None),
        ("erase", "ada", None),
    ]
    assert {(line["severity"], line["by"]) for line in acts()} == {("NOTICE", "admin key")}
    assert acts()[-1]["request_id"] == "r-7"
    assert token not in function.log.read_text()
