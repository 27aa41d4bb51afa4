"""/openapi.json tells of the API that there is."""

from typing import Any

import pytest

from chat.web.openapi import path_of
from dev.model import ModelServer
from tests.harness import ADMIN_KEY, Client, Function, all_routes

ROUTES = all_routes()
REQUIRED = {
    **dict.fromkeys(("content", "prompt", "message", "input"), "x"),
    "messages": [{"role": "user", "content": "x"}],
}
FIELDS = [(route, name) for route in ROUTES for name in route.body if name != "admin_key"]


def test_every_route_is_described(client: Client) -> None:
    document = client.get("/openapi.json").json
    described = {(m, path) for path, methods in document["paths"].items() for m in methods}
    assert described == {(r.method.lower(), path_of(r)) for r in ROUTES} | {
        ("get", "/openapi.json")
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"].endswith(".") and "default" in operation["responses"]
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
            assert all(f"{{{name}}}" in path for name in names) and path.count("{") == len(names)


@pytest.fixture(scope="session")
def own_function(start_function: Any) -> Function:
    function: Function = start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY)
    function.client.headers["Authorization"] = ADMIN_KEY
    return function


@pytest.fixture
def admin(own_function: Function, model: ModelServer) -> Client:
    return own_function.client


def test_every_status_it_names_is_given(admin: Client, chat_id: str) -> None:
    client = admin
    client.say(chat_id, "x")
    client.post("/admin/users/add", {"user_id": "somebody"})
    asked = {"POST /{chat_id}/chat/stop", "POST /admin/users/delete"}  # 204: nothing runs; last
    asked |= {"GET /client/register"}  # a WebSocket
    for route in ROUTES:
        if route.method != "DELETE" and f"{route.method} {path_of(route)}" not in asked:
            path = route.path.replace("not_reserved:", "").replace("<chat_id>", chat_id)
            path = path.replace("<path:user_id>", "somebody").replace("<path:model>", "m")
            path = path.replace("<conversation_id>", "none")
            if "<turn_id>" in path:
                path = path.replace("<turn_id>", client.get(f"/{chat_id}/chat").json[1]["turn_id"])
            required = {k: v for k, v in REQUIRED.items() if k in route.body}
            body = required | ({"user_id": "somebody"} if "user_id" in route.body else {})
            assert client.request(route.method, path, body).status == route.status, path


@pytest.mark.parametrize("route, name", FIELDS, ids=[f"{r.path}-{n}" for r, n in FIELDS])
def test_every_field_it_names_is_checked(
    admin: Client, chat_id: str, route: Any, name: str
) -> None:
    """A field that is described but not read would let this through."""
    client = admin
    path = route.path.replace("not_reserved:", "").replace("<chat_id>", chat_id)
    path = path.replace("<path:user_id>", "somebody")
    client.say(chat_id, "x")
    body = {field: value for field, value in REQUIRED.items() if field in route.body}
    reply = client.request(route.method, path, body | {name: [["neither"]]})
    assert reply.status == 400, reply.body
    told = reply.json["error"]
    assert name in (told if isinstance(told, str) else told["param"])
