"""Every kind of bad body: the documented answer, and nothing stored."""

import json
import socket
from typing import Any

import pytest

from dev.redis_server import RedisServer
from tests.harness import Client, Function, Reply
from tests.traces import traces_of


def assert_error(reply: Reply, status: int, code: str, param: str | None = None) -> None:
    """The one shape of an error."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Request-Id"]
    error = reply.json["error"]
    assert set(reply.json) == {"error"} and set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("invalid_request_error" if status < 500 else "api_error")
    assert isinstance(error["message"], str) and error["message"]


BODIES: list[tuple[bytes, str, str | None]] = [
    (b"", "invalid_json", None),
    (b"not json", "invalid_json", None),
    (b'{"content": "x"', "invalid_json", None),
    (b'{"content": "x"} {}', "invalid_json", None),
    (b'{"content": "\xff"}', "invalid_json", None),
    (b'{"content": "\\ud800"}', "invalid_json", None),
    (b'{"content": NaN}', "invalid_json", None),
    (b"[" * 100_000, "invalid_json", None),
    (b'{"content": "x", "metadata": ' + b'{"a":' * 100_000, "invalid_json", None),
    (b'{"content": "x", "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501, "invalid_json", None),
    (b'{"content": "x", "unknown": ' + b"[" * 975 + b"]" * 975 + b"}", "invalid_json", None),
    (b'"content"', "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b"null", "invalid_json", None),
    (b"{}", "missing_field", "content"),
    (b'{"content": null}', "missing_field", "content"),
    (b'{"content": ""}', "invalid_field", "content"),
    (b'{"content": []}', "invalid_field", "content"),
    (b'{"content": 5}', "invalid_field", "content"),
    (b'{"content": {"type": "text"}}', "invalid_field", "content"),
    (b'{"content": ["text"]}', "invalid_field", "content"),
    (b'{"content": [{"text": "x"}]}', "invalid_field", "content"),
    (b'{"content": [{"type": "text"}]}', "invalid_field", "content"),
    (b'{"content": [{"type": "text", "text": ""}]}', "invalid_field", "content"),
    (b'{"content": [{"type": "text", "text": "x"}, null]}', "invalid_field", "content"),
]
FIELDS: list[tuple[str, Any]] = [
    ("stream", "yes"),
    ("stream", 1),
    ("model", 5),
    ("model", "m" * 129),
    ("system", ["x"]),
    ("temperature", "warm"),
    ("temperature", True),
    ("temperature", 2.1),
    ("temperature", -1),
    ("max_tokens", 0),
    ("max_tokens", 1.5),
    ("max_tokens", 2**40),
    ("max_tokens", "7"),
    ("parent_id", 7),
    ("when_busy", "wait"),
    ("when_busy", []),
    ("metadata", "x"),
    ("metadata", []),
]


@pytest.mark.parametrize("body, code, param", BODIES)
def test_a_bad_body_is_named_and_stores_nothing(
    client: Client,
    redis_server: RedisServer,
    chat_id: str,
    body: bytes,
    code: str,
    param: str | None,
) -> None:
    assert_error(client.post(f"/{chat_id}/chat", body), 400, code, param)
    assert traces_of(redis_server, chat_id) == []


@pytest.mark.parametrize("name, value", FIELDS)
def test_a_field_of_the_wrong_kind_is_named_and_stores_nothing(
    client: Client, redis_server: RedisServer, chat_id: str, name: str, value: Any
) -> None:
    assert_error(client.say(chat_id, "x", **{name: value}), 400, "invalid_field", name)
    assert_error(
        client.say(chat_id, "x", **{"stream": True, name: value}), 400, "invalid_field", name
    )
    assert traces_of(redis_server, chat_id) == []


@pytest.mark.parametrize(
    "name, value",
    [("title", 1), ("model", []), ("system", {}), ("metadata", "x"), ("title", "t" * 513)],
)
def test_a_bad_patch_changes_nothing(client: Client, chat_id: str, name: str, value: Any) -> None:
    client.say(chat_id, "x")
    before = client.get(f"/{chat_id}").json
    assert_error(
        client.request("PATCH", f"/{chat_id}", {"title": "new", name: value}),
        400,
        "invalid_field",
        name,
    )
    assert client.get(f"/{chat_id}").json == before


def test_unknown_fields_and_a_wrong_content_type_are_forgiven(client: Client, chat_id: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        body = b'{"content": "x", "unknown": {"deep": [1]}, "content_type": 5}'
        assert client.post(f"/{chat_id}/chat", body, Content_Type=kind).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "\u2028\u2029",
        "😀" * 1000,
        "</script>",
        "{owner}",
        "' -- \r\n\r\n",
        "\ufeff",
        "x" * 200_000,
    ],
)
def test_any_text_is_kept_to_the_character(client: Client, chat_id: str, text: str) -> None:
    for stream in (False, True):
        assert client.say(chat_id, text, stream=stream).status == 200
    assert [m["content"] for m in client.get(f"/{chat_id}/chat").json[::2]] == [text, text]


def test_a_message_over_the_prompts_limit_is_refused_and_frees_the_chat(
    start_function: Any, chat_id: str
) -> None:
    client = start_function(MAX_PROMPT_TOKENS="50").client
    assert_error(client.say(chat_id, "x" * 400), 413, "prompt_too_long", "content")
    assert client.get(f"/{chat_id}").status == 404
    assert client.say(chat_id, "short", when_busy="reject").status == 200


def test_a_body_over_the_limit_is_refused_and_not_read(start_function: Any, chat_id: str) -> None:
    function = start_function(MAX_PROMPT_TOKENS="300000")
    client = function.client
    limit = 1024 * 1024
    fits = json.dumps({"content": "x" * (limit - 15)}).encode()
    assert len(fits) == limit
    assert client.post(f"/{chat_id}/chat", fits).status == 200
    assert client.get(f"/{chat_id}/chat").status == 200
    assert_error(client.post(f"/{chat_id}/chat", fits + b" "), 413, "body_too_large")
    for method in ("POST", "GET"):  # a gigabyte is announced; the answer comes before it is sent
        answer = _raw(
            function.port,
            f"{method} /x/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n".encode(),
        )
        assert b" 413 " in answer and b'"code":"body_too_large"' in answer
    head = b"POST /x/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in _raw(function.port, head + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 17)


def test_a_body_that_is_cut_short_stores_nothing(
    client: Client, function: Function, chat_id: str
) -> None:
    head = (
        f"POST /{chat_id}/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n".encode()
    )
    answer = _raw(function.port, head + b'{"content": "x"}', half_close=True)
    assert b" 400 " in answer and b"shorter than its Content-Length" in answer
    assert client.get(f"/{chat_id}/chat").json == []


def _raw(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
                if b'"}}' in answer:
                    break
        except ConnectionResetError:
            pass
        return answer
