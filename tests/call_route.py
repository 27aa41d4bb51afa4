"""A request to any route, with what it must have."""

from typing import Any

from chat.web.routes import Route
from tests.harness import Client


def call(client: Client, route: Route, chat: str, turn: str = "turn_1", body: Any = None) -> Any:
    path = route.path.replace("not_reserved:", "").replace("path:", "")
    path = path.replace("<chat_id>", chat).replace("<turn_id>", turn).replace("<user_id>", "u")
    path = path.replace("<conversation_id>", chat).replace("<model>", "m")
    path = path.replace("<response_id>", f"resp_1{'a' * 24}_{chat}")
    said: dict[str, Any] = {"content": "x", "prompt": "x", "message": "x", "title": "x"}
    if "conversation_id" in route.body:
        said["conversation_id"] = chat
    if "/v1/" in path:
        user = [{"role": "user", "content": "x"}]
        required = {"messages": user, "input": "x", "items": user}
        said = {name: value for name, value in required.items() if name in route.body}
    return client.request(route.method, path, body or (said if route.body else None))
