"""/openapi.json tells of the API that there is."""

from typing import Any

import pytest

from chat.web.native import NativeRoutes
from chat.web.openapi import path_of
from chat.web.other_apis import OtherRoutes
from tests.harness import Client

_nothing: Any = None
ROUTES = [
    *NativeRoutes(_nothing, _nothing, _nothing).routes(),
    *OtherRoutes(_nothing, _nothing, _nothing).routes(),
]
FIELDS = [(route, name) for route in ROUTES for name in route.body]


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


def test_every_status_it_names_is_given(client: Client, chat_id: str) -> None:
    client.say(chat_id, "x")
    asked = {"POST /{chat_id}/chat/stop"}  # 204 when nothing runs
    for route in ROUTES:
        if route.method != "DELETE" and f"{route.method} {path_of(route)}" not in asked:
            path = route.path.replace("not_reserved:", "").replace("<chat_id>", chat_id)
            if "<turn_id>" in path:
                path = path.replace("<turn_id>", client.get(f"/{chat_id}/chat").json[1]["turn_id"])
            body = {"content": "x", "prompt": "x", "message": "x"} if route.body else None
            assert client.request(route.method, path, body).status == route.status, path


@pytest.mark.parametrize("route, name", FIELDS, ids=[f"{r.path}-{n}" for r, n in FIELDS])
def test_every_field_it_names_is_checked(
    client: Client, chat_id: str, route: Any, name: str
) -> None:
    """A field that is described but not read would let this through."""
    path = route.path.replace("not_reserved:", "").replace("<chat_id>", chat_id)
    client.say(chat_id, "x")
    body = {field: "x" for field in ("content", "prompt", "message") if field in route.body}
    reply = client.request(route.method, path, body | {name: [["neither"]]})
    assert reply.status == 400, reply.body
    told = reply.json["error"]
    assert name in (told if isinstance(told, str) else told["param"])
