"""What every answer has in common: methods, HEAD, request ids, CORS; and /health."""

import pytest

from tests.harness import Client, StartFunction


def test_health_is_told(client: Client) -> None:
    assert client.get("/health").json == {"status": "ok", "redis": "ok", "version": "0.1.0"}


@pytest.mark.parametrize(
    "path, allow",
    [
        ("/x/chat", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/chats", "GET, HEAD, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_names_the_methods_and_others_are_refused_with_them(
    client: Client, path: str, allow: str
) -> None:
    options = client.request("OPTIONS", path)
    assert (options.status, options.headers["Allow"]) == (204, allow)
    refused = client.request("PUT", path, {})
    assert (refused.status, refused.headers["Allow"]) == (405, allow)


def test_head_is_get_without_a_body(client: Client, chat_id: str) -> None:
    client.say(chat_id, "a")
    for path in (f"/{chat_id}/chat", f"/{chat_id}", "/chats", "/health"):
        head, get = client.request("HEAD", path), client.get(path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers.get("ETag") == get.headers.get("ETag")
    assert client.request("HEAD", "/no-such-chat").status == 404


def test_a_sane_request_id_is_kept_and_another_is_made(client: Client) -> None:
    assert client.get("/health", X_Request_Id="abc-1").headers["X-Request-Id"] == "abc-1"
    assert client.get("/health", X_Request_Id="a" * 200).headers["X-Request-Id"] != "a" * 200
    ids = {client.get("/health").headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3


def test_cors_is_for_the_origins_that_are_allowed(
    client: Client, start_function: StartFunction
) -> None:
    preflight = client.request(
        "OPTIONS",
        "/x/chat",
        Origin="https://app.example",
        Access_Control_Request_Headers="idempotency-key",
    )
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Access-Control-Allow-Headers"] == "idempotency-key"
    real = client.get("/health", Origin="https://app.example")
    assert (
        "ETag" in real.headers["Access-Control-Expose-Headers"] and "Origin" in real.headers["Vary"]
    )
    assert (
        "Access-Control-Allow-Origin"
        not in client.get("/health", Origin="https://evil.example").headers
    )
    assert (
        "Access-Control-Allow-Origin"
        in client.get("/nothing/here/x", Origin="https://app.example").headers
    )
    anybody = start_function(CORS_ORIGINS="*").client
    assert (
        anybody.get("/health", Origin="https://any.example").headers["Access-Control-Allow-Origin"]
        == "*"
    )
    nobody = start_function().client
    assert (
        "Access-Control-Allow-Origin"
        not in nobody.get("/health", Origin="https://any.example").headers
    )
