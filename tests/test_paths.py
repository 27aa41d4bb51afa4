"""Which route a path leads to, by example."""

import pytest

from chat.web.paths import Paths

ROUTES = """
GET  /chats
GET  /<not_reserved:chat_id>
POST /<chat_id>/chat
GET  /<chat_id>/chat
GET  /<chat_id>/turns/<turn_id>/stream
POST /conversations/<chat_id>
POST /users/add
PATCH /users/<path:user_id>
"""


@pytest.fixture(scope="module")
def paths() -> Paths[str]:
    paths: Paths[str] = Paths(frozenset({"chats", "users", "conversations"}))
    for line in ROUTES.strip().splitlines():
        method, path = line.split()
        paths.add(method, path, line)
    return paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/chats", [("/chats", {})]),
        ("/chats/", [("/chats", {})]),
        ("/chats//", []),
        ("//chats", []),
        ("/", []),
        ("", []),
        ("/a", [("/<not_reserved:chat_id>", {"chat_id": "a"})]),
        ("/users", []),
        ("/chats/chat", [("/<chat_id>/chat", {"chat_id": "chats"})]),
        ("/a/chat", [("/<chat_id>/chat", {"chat_id": "a"})]),
        ("//chat", []),
        ("/a/chat/b", []),
        (
            "/a/turns/b/stream",
            [("/<chat_id>/turns/<turn_id>/stream", {"chat_id": "a", "turn_id": "b"})],
        ),
        ("/a/turns//stream", []),
        (
            "/conversations/chat",
            [
                ("/conversations/<chat_id>", {"chat_id": "chat"}),
                ("/<chat_id>/chat", {"chat_id": "conversations"}),
            ],
        ),
        ("/users/add", [("/users/add", {}), ("/users/<path:user_id>", {"user_id": "add"})]),
        ("/users/a/b:c", [("/users/<path:user_id>", {"user_id": "a/b:c"})]),
        ("/users//a", []),
        ("/<chat_id>", [("/<not_reserved:chat_id>", {"chat_id": "<chat_id>"})]),
    ],
)
def test_words_win_over_variables(
    paths: Paths[str], path: str, found: list[tuple[str, dict[str, str]]]
) -> None:
    got = [
        (next(iter(methods.values())).split()[1], values) for methods, values in paths.find(path)
    ]
    assert got == found


def test_methods_of_one_path_are_found_together(paths: Paths[str]) -> None:
    assert [sorted(methods) for methods, _ in paths.find("/a/chat")] == [["GET", "POST"]]
