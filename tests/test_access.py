"""Who gets in: every route with every kind of credential, on every instance."""

import json
import re
import time
from typing import Any

import pytest

from chat.core.credentials import make_key
from chat.web.routes import Route
from dev.model import ModelServer
from tests.call_route import call
from tests.harness import ADMIN_KEY, UPSTREAM_KEY, Client, Function, all_routes, as_admin, new_user

#: What a stranger's chat answers, which is what a chat that never existed answers.
OTHERS_CHAT = {
    "GET /<not_reserved:chat_id>": 404,
    "PATCH /<not_reserved:chat_id>": 404,
    "DELETE /<not_reserved:chat_id>": 204,
    "POST /<chat_id>/chat": 200,
    "GET /<chat_id>/chat": 200,
    "GET /<chat_id>/chat/stream": 204,
    "GET /<chat_id>/turns/<turn_id>/stream": 404,
    "POST /<chat_id>/chat/stop": 204,
    "POST /<chat_id>/chat/preview": 200,
    "DELETE /<chat_id>/chat": 204,
    "POST /conversations/<chat_id>/ask": 404,
    "GET /conversations/<chat_id>/messages": 404,
    "DELETE /conversations/<chat_id>": 204,
    "DELETE /conversation/<chat_id>": 204,
    "POST /conversation/completion/<chat_id>": 404,
    "POST /ask": 404,
    "POST /api/ask": 404,
}
NO_CHAT = {
    "GET /chats",
    "GET /me",
    "GET /me/export",
    "DELETE /me",
    "GET /conversations",
    "POST /conversations/new",
    "DELETE /conversations/all",
    "POST /conversation",
    "GET /conversation",
}
ADMIN = {
    "POST /admin/users/add",
    "POST /admin/users/delete",
    "POST /admin/users/rotate",
    "GET /admin/users",
    "PATCH /admin/users/<path:user_id>",
    "DELETE /admin/users/<path:user_id>",
    "GET /admin/usage",
    "GET /api/connections",
}
ANYONE = {"GET /health", "GET /livez"}
OF_AGENTS = {"GET /client/register"}  # see test_agents.py
V1_GIVEN = {  # with a chat in front of the path, or without
    *(f"POST /v1/{name}" for name in ("chat/completions", "responses", "conversations")),
    *("GET /v1/models", "GET /v1/models/<path:model>"),
    "DELETE /v1/conversations/<conversation_id>",
}
ROUTES = {f"{route.method} {route.path}": route for route in all_routes()}
for _name in ROUTES:
    _method, _, _path = _name.partition(" ")
    _own = f"{_method} {_path.removeprefix('/<chat_id>')}"
    if _path.startswith("/<chat_id>/v1/") or "_id>" in _own.partition("/v1/")[2]:
        OTHERS_CHAT[_name] = 200 if _own in V1_GIVEN else 404
    elif _path.startswith("/v1/"):
        NO_CHAT.add(_name)
OF_USERS = sorted(OTHERS_CHAT.keys() | NO_CHAT)


def test_every_route_has_a_row_here() -> None:
    assert set(ROUTES) == OTHERS_CHAT.keys() | NO_CHAT | ADMIN | ANYONE | OF_AGENTS


@pytest.fixture(scope="session")
def instances(start_function: Any) -> tuple[Function, Function]:
    settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY, "ROTATE_SECONDS": "1"}
    return start_function(**settings), start_function(**settings)


@pytest.fixture
def a(instances: tuple[Function, Function], model: ModelServer) -> str:
    return instances[0].client.base


@pytest.fixture
def b(instances: tuple[Function, Function], model: ModelServer) -> str:
    return instances[1].client.base


def assert_rejected(reply: Any, route: Route, code: str) -> None:
    assert reply.status == 401, (route, reply.body)
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    error = reply.json["error"]
    if isinstance(error, str):
        assert route.path.startswith(("/admin", "/api/"))
    else:
        assert (error["code"], error["param"]) == (code, "Authorization")


@pytest.mark.parametrize("name", OF_USERS)
@pytest.mark.parametrize("body", [None, b"{", b'{"content": 5}'])
def test_without_a_key_nothing_is_told(a: str, chat_id: str, name: str, body: Any) -> None:
    assert_rejected(call(Client(a), ROUTES[name], chat_id, body=body), ROUTES[name], "key_missing")


@pytest.mark.parametrize("name", OF_USERS)
def test_a_wrong_key_opens_nothing(a: str, chat_id: str, name: str) -> None:
    user_id, _ = new_user(a)
    wrong = [make_key(user_id).text, make_key("nobody").text, ADMIN_KEY, UPSTREAM_KEY, "ck_", "é"]
    for key in wrong:
        for body in (None, b"{"):
            client = Client(a, {"Authorization": key.encode().decode("latin-1")})
            assert_rejected(
                call(client, ROUTES[name], chat_id, body=body), ROUTES[name], "key_rejected"
            )


@pytest.mark.parametrize("name", OF_USERS)
@pytest.mark.parametrize("body", [None, b"{"])
def test_the_key_of_a_deleted_user_opens_nothing(
    a: str, b: str, chat_id: str, name: str, body: Any
) -> None:
    user_id, user = new_user(a)
    on_b = Client(b, user.headers)
    assert user.say(chat_id, "x").status == on_b.say(chat_id, "y").status == 200
    done = as_admin(a).post("/admin/users/delete", {"user_id": user_id})
    assert (done.status, done.json) == (200, {"message": "User deleted"})
    for client in (on_b, user):
        assert_rejected(
            call(client, ROUTES[name], chat_id, body=body), ROUTES[name], "key_rejected"
        )


@pytest.mark.parametrize("name", sorted(OTHERS_CHAT))
def test_another_users_chat_is_one_that_never_was(a: str, chat_id: str, name: str) -> None:
    route = ROUTES[name]
    (_, owner), (_, other) = new_user(a), new_user(a)
    turn = owner.say(chat_id, "secret of mine").json["turn_id"]
    never = call(other, route, f"{chat_id}-never", turn)
    reply = call(other, route, chat_id, turn)
    assert reply.status == never.status == OTHERS_CHAT[name], reply.body
    assert b"secret" not in reply.body
    assert _shape(reply.body, chat_id) == _shape(never.body, f"{chat_id}-never")
    seen = owner.get(f"/{chat_id}/chat").json
    assert seen[0]["content"] == "secret of mine" and len(seen) == 2
    assert owner.get(f"/{chat_id}").json["title"] == "secret of mine"


def _shape(body: bytes, chat: str) -> str:
    text = body.decode().replace(chat, "<chat>")
    text = re.sub(r'"(created|created_at|completed_at)":\d+', "<it>", text)
    return re.sub(r"(turn|msg|conv|resp|chatcmpl)[_-]\w+|\d{4}-[\d:.TZ-]+", "<it>", text)


@pytest.mark.parametrize("name", sorted(NO_CHAT))
def test_what_names_no_chat_shows_and_takes_only_ones_own(a: str, chat_id: str, name: str) -> None:
    (_, owner), (_, other) = new_user(a), new_user(a)
    owner.say(chat_id, "secret of mine")
    reply = call(other, ROUTES[name], chat_id)
    assert reply.status == ROUTES[name].status and b"secret" not in reply.body
    assert chat_id.encode() not in reply.body
    assert len(owner.get(f"/{chat_id}/chat").json) == 2


@pytest.mark.parametrize("name", sorted(ADMIN))
def test_admin_routes_open_to_the_admin_key_alone(start_briefly: Any, name: str) -> None:
    # A function of its own: one that has heard many wrong keys answers 429.
    a = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY).client.base
    user_id, user = new_user(a)
    for client in (
        Client(a),
        Client(a, {"Authorization": "admin"}),
        Client(a, {"Authorization": make_key(user_id).text}),
    ):
        for body in (None, b"{", {"admin_key": "wrong"}, {"admin_key": 5}, {"admin_key": ""}):
            reply = call(client, ROUTES[name], "-", body=body)
            assert (reply.status, reply.json) == (401, {"error": "Invalid admin key"}), reply.body
    refused = call(user, ROUTES[name], "-")
    assert refused.status == 403 and list(refused.json) == ["error"]
    assert user.get("/me").status == 200, "nothing was done"


def test_the_admin_key_may_stand_in_header_query_or_body(a: str) -> None:
    body = {"admin_key": ADMIN_KEY}
    assert Client(a).post("/admin/users/add", body).status == 200
    assert Client(a).get(f"/admin/users?admin_key={ADMIN_KEY}").status == 200
    assert Client(a).get("/admin/users", Authorization=f"bearer {ADMIN_KEY}").status == 200


def test_without_an_admin_key_set_nothing_opens_the_admin_routes(client: Client) -> None:
    wrong: list[dict[str, str]] = [{}, {"Authorization": ""}, {"Authorization": "x"}]
    for headers in wrong:
        assert client.get("/admin/users?admin_key=", **headers).status == 401
        assert client.post("/admin/users/add", {"admin_key": ""}, **headers).status == 401


def test_a_credential_may_come_without_bearer(a: str, chat_id: str) -> None:
    _, user = new_user(a)
    key = user.headers["Authorization"].removeprefix("Bearer ")
    for text in (key, f"Bearer {key}", f"bearer   {key}"):
        assert Client(a, {"Authorization": text}).get("/me").status == 200


def test_a_user_may_have_several_keys_and_is_listed_with_a_masked_one(a: str) -> None:
    user_id, user = new_user(a)
    again = as_admin(a).post("/admin/users/add", {"user_id": user_id}).json["token"]
    second = Client(a, {"Authorization": again})
    assert user.get("/me").json == second.get("/me").json
    users = as_admin(a).get("/admin/users").json["users"]
    shown = next(u for u in users if u["user_id"] == user_id)
    assert set(shown) == {"user_id", "token"} and "…" in shown["token"]
    assert again not in json.dumps(users)


def test_an_id_is_made_when_none_is_given(a: str) -> None:
    made = as_admin(a).post("/admin/users/add", None).json
    assert re.fullmatch(r"[0-9a-f-]{36}", made["user_id"])
    assert len(make_key("x").text.rpartition("_")[2]) * 4 >= 128


@pytest.mark.parametrize("user_id", ["", "a b", "a" * 65, "anonymous", "{x}", "a/b", 5, "é"])
def test_an_id_that_cannot_be_one_is_refused(a: str, user_id: Any) -> None:
    reply = as_admin(a).post("/admin/users/add", {"user_id": user_id})
    if user_id == "":
        assert reply.status == 200  # as if it were not there
    else:
        assert reply.status == 400 and "user_id" in reply.json["error"]


def test_unknown_users_are_not_found(a: str) -> None:
    admin = as_admin(a)
    for path in ("delete", "rotate"):
        assert admin.post(f"/admin/users/{path}", {"user_id": "nobody"}).status == 404
        assert admin.post(f"/admin/users/{path}", {}).status == 400
    assert admin.request("PATCH", "/admin/users/nobody", {"rate_limit": None}).status == 404
    assert admin.request("DELETE", "/admin/users/nobody").status == 404
    assert admin.request("DELETE", "/admin/users/nobody?erase=perhaps").status == 400


def test_a_rotated_key_lives_on_for_a_while(a: str, b: str, chat_id: str) -> None:
    user_id, old = new_user(a)
    old.say(chat_id, "x")
    new = as_admin(b).post("/admin/users/rotate", {"user_id": user_id}).json["token"]
    assert old.say(chat_id, "y").status == 200
    time.sleep(1.1)
    assert_rejected(old.say(chat_id, "z"), ROUTES["POST /<chat_id>/chat"], "key_rejected")
    assert_rejected(old.get("/me"), ROUTES["GET /me"], "key_rejected")
    assert len(Client(b, {"Authorization": new}).get(f"/{chat_id}/chat").json) == 4


def test_keys_and_anybody_may_be_let_in_side_by_side(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    base = start_function(AUTH="open,keys", ADMIN_KEY=ADMIN_KEY).client.base
    user_id, user = new_user(base)
    user.say(chat_id, "mine")
    Client(base).say(chat_id, "anybody's")
    assert user.get(f"/{chat_id}/chat").json[0]["content"] == "mine"
    assert Client(base).get(f"/{chat_id}/chat").json[0]["content"] == "anybody's"
    assert Client(base, {"Authorization": make_key(user_id).text}).get("/me").status == 401
    rows = as_admin(base).get("/admin/usage").json["usage"]
    seen = [(row["owner"], row["model"]) for row in rows]
    assert seen.count(("anonymous", "gpt-5.4-mini")) == 1


def test_models_that_are_not_allowed_are_refused(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(ALLOWED_MODELS="small,large", MAX_OUTPUT_TOKENS="50").client
    assert client.say(chat_id, "x", model="large").status == 200
    assert client.say(chat_id, "x").status == 200, "the default one always is"
    for refused in (
        client.say(chat_id, "x", model="huge"),
        client.request("PATCH", f"/{chat_id}", {"model": "huge"}),
        client.post(f"/{chat_id}/chat/preview", {"content": "x", "model": "huge"}),
    ):
        assert (refused.status, refused.code) == (403, "not_allowed")
        assert refused.json["error"]["param"] == "model"
    assert client.request("PATCH", f"/{chat_id}", {"model": "small"}).status == 200
    client.say(chat_id, "x", max_tokens=20)
    client.say(chat_id, "x", max_tokens=70)
    assert [asked.body["max_tokens"] for asked in model.requests] == [50, 50, 20, 50]
    assert len(client.get(f"/{chat_id}/chat").json) == 8


def test_fields_that_are_not_ours_are_not_passed_on(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "x", n=9, logit_bias={}, user="x", store=True)
    assert set(model.requests[0].body) == {"model", "messages"}
