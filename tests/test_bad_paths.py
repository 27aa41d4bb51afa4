"""Bad paths, methods, chat ids, limits, cursors and parents: the documented answer."""

import pytest

from tests.harness import Client
from tests.test_bad_input import assert_error


@pytest.mark.parametrize(
    "chat_id",
    [
        "a%20b",
        "a%0Ab",
        "a%00b",
        "%C3%A9",
        "a:b",
        "a{b}",
        "x" * 129,
        "health",
        "v1",
        "chats",
        "docs",
        "a%2Fb",
    ],
)
def test_a_bad_chat_id_is_refused(client: Client, chat_id: str) -> None:
    reply = client.post(f"/{chat_id}/chat", {"content": "x"})
    if chat_id == "a%2Fb":
        assert_error(reply, 404, "not_found")
    else:
        assert_error(reply, 400, "invalid_chat_id", "chat_id")


@pytest.mark.parametrize("chat_id", ["a", "A.b_c~d-9", "x" * 128, "...", "Health", "chats2", "%61"])
def test_a_good_chat_id_is_accepted(client: Client, chat_id: str) -> None:
    assert client.get(f"/{chat_id}/chat").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/a%0Ab/c/d",
        "/x/y/z",
        "/demo//chat",
        "/x/chat/y",
        "/robots.txt/a/b",
        "/..%2f..%2fetc/passwd",
        "/%ff/%fe/x",
        "/x/chats",
    ],
)
def test_an_unknown_path_is_json_too(client: Client, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "PUT"):
        assert_error(client.request(method, path), 404, "not_found")


@pytest.mark.parametrize("path", ["/a%0Ab", "/%ff"])
def test_a_path_the_framework_would_answer_is_ours(client: Client, path: str) -> None:
    assert_error(client.get(path), 400, "invalid_chat_id", "chat_id")


def test_files_that_browsers_and_crawlers_look_for_are_no_chats(client: Client) -> None:
    for name in ("favicon.ico", "llms.txt", "llms-full.txt", "metrics"):
        assert_error(client.get(f"/{name}"), 404, "not_found")
        assert_error(client.say(name, "x"), 400, "invalid_chat_id", "chat_id")
    assert_error(client.get("/robots.txt"), 404, "chat_not_found")


def test_a_wrong_method_is_json_too(client: Client) -> None:
    for method, path in [
        ("PUT", "/x/chat"),
        ("POST", "/chats"),
        ("BREW", "/health"),
        ("POST", "/x"),
        ("DELETE", "/chats"),
    ]:
        assert_error(client.request(method, path), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "query, param",
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=99999999999999999999", "limit"),
    ],
)
def test_a_bad_limit_is_named(client: Client, query: str, param: str) -> None:
    assert_error(client.get(f"/x/chat?{query}"), 400, "invalid_field", param)


def test_a_bad_cursor_is_named(client: Client, chat_id: str) -> None:
    client.say(chat_id, "x")
    other = client.say(f"{chat_id}-other", "x").json["id"]
    for before in ("x", "msg_zz", "msg_0" + "0" * 24, other, "msg_" + "f" * 32, "turn_0"):
        assert_error(
            client.get(f"/{chat_id}/chat?before={before}"), 400, "invalid_cursor", "before"
        )
    for cursor in ("x", "!!", "AAAA", "OjE", "MTIz", "%C3%A9", "MTox" * 200):
        reply = client.get(f"/chats?cursor={cursor}")
        assert reply.status in (200, 400), cursor
        if reply.status == 400:
            assert_error(reply, 400, "invalid_cursor", "cursor")
    assert_error(client.get("/chats?limit=101"), 400, "invalid_field", "limit")


def test_a_parent_that_is_not_there_is_not_found_and_frees_the_chat(
    client: Client, chat_id: str
) -> None:
    newest = client.say(chat_id, "x").json["id"]
    assert_error(
        client.say(chat_id, "y", parent_id="msg_0" + "0" * 24),
        404,
        "message_not_found",
        "parent_id",
    )
    assert client.get(f"/{chat_id}").json["active_turn"] is None
    assert client.say(chat_id, "y", parent_id=newest, when_busy="reject").status == 200
