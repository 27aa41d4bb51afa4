"""At the door: safe by default, wrong settings refused, what is wrong below us told in our own shape."""

import base64
import csv
import io
import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from dev.model import ModelServer
from tests.harness import ADMIN_KEY, ROOT, Client, Function, as_admin, new_user
from tests.promises import exchange, head_of, in_background, start_and_fail
from tests.websocket import Refused, WebSocket

SAY = b'{"content": "x"}'


def parse(reply: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers in lower case, and JSON body of an answer as it came over the wire."""
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def traces_in(function: Function) -> int:
    """How many tracebacks are in its log."""
    return function.log.read_text().count("Traceback")


def say(function: Function, chat_id: str, *headers: str, host: str = "localhost") -> bytes:
    head = head_of("POST", f"/{chat_id}/chat", len(SAY), *headers, host=host)
    return exchange(function.port, head + SAY, seconds=10)


@pytest.fixture(scope="module")
def plain(start_function: Any) -> Function:
    """With no AUTH, no ADMIN_KEY, on no cloud."""
    function: Function = start_function()
    return function


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:8080", "LOCALHOST"])
def test_where_nothing_is_set_this_machine_may_talk(
    plain: Function, model: ModelServer, chat_id: str, host: str
) -> None:
    assert parse(say(plain, chat_id, host=host))[0] == 200


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:8080"])
def test_where_nothing_is_set_a_page_of_this_machine_may_talk(
    plain: Function, model: ModelServer, chat_id: str, origin: str
) -> None:
    assert parse(say(plain, chat_id, f"Origin: {origin}"))[0] == 200


@pytest.mark.parametrize(
    "host, headers",
    [
        ("evil.example", []),
        ("localhost.evil.example", []),
        ("127.0.0.1.nip.io", []),
        ("192.168.1.5", []),
        ("localhost", ["X-Forwarded-For: 203.0.113.7"]),
        ("localhost", ["X-Forwarded-For: 127.0.0.1"]),
        ("localhost", ["X-Forwarded-Host: localhost"]),
        ("localhost", ["X-Real-IP: 203.0.113.7"]),
        ("localhost", ["Forwarded: for=203.0.113.7"]),
        ("localhost", ["Origin: https://evil.example", "Content-Type: text/plain"]),
        ("localhost", ["Origin: null", "Content-Type: text/plain"]),
    ],
)
def test_where_nothing_is_set_nobody_else_may_talk_or_read(
    plain: Function, model: ModelServer, chat_id: str, host: str, headers: list[str]
) -> None:
    status, _, body = parse(say(plain, chat_id, *headers, host=host))
    assert (status, body["error"]["code"]) == (401, "key_missing")
    assert "AUTH" in body["error"]["message"], "it says what to set"
    got = exchange(plain.port, head_of("GET", "/chats", None, *headers, host=host))
    assert parse(got)[0] == 401 and len(model.requests) == 0


def test_an_admin_key_alone_means_that_keys_are_needed(start_briefly: Any, chat_id: str) -> None:
    client = start_briefly(ADMIN_KEY=ADMIN_KEY).client
    refused = client.say(chat_id, "x")
    assert (refused.status, refused.code) == (401, "key_missing")
    assert new_user(client.base)[1].say(chat_id, "x").status == 200


def test_open_means_open(start_briefly: Any, model: ModelServer, chat_id: str) -> None:
    function = start_briefly(AUTH="open")
    assert parse(say(function, chat_id, "X-Forwarded-For: 1.2.3.4", host="a.example"))[0] == 200


def test_an_agent_without_a_key_comes_from_this_machine_itself(start_briefly: Any) -> None:
    base = start_briefly(AUTH="open").client.base
    with pytest.raises(Refused) as refused:
        WebSocket(base, headers={"X-Forwarded-For": "203.0.113.7"}, host="localhost")
    assert refused.value.status in (401, 403)
    WebSocket(base, host="localhost").sock.close()


@pytest.mark.parametrize(
    "name, value",
    [
        ("ADMIN_KEY", "a"),
        ("ADMIN_KEY", "a" * 15),
        ("ADMIN_KEY", "“a-long-random-admin-key”"),
        ("AGENT_KEY", "“a-long-random-agent-key”"),
        ("GPT_API_KEY", "“sk-0123456789abcdef”"),
        ("GPT_API_KEY", "sk-0123 456789"),
        ("CORS_ORIGINS", "https://app.example/"),
        ("CORS_ORIGINS", "https://app.example/page"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://ok.example,ftp://app.example"),
    ],
)
def test_a_setting_that_can_never_work_is_refused_at_start(name: str, value: str) -> None:
    told = start_and_fail(ROOT, **{name: value})
    assert f"  {name}: " in told
    assert name == "CORS_ORIGINS" or len(value) < 2 or value not in told, "a key is not shown"


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("RATE_LIMITS", "RATE_LIMIT"),
        ("OPENAI_URL", "OPENAI_BASE_URL"),
        ("CHAT_TTL", "CHAT_TTL_SECONDS"),
        ("ADMINKEY", "ADMIN_KEY"),
    ],
)
def test_a_name_in_the_env_file_that_is_no_setting_is_refused_with_the_nearest_one(
    tmp_path: Path, wrong: str, right: str
) -> None:
    root = Path(__file__).parent.parent
    (tmp_path / "main.py").write_text((root / "main.py").read_text())
    (tmp_path / ".env").write_text(f"{wrong}=60/minute\n")
    told = start_and_fail(tmp_path)
    assert f"  {wrong}: " in told and f"{right}?" in told


def test_wrong_admin_keys_are_slowed_and_the_right_one_is_not(start_briefly: Any) -> None:
    base = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY).client.base
    began = time.monotonic()
    guess = lambda n: Client(base, {"Authorization": f"wrong-{n:020}"}).get("/admin/users")  # noqa: E731
    guesses = [in_background(guess, n) for n in range(60)]
    statuses = [future.result(30).status for future in guesses]
    assert set(statuses) <= {401, 429}
    assert 429 in statuses or time.monotonic() - began > 3, "a thousand a second are too many"
    began = time.monotonic()
    assert as_admin(base).get("/admin/users").status == 200 and time.monotonic() - began < 3


def test_junk_tokens_do_not_hold_up_others_while_the_server_of_keys_hangs(
    start_briefly: Any, model: ModelServer, chat_id: str
) -> None:
    junk = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"unknown"}').decode().rstrip("=")
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/jwks"
        base = start_briefly(
            THREADS="8",
            AUTH="keys,jwt",
            ADMIN_KEY=ADMIN_KEY,
            JWT_ISSUER="i",
            JWT_AUDIENCE="a",
            JWT_JWKS_URL=url,
        ).client.base
        _, user = new_user(base)
        assert user.say(chat_id, "x").status == 200
        stranger = Client(base, {"Authorization": f"Bearer {junk}.e30.AAAA"})
        waiting = [in_background(stranger.get, "/chats") for _ in range(10)]
        time.sleep(0.3)
        began = time.monotonic()
        assert user.say(chat_id, "y").status == 200 and time.monotonic() - began < 2
        assert {future.result(30).status for future in waiting} <= {401, 503}


def test_the_admin_key_is_looked_at_before_the_body(start_briefly: Any) -> None:
    client = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY).client
    for headers in ({}, {"Authorization": "wrong"}):
        refused = client.request("POST", "/admin/users/add", b"{" * 1000, **headers)
        assert (refused.status, refused.json) == (401, {"error": "Invalid admin key"})


@pytest.mark.parametrize("count", [b"\xb2", b"\xd9\xa3", b"1e9", b"9" * 400, b"-1"])
def test_a_number_that_only_python_takes_for_one_is_no_server_error(
    plain: Function, model: ModelServer, chat_id: str, count: bytes
) -> None:
    head = head_of("POST", f"/{chat_id}/chat", len(SAY), "X-Stainless-Retry-Count: @")
    traces = traces_in(plain)
    reply = exchange(plain.port, head.replace(b"@", count) + SAY)
    assert parse(reply)[0] in (200, 400) and traces_in(plain) == traces


@pytest.fixture(scope="module")
def with_cors(start_function: Any) -> Function:
    function: Function = start_function(CORS_ORIGINS="*")
    return function


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400),
        (head_of("POST", "/c/chat", None, "Content-Length: x"), 400),
        (head_of("POST", "/c/chat", 5, "Transfer-Encoding: chunked"), 400),
        (head_of("POST", "/c/chat", None, "Transfer-Encoding: chunked") + b"zz\r\nx\r\n", 400),
        (head_of("POST", "/c/chat", 5, "Expect: nonsense") + b"12345", 417),
        (head_of("GET", "/health", None, "X-Long: " + "a" * 20_000), 431),
        (head_of("GET", "/health", None, *[f"X-{n}: a" for n in range(300)]), 431),
        (head_of("POST", "/c/chat", None, "Transfer-Encoding: gzip"), 501),
    ],
    ids="garbage version header length both chunk expect long many coding".split(),
)
def test_what_the_server_beneath_refuses_is_refused_in_our_shape(
    with_cors: Function, request_bytes: bytes, status: int
) -> None:
    traces = traces_in(with_cors)
    got, headers, body = parse(exchange(with_cors.port, request_bytes))
    assert got == status or (status == 501 and got == 400), body
    assert headers["content-type"].startswith("application/json")
    assert headers["access-control-allow-origin"] == "*"
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert traces_in(with_cors) == traces


def test_a_client_that_resets_its_connection_in_mid_body_leaves_no_trace(
    with_cors: Function, model: ModelServer, chat_id: str
) -> None:
    traces = traces_in(with_cors)
    for extra in ((), ("Transfer-Encoding: chunked",)):
        with socket.create_connection(("127.0.0.1", with_cors.port)) as connection:
            length = None if extra else 1000
            connection.sendall(head_of("POST", f"/{chat_id}/chat", length, *extra) + b"5\r\n{")
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.3)
    assert with_cors.client.get("/health").status == 200
    assert traces_in(with_cors) == traces


def test_the_link_to_older_messages_works_behind_a_path_prefix(
    plain: Function, model: ModelServer, chat_id: str
) -> None:
    for n in range(3):
        plain.client.say(chat_id, f"m{n}")
    link = plain.client.get(f"/{chat_id}/chat?limit=2").headers["Link"]
    assert link.startswith("<?") and link.endswith('>; rel="next"')
    query = link[1:].partition(">")[0]
    older = plain.client.get(f"/{chat_id}/chat{query}").json
    assert [m["content"] for m in older if m["role"] == "user"] == ["m1"]


def test_no_cell_of_the_usage_table_is_a_formula(
    start_briefly: Any, model: ModelServer, chat_id: str
) -> None:
    base = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY).client.base
    _, user = new_user(base)
    for name in ('=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1"):
        user.say(chat_id, "x", model=name)
    table = as_admin(base).get("/admin/usage?format=csv").body.decode()
    cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and len(cell) > 1]
