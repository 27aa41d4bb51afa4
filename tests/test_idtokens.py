"""ID tokens and App Check tokens: good ones are let in, all others are told why not."""

import base64
import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chat.errors import KeyRejected, UpstreamUnavailable
from chat.idtokens import AppCheck, IdTokens, KeySet

ROOT = Path(__file__).parents[1]
ISSUER = "https://securetoken.google.com/my-project"
AUDIENCE = "my-project"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
Claims = dict[str, Any]
_jws = jwt.PyJWS()


def _jwk(key: Any, kid: str, **more: Any) -> Claims:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | more


class JwksServer:
    """A server of keys: what it says, how slowly, and how often it was asked."""

    def __init__(self, *jwks: Any) -> None:
        self.document: Any = {"keys": list(jwks)}
        self.headers = {"Cache-Control": "public, max-age=3600, must-revalidate"}
        self.status = 200
        self.delay = 0.0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks"

    def start(self) -> "JwksServer":
        """Listen; after a `stop`, at the same port as before."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.005,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        raw = isinstance(self.document, bytes)
        body = self.document if raw else json.dumps(self.document).encode()
        self.may_answer.wait(10)
        handler.send_response(self.status)
        for name, value in {"Content-Length": str(len(body)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # it may have seen enough
            for start in range(0, len(body), 1 + len(body) // 4):
                time.sleep(self.delay / 4)
                handler.wfile.write(body[start : start + 1 + len(body) // 4])


@pytest.fixture
def server() -> Iterator[JwksServer]:
    server = JwksServer(_jwk(RSA_KEY, "r1"), _jwk(EC_KEY, "e1")).start()
    yield server
    server.stop()


@pytest.fixture
def tokens(server: JwksServer) -> IdTokens:
    return _id_tokens(KeySet(server.url))


def _id_tokens(key_set: KeySet, *, firebase: bool = True) -> IdTokens:
    return IdTokens(key_set, ISSUER, AUDIENCE, firebase)


def _quick(server: JwksServer, **more: float) -> KeySet:
    """A key set that does in fractions of a second what it usually does in minutes."""
    return KeySet(server.url, **{"pause_seconds": 0.05, "retry_seconds": 0.05} | more)


def _claims(**changes: Any) -> Claims:
    """Good claims but for the changes; None leaves a claim out, a timedelta counts from now."""
    now = int(time.time())
    claims: Claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann"}
    claims |= {"iat": now, "exp": now + 3600, "auth_time": now} | changes
    for name, value in changes.items():
        if isinstance(value, timedelta):
            claims[name] = now + value.total_seconds()
    return {name: value for name, value in claims.items() if value is not None}


def _in(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _sign(claims: Claims, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "r1") -> str:
    return _jws.encode(json.dumps(claims).encode(), key, alg, {"kid": kid})


def _segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign_raw(header: Any, payload: Any) -> str:
    """Sign what PyJWT would not write."""
    message = f"{_segment(header)}.{_segment(payload)}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(message.encode(), RSA_KEY)
    return f"{message}.{_segment(signature)}"


def _refused(subject: IdTokens | AppCheck, token: str, word: str = "") -> None:
    with pytest.raises(KeyRejected) as caught:
        subject.verify(token)
    error = caught.value
    assert (error.status, error.code) == (401, "key_rejected")
    assert word in error.message
    parts = [part for part in token.split(".") if len(part) > 8]
    assert not any(part in error.message for part in parts), "a token is not shown"


def test_good_tokens_of_both_algorithms_name_their_subject(
    server: JwksServer, tokens: IdTokens
) -> None:
    for _ in range(3):
        assert tokens.verify(_sign(_claims())) == "ann"
        assert tokens.verify(_sign(_claims(sub="bob"), EC_KEY, "ES256", "e1")) == "bob"
    assert server.asked == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"sub": "x" * 128},
        {"sub": "Ännchen von Tharau"},
        {"auth_time": None},
        {"nbf": _in(40)},
        {"iat": _in(40), "auth_time": _in(40)},
        {"exp": _in(-30)},
        {"exp": _in(0.5)},
        {"jti": 7, "firebase": {"sign_in_provider": "anonymous"}},
    ],
)
def test_claims_that_are_fine(tokens: IdTokens, changes: Claims) -> None:
    assert tokens.verify(_sign(_claims(**changes))) == changes.get("sub", "ann")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": "https://securetoken.google.com/other"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"iss": None}, "enough"),
        ({"aud": "other"}, "not meant"),
        ({"aud": ["other", AUDIENCE + "x"]}, "not meant"),
        ({"aud": {AUDIENCE: 1}}, "not meant"),
        ({"aud": []}, "enough"),
        ({"aud": None}, "enough"),
        ({"exp": _in(-70)}, "expired"),
        ({"exp": None}, "enough"),
        ({"exp": "soon"}, "read"),
        ({"exp": float("nan")}, "read"),
        ({"exp": float("inf")}, "read"),
        ({"iat": _in(120)}, "not valid yet"),
        ({"iat": None}, "enough"),
        ({"nbf": _in(120)}, "not valid yet"),
        ({"nbf": []}, "read"),
        ({"auth_time": _in(120)}, "not valid yet"),
        ({"auth_time": "today"}, "not valid yet"),
        ({"sub": None}, "who"),
        ({"sub": ""}, "who"),
        ({"sub": 7}, "who"),
        ({"sub": "x" * 129}, "who"),
        ({"sub": "a\nb"}, "who"),
        ({"sub": "a\x7f"}, "who"),
        ({"sub": "a\ud800"}, "who"),
    ],
)
def test_claims_that_are_refused(tokens: IdTokens, changes: Claims, word: str) -> None:
    _refused(tokens, _sign(_claims(**changes)), word)


def test_the_time_of_the_sign_in_is_firebases_own(server: JwksServer) -> None:
    token = _sign(_claims(auth_time=_in(120)))
    assert _id_tokens(KeySet(server.url), firebase=False).verify(token) == "ann"


def test_only_a_signature_of_the_named_key_counts(tokens: IdTokens) -> None:
    good = _sign(_claims())
    message, _, signature = good.rpartition(".")
    _refused(tokens, _sign(_claims(), OTHER_RSA_KEY), "signature")
    _refused(tokens, f"{message}.", "signature")
    _refused(tokens, f"{message}.{signature[:-6]}", "signature")
    header, payload, _ = good.split(".")
    forged = _segment(_claims(sub="admin"))
    _refused(tokens, f"{header}.{forged}.{signature}", "signature")
    es = _sign(_claims(), EC_KEY, "ES256", "e1").rpartition(".")[0]
    _refused(tokens, f"{es}.{_segment(bytes(64))}", "signature")
    _refused(tokens, f"{es}.{signature}", "signature")
    assert tokens.verify(f"{header}.{payload}.{signature}") == "ann"


def test_only_the_algorithm_of_the_key_counts(tokens: IdTokens) -> None:
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    message = f"{_segment({'alg': 'HS256', 'kid': 'r1'})}.{_segment(_claims())}"
    hmac = jwt.get_algorithm_by_name("HS256").sign(message.encode(), pem)
    _refused(tokens, f"{message}.{_segment(hmac)}", "not accepted")
    none = f"{_segment({'alg': 'none', 'kid': 'r1'})}.{_segment(_claims())}."
    _refused(tokens, none, "not accepted")
    for alg in ("RS512", "PS256"):
        _refused(tokens, _sign(_claims(), RSA_KEY, alg), "not accepted")
    _refused(tokens, _sign(_claims(), RSA_KEY, "RS256", "e1"), "not accepted")
    _refused(tokens, _sign(_claims(), EC_KEY, "ES256", "r1"), "not accepted")
    odd: Any
    for odd in (None, ["RS256"], {}, 5, "rs256", ""):
        _refused(tokens, _sign_raw({"alg": odd, "kid": "r1"}, _claims()), "not accepted")


def test_a_token_must_name_its_key_also_when_there_is_only_one() -> None:
    server = JwksServer(_jwk(RSA_KEY, "r1")).start()
    try:
        tokens = _id_tokens(KeySet(server.url))
        assert tokens.verify(_sign(_claims())) == "ann"
        _refused(tokens, jwt.encode(_claims(), RSA_KEY, "RS256"), "does not name")
        for kid in (None, "", 1, ["r1"]):
            _refused(tokens, _sign_raw({"alg": "RS256", "kid": kid}, _claims()), "does not name")
        _refused(tokens, _sign(_claims(), kid="R1"), "unknown key")
    finally:
        server.stop()


GARBAGE = [
    "",
    ".",
    "..",
    "Bearer x",
    "sk-1234567890abcdef",
    "a.b.c",
    "é.é.é",
    "\ud800.x.y",
    "\x00",
    _segment({"alg": "none", "kid": "r1"}) + ".e30.",
    _segment([1]) + ".e30.x",
    _segment(b"[" * 5000) + ".e30.x",
    _segment(b"\xff\xfe") + ".e30.x",
    _segment(b'{"alg": ' + b"9" * 5000 + b"}") + ".e30.x",
]


@pytest.mark.parametrize("token", GARBAGE)
def test_garbage_is_refused_and_no_key_is_asked_for(
    server: JwksServer, tokens: IdTokens, token: str
) -> None:
    _refused(tokens, token)
    assert server.asked == 0


def test_garbage_behind_a_good_header_is_refused(tokens: IdTokens) -> None:
    header, payload, signature = _sign(_claims()).split(".")
    for token in (header, f"{header}.{payload}", f"{header}.!!!!.{signature}"):
        _refused(tokens, token, "cannot be read")
    _refused(tokens, f"{header}.{payload}.{signature}.{signature}")
    _refused(tokens, f"{header}!.{payload}.{signature}", "cannot be read")
    good = {"alg": "RS256", "kid": "r1"}
    for text in (b"", b"null", b"[]", b"{", b"\xff", b"[" * 5000):
        _refused(tokens, _sign_raw(good, text), "cannot be read")
    _refused(tokens, _sign_raw(good | {"crit": ["exp"]}, _claims()), "cannot be read")
    _refused(tokens, _sign_raw(good | {"crit": ["b64"], "b64": False}, _claims()))


def test_a_huge_token_is_refused_before_it_is_read(server: JwksServer, tokens: IdTokens) -> None:
    _refused(tokens, _sign(_claims(more="x" * 8192)), "too long")
    assert server.asked == 0
    assert tokens.verify(_sign(_claims(more="x" * 4096))) == "ann"


def test_keys_that_are_of_no_use_are_skipped(server: JwksServer) -> None:
    small, p384 = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())
    private = RSAAlgorithm.to_jwk(OTHER_RSA_KEY, as_dict=True)
    unusable = [
        None,
        "key",
        {},
        {"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": _segment(bytes(32))},
        {"kty": "oct", "kid": "x", "k": _segment(b"secret")},
        {"kty": "RSA", "kid": "x"},
        {"kty": "RSA", "kid": "x", "n": "AQAB", "e": 3},
        {"kty": "RSA", "kid": "x", "n": "%%%", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "x", "x": _segment(bytes(32)), "y": "AA"},
        {"kty": "EC", "crv": "P-256", "kid": "x", "x": _segment(b"1" * 32), "y": "MTEx" * 11},
        _jwk(p384, "x"),
        _jwk(small, "x"),
        private | {"kid": "x"},
        _jwk(OTHER_RSA_KEY, "x", use="enc"),
        _jwk(OTHER_RSA_KEY, "x", alg="RS512"),
        _jwk(OTHER_RSA_KEY, "x") | {"kid": 7},
    ]
    bare = _jwk(EC_KEY, "e1")
    del bare["use"]
    server.document = {"keys": [*unusable, _jwk(RSA_KEY, "r1", alg="RS256"), bare]}
    key_set = _quick(server)
    assert key_set.find("x") is None and key_set.find("r1") and key_set.find("e1")


def test_a_new_key_is_fetched_when_a_token_names_it(server: JwksServer) -> None:
    tokens = _id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(_sign(_claims())) == "ann"
    server.document = {"keys": [_jwk(OTHER_RSA_KEY, "r2")]}
    time.sleep(0.1)
    assert tokens.verify(_sign(_claims(), OTHER_RSA_KEY, kid="r2")) == "ann"
    _refused(tokens, _sign(_claims()), "unknown key")
    _refused(tokens, _sign(_claims(), kid="r3"), "unknown key")
    assert server.asked == 2


def test_a_flood_of_unknown_keys_is_one_fetch(server: JwksServer) -> None:
    tokens = _id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(_sign(_claims())) == "ann"
    time.sleep(0.1)
    server.delay = 0.05
    flood = [_sign(_claims(), kid=f"unknown-{n}") for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda token: _refused(tokens, token, "unknown key"), flood))
    assert server.asked == 2


def test_a_herd_at_the_start_is_one_fetch_that_all_wait_for(server: JwksServer) -> None:
    server.delay = 0.1
    tokens = _id_tokens(KeySet(server.url))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(tokens.verify, [_sign(_claims())] * 8)) == {"ann"}
    assert server.asked == 1


@pytest.mark.parametrize(
    ("cache_control", "fetches"),
    [
        ("max-age=0", 2),
        ("private, MAX-AGE = 0", 2),
        ("max-age=3600", 1),
        ("s-maxage=0, max-age=3600", 1),
        ("max-age=99999999999999999999", 1),
        ("no-cache", 1),
        ("max-age=x", 1),
    ],
)
def test_keys_are_kept_for_as_long_as_their_server_says(
    server: JwksServer, cache_control: str, fetches: int
) -> None:
    server.headers["Cache-Control"] = cache_control
    tokens = _id_tokens(_quick(server))
    assert tokens.verify(_sign(_claims())) == "ann"
    time.sleep(0.06)
    assert tokens.verify(_sign(_claims())) == "ann"
    assert server.asked == fetches


def test_a_server_cannot_ask_to_be_asked_all_the_time(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = _id_tokens(KeySet(server.url, retry_seconds=0.01))
    for _ in range(3):
        assert tokens.verify(_sign(_claims())) == "ann"
        time.sleep(0.02)
    assert server.asked == 1


def test_a_key_that_was_withdrawn_is_not_accepted_once_the_set_is_old(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = _id_tokens(_quick(server))
    assert tokens.verify(_sign(_claims())) == "ann"
    server.document = {"keys": []}
    time.sleep(0.06)
    _refused(tokens, _sign(_claims()), "unknown key")


def test_a_dead_server_locks_nobody_out_whose_key_is_known(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = _id_tokens(_quick(server))
    assert tokens.verify(_sign(_claims())) == "ann"
    server.stop()
    for _ in range(3):
        time.sleep(0.06)
        assert tokens.verify(_sign(_claims())) == "ann"
        _refused(tokens, _sign(_claims(), OTHER_RSA_KEY, kid="r2"), "unknown key")
    server.document["keys"].append(_jwk(OTHER_RSA_KEY, "r2"))
    server.start()
    time.sleep(0.06)
    assert tokens.verify(_sign(_claims(), OTHER_RSA_KEY, kid="r2")) == "ann"


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, b'{"keys": []}'),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": {}}'),
        (200, b"[" * 100_000),
        (200, b'{"keys": []}' + b" " * 1024 * 1024),
    ],
)
def test_an_answer_that_is_no_key_set_changes_nothing(
    server: JwksServer, caplog: pytest.LogCaptureFixture, status: int, document: bytes
) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = _id_tokens(_quick(server))
    assert tokens.verify(_sign(_claims())) == "ann"
    server.status, server.document = status, document
    server.headers["Location"] = server.url
    time.sleep(0.06)
    with caplog.at_level(logging.WARNING, "chatkeep"):
        assert tokens.verify(_sign(_claims())) == "ann"
    assert server.asked == 2
    assert [record.message.count(server.url) for record in caplog.records] == [1]


def test_a_server_that_fails_is_left_in_peace_for_a_while(server: JwksServer) -> None:
    tokens = _id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(_sign(_claims())) == "ann"
    server.status = 503
    time.sleep(0.06)
    for _ in range(10):
        _refused(tokens, _sign(_claims(), kid="r2"), "unknown key")
        assert tokens.verify(_sign(_claims())) == "ann"
    assert server.asked == 2


def test_nobody_with_a_known_key_waits_for_a_slow_server(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = _id_tokens(_quick(server))
    assert tokens.verify(_sign(_claims())) == "ann"
    time.sleep(0.06)
    server.may_answer.clear()
    waiting = threading.Thread(target=tokens.verify, args=(_sign(_claims()),))
    waiting.start()
    _until(lambda: server.asked == 2)
    assert tokens.verify(_sign(_claims())) == "ann"
    _refused(tokens, _sign(_claims(), kid="r3"), "unknown key")
    assert waiting.is_alive() and server.asked == 2
    server.may_answer.set()
    waiting.join()


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _unavailable(tokens: IdTokens) -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        tokens.verify(_sign(_claims()))
    assert caught.value.message == "The server of sign-in keys cannot be reached."
    assert caught.value.headers["Retry-After"] == "5"


def test_a_server_that_is_dead_from_the_start_is_told(server: JwksServer) -> None:
    server.stop()
    tokens = _id_tokens(KeySet(server.url))
    _unavailable(tokens)
    server.start()
    _unavailable(tokens)
    assert server.asked == 0, "it is not asked again at once"


def test_a_server_that_comes_up_late_is_found(server: JwksServer) -> None:
    server.stop()
    tokens = _id_tokens(_quick(server))
    _unavailable(tokens)
    server.start()
    time.sleep(0.06)
    assert tokens.verify(_sign(_claims())) == "ann"


def test_a_server_that_drips_is_waited_for_only_so_long(server: JwksServer) -> None:
    server.delay = 1.6
    tokens = _id_tokens(_quick(server, timeout_seconds=0.5))
    started = time.monotonic()
    _unavailable(tokens)
    assert time.monotonic() - started < 1.2


PROJECT = "123456"
APP = "1:123456:android:abc"


def _app_claims(**changes: Any) -> Claims:
    audiences = [f"projects/{PROJECT}", "projects/my-project"]
    issuer = f"https://firebaseappcheck.googleapis.com/{PROJECT}"
    return _claims(**{"iss": issuer, "aud": audiences, "sub": APP, "auth_time": None} | changes)


def test_a_good_app_check_token_names_its_app(server: JwksServer) -> None:
    key_set = KeySet(server.url)
    for project in (PROJECT, "my-project"):
        assert AppCheck(key_set, project).verify(_sign(_app_claims())) == APP
    assert AppCheck(key_set, PROJECT).verify(_sign(_app_claims(exp=_in(-30)))) == APP


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": ISSUER}, "issuer"),
        ({"iss": "https://firebaseappcheck.googleapis.com.evil.example/"}, "issuer"),
        ({"iss": ["https://firebaseappcheck.googleapis.com/1"]}, "issuer"),
        ({"aud": f"projects/{PROJECT}"}, "not meant"),
        ({"aud": ["projects/other", PROJECT]}, "not meant"),
        ({"aud": []}, "enough"),
        ({"exp": _in(-70)}, "expired"),
        ({"iat": _in(120)}, "not valid yet"),
        ({"sub": ""}, "who"),
        ({"sub": 1}, "who"),
    ],
)
def test_app_check_claims_that_are_refused(server: JwksServer, changes: Claims, word: str) -> None:
    _refused(AppCheck(KeySet(server.url), PROJECT), _sign(_app_claims(**changes)), word)


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub"])
def test_an_app_check_token_that_lacks_a_claim_is_refused(server: JwksServer, name: str) -> None:
    claims = _app_claims()
    del claims[name]
    _refused(AppCheck(KeySet(server.url), PROJECT), _sign(claims))


def test_an_app_check_token_is_a_jwt_in_rs256(server: JwksServer) -> None:
    checks = AppCheck(KeySet(server.url), PROJECT)
    _refused(checks, _sign(_app_claims(), EC_KEY, "ES256", "e1"), "not accepted")
    _refused(checks, _sign(_app_claims(), OTHER_RSA_KEY), "signature")
    for header in ({}, {"typ": "at+jwt"}, {"typ": None}):
        token = _sign_raw({"alg": "RS256", "kid": "r1"} | header, _app_claims())
        _refused(checks, token, "cannot be read")
    with pytest.raises(KeyRejected) as caught:
        checks.verify("x")
    assert caught.value.param == "X-Firebase-AppCheck"


def test_importing_the_module_does_not_import_the_libraries() -> None:
    code = "import sys, chat.idtokens; sys.exit(bool({'jwt', 'cryptography'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
