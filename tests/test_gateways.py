"""Headers, keys, tokens and proxies: every gateway's way of asking who is there."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chat.models.upstream import Upstream
from chat.models.upstream.address import skips_proxy
from chat.settings import VERSION
from dev.model import Answer, ModelServer
from tests.calls import read_once, request
from tests.harness import StartFunction, wait_until
from tests.tls import self_signed, serve_tls

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _read_all(upstream: Upstream) -> bytes:
    call, body = upstream.call(request()), b""
    while (piece := read_once(call, 0.5)) != b"":
        body += piece or b""
    call.close()
    return body


def test_headers_of_the_operator_are_sent_and_win(
    start_function: StartFunction, model: ModelServer, chat_id: str
) -> None:
    own = {"x-portkey-config": '{"retry": {"attempts": 3}}', "authorization": "Basic abc"}
    client = start_function(UPSTREAM_HEADERS=json.dumps(own), TITLES="model").client
    client.say(chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 2)  # the second one is for the title
    for asked in model.requests:
        sent = {name.lower(): value for name, value in asked.headers.items()}
        assert own.items() <= sent.items()
        assert sent["user-agent"] == f"chatkeep/{VERSION}"


def test_azure_gets_the_key_in_its_own_header_and_titles_ask_the_same_path(
    start_function: StartFunction, model: ModelServer, chat_id: str
) -> None:
    azure = Upstream("https://me.openai.azure.com/openai/v1", "azure-key-1", 5)
    assert azure.headers()["api-key"] == "azure-key-1" and "Authorization" not in azure.headers()
    client = start_function(
        OPENAI_BASE_URL=f"{model.url}?api-version=2024-10-21", TITLES="model"
    ).client
    model.enqueue(
        Answer(pieces=["Hi"]), Answer(pieces=["<think>a title, then</think>", "Greeting"])
    )
    client.say(chat_id, "x")
    assert wait_until(lambda: client.get(f"/{chat_id}").json["title"] == "Greeting")
    paths = {asked.path for asked in model.requests}
    assert paths == {"/v1/chat/completions?api-version=2024-10-21"}


def test_a_title_of_thinking_alone_is_none(
    start_function: StartFunction, model: ModelServer, chat_id: str
) -> None:
    client = start_function(TITLES="model").client
    model.enqueue(Answer(pieces=["Hi"]), Answer(pieces=["<think>a title, then</think>"]))
    client.say(chat_id, "What is it?")
    assert wait_until(lambda: len(model.requests) == 2)
    model.enqueue(Answer(pieces=[" "]))
    client.say(f"{chat_id}-2", "And this?")
    client.say(f"{chat_id}-2", "And this?")
    assert client.get(f"/{chat_id}").json["title"] == "What is it?"
    assert len(model.requests) == 4, "an empty answer is given no title"


class _Metadata(BaseHTTPRequestHandler):
    """Google's metadata server: each token is another one."""

    server: Any

    def do_GET(self) -> None:
        assert self.headers["Metadata-Flavor"] == "Google"
        assert self.path.endswith("/service-accounts/default/token")
        self.server.count += 1
        token = {"access_token": f"ya29.{self.server.count}", "expires_in": self.server.lives}
        body = json.dumps(token | {"token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    server.count, server.lives = 0, 3599
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_vertex_is_asked_with_googles_own_token(metadata: Any) -> None:
    host = f"127.0.0.1:{metadata.server_address[1]}"
    url = (
        "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi"
    )
    vertex = Upstream(url, "", 5, metadata_host=host)
    assert [vertex.headers()["Authorization"] for _ in range(2)] == ["Bearer ya29.1"] * 2
    vertex.reject_key()
    assert vertex.headers()["Authorization"] == "Bearer ya29.2"
    metadata.lives = 200  # shorter than it takes to renew one
    vertex.reject_key()
    assert len({vertex.headers()["Authorization"] for _ in range(3)}) == 3
    count = metadata.count
    others = [Upstream(url, "key", 5, metadata_host=host)]
    others += [Upstream("https://api.example/v1", "", 5, metadata_host=host)]
    assert [other.headers().get("Authorization") for other in others] == ["Bearer key", None]
    assert metadata.count == count


def _proxy(heads: list[bytes]) -> int:
    """A proxy that opens tunnels to whatever port of this machine it is asked for."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)

    def serve() -> None:
        connection, _ = listener.accept()
        heads.append(connection.recv(65536))
        port = int(heads[0].split(b" ")[1].rpartition(b":")[2])
        there = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for pair in ((connection, there), (there, connection)):
            threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_https_goes_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    port, heads = serve_tls(certificate, ANSWER), list[bytes]()
    proxy = f"http://me:p%40ss@127.0.0.1:{_proxy(heads)}"
    assert _read_all(Upstream(f"https://localhost:{port}/v1", "k", 5, proxy=proxy)) == b"{}"
    (head,) = heads
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in head and b"Bearer" not in head


@pytest.mark.parametrize(
    "no_proxy, skips",
    [
        ("api.example.com", True),
        ("example.com", True),
        (".example.com", True),
        ("*.example.com", True),
        ("x, EXAMPLE.com:443", True),
        ("*", True),
        ("example.com:8443", False),
        ("ample.com", False),
        ("", False),
    ],
)
def test_no_proxy_names_hosts_and_domains(no_proxy: str, skips: bool) -> None:
    assert skips_proxy("api.example.com", 443, no_proxy) is skips


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_thinking_is_kept_only_if_the_operator_says_so(
    start_function: StartFunction, model: ModelServer, chat_id: str, stream: bool, keeps: bool
) -> None:
    client = start_function(KEEP_REASONING="on" if keeps else "off").client
    model.enqueue(Answer(pieces=["<think>a plan</think>", "Hello"]))
    client.say(chat_id, "x", stream=stream)
    message = client.get(f"/{chat_id}/chat").json[1]
    assert (message["content"], message.get("reasoning")) == ("Hello", "a plan" if keeps else None)
    client.say(chat_id, "y")
    assert model.requests[-1].body["messages"][1] == {"role": "assistant", "content": "Hello"}
