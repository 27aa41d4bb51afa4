"""Garbage of every kind, on every route: always an answer, and only such as the contract names.

`make fuzz` sends many more (FUZZ_REQUESTS).
"""

import json
import os
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.model import Answer, ModelServer
from tests.harness import ADMIN_KEY, Client, all_routes, new_user

LONG_FORM = "FUZZ_REQUESTS" in os.environ
SHARES = 8 if LONG_FORM else 1  # for as many processes
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1000")) // SHARES
STATUSES = {200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 412, 413, 429, 502, 503, 504}
TYPES = {"application/json", "text/event-stream", "application/x-ndjson"}
TYPES |= {"text/plain; charset=utf-8", "text/csv; charset=utf-8"}
MAX_SECONDS = 10.0

ROUTES = all_routes()
FIELDS = sorted({name for route in ROUTES for name in route.body})
SAID = {"content", "prompt", "message"}
OPTIONAL = [name for name in FIELDS if name not in SAID]
CHATS = st.sampled_from(["a", "b", "c", "d-e_f.~"])
IDS = st.sampled_from(["root", "msg_0" + "0" * 24, "msg_1" + "a" * 24, "turn_0" + "0" * 24, "x"])
TEXTS = st.one_of(
    st.sampled_from(["", "x", "hello", "true", "false", "0", "-1", "9" * 40, "\x00", "é😀", "{}"]),
    st.text(max_size=40),
    CHATS,
    IDS,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"]), "text": TEXTS}),
    max_size=2,
)
GOOD_VALUES = {
    "content": TEXTS | PARTS,
    "stream": st.booleans(),
    "when_busy": st.sampled_from(["enqueue", "reject", "interrupt", "rollback"]),
    "parent_id": IDS,
    "conversation_id": CHATS,
    "rate_limit": st.sampled_from(["1000/minute", "none", "5/second,1000/hour"]),
}
BODIES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"content": TEXTS, "prompt": TEXTS, "message": TEXTS},
        optional={name: GOOD_VALUES.get(name, VALUES) | VALUES for name in OPTIONAL},
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"content": GOOD_VALUES["content"], "prompt": TEXTS, "message": TEXTS},
        optional={name: GOOD_VALUES[name] for name in GOOD_VALUES if name in OPTIONAL},
    ).map(lambda value: json.dumps(value).encode()),
)
# What HTTP lets through: no line ends, no control characters.
WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc"]), max_size=20
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["text/event-stream", "text/csv", "*/*"]) | WORDS,
        "Idempotency-Key": st.sampled_from(["k1", "k2"]) | WORDS,
        "If-Match": st.sampled_from(['"0"', '"2"', "*", 'W/"4"']) | WORDS,
        "If-None-Match": st.sampled_from(['"0"', '"2"', "*"]) | WORDS,
        "Last-Event-ID": st.sampled_from(["0", "1", "9007199254740991"]) | WORDS,
        "X-Request-Id": WORDS,
        "X-Stainless-Retry-Count": st.sampled_from(["0", "1"]) | WORDS,
        "Origin": WORDS,
        "traceparent": WORDS,
        "Content-Type": WORDS,
    },
)
NAMES = [*sorted({name for route in ROUTES for name in route.query}), "x"]
QUERIES = st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=3)
PATHS = st.one_of(
    st.sampled_from(ROUTES).map(lambda route: route.path),
    st.text(max_size=20).map(lambda text: "/" + text),
)
METHODS = st.sampled_from("GET POST PATCH DELETE PUT HEAD OPTIONS".split())


@st.composite
def requests(draw: Any) -> tuple[str, str, bytes | None, dict[str, str], int]:
    """Method, path, body, headers, and whose credentials (an index) one request is made of."""
    if draw(st.integers(0, 3)):  # mostly a method that the path has
        route = draw(st.sampled_from(ROUTES))
        method, path = route.method, route.path
    else:
        method, path = draw(METHODS), draw(PATHS)
    for name in ("<not_reserved:chat_id>", "<chat_id>", "<turn_id>", "<path:user_id>"):
        while name in path:
            path = path.replace(name, quote(draw(CHATS | TEXTS), safe=""), 1)
    path = quote(path, safe="/%~") + ("?" + urlencode(draw(QUERIES)) if draw(st.booleans()) else "")
    body = draw(BODIES) if method in ("POST", "PATCH") or draw(st.integers(0, 9)) == 0 else None
    return method, path, body, draw(HEADERS), draw(st.sampled_from([0, 0, 0, 1, 2, 3]))


@pytest.fixture(scope="module")
def base(start_function: Any, model_server: ModelServer) -> Any:
    model_server.reset()
    demo = model_server.answer
    model_server.answer = lambda body: Answer(pieces=["ok ", "so"])
    yield start_function(
        AUTH="open,keys",
        ADMIN_KEY=ADMIN_KEY,
        QUEUE_SECONDS="0.2",
        MAX_BODY_BYTES="2000",
        DAILY_TOKEN_BUDGET=str(10**12),
        CORS_ORIGINS="*",
    ).client.base
    model_server.answer = demo


@pytest.fixture(scope="module")
def clients(base: str) -> list[Client]:
    _, user = new_user(base)
    return [
        Client(base),
        user,
        Client(base, {"Authorization": ADMIN_KEY}),
        Client(base, {"Authorization": "ck_x"}),
    ]


@pytest.mark.parametrize("share", range(SHARES))
@settings(
    max_examples=REQUESTS,
    deadline=None,
    derandomize=not LONG_FORM,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(request_=requests())
def test_whatever_is_sent_is_answered_as_the_contract_says(
    clients: list[Client], share: int, request_: tuple[str, str, bytes | None, dict[str, str], int]
) -> None:
    method, path, body, headers, who = request_
    began = time.monotonic()
    sent = {name: value.encode("latin-1").decode("latin-1") for name, value in headers.items()}
    reply = clients[who].request(method, path, body, timeout=2 * MAX_SECONDS, **sent)
    assert time.monotonic() - began < MAX_SECONDS
    assert reply.status in STATUSES, reply.body
    kind = reply.headers.get("Content-Type")
    assert kind in TYPES or reply.status in (204, 304), kind
    assert reply.headers["X-Request-Id"]
    assert b"<html" not in reply.body.lower() and b"Traceback" not in reply.body
    if kind == "application/json" and method != "HEAD":
        assert reply.status < 400 or "error" in reply.json
