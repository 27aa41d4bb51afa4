"""The keys that tokens are signed with: fetched, kept, and asked for no more often than needed."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from chat.core.errors import UpstreamUnavailable
from chat.web.auth.idtokens import IdTokens
from chat.web.auth.jwks import KeySet
from tests.signing import (
    EC_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    JwksServer,
    id_tokens,
    jwk,
    make_claims,
    quick,
    refused,
    segment,
    sign,
)


def test_keys_that_are_of_no_use_are_skipped(server: JwksServer) -> None:
    small, p384 = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())
    private = RSAAlgorithm.to_jwk(OTHER_RSA_KEY, as_dict=True)
    unusable = [
        None,
        "key",
        {},
        {"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": segment(bytes(32))},
        {"kty": "oct", "kid": "x", "k": segment(b"secret")},
        {"kty": "RSA", "kid": "x"},
        {"kty": "RSA", "kid": "x", "n": "AQAB", "e": 3},
        {"kty": "RSA", "kid": "x", "n": "%%%", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "x", "x": segment(bytes(32)), "y": "AA"},
        {"kty": "EC", "crv": "P-256", "kid": "x", "x": segment(b"1" * 32), "y": "MTEx" * 11},
        jwk(p384, "x"),
        jwk(small, "x"),
        private | {"kid": "x"},
        jwk(OTHER_RSA_KEY, "x", use="enc"),
        jwk(OTHER_RSA_KEY, "x", alg="RS512"),
        jwk(OTHER_RSA_KEY, "x") | {"kid": 7},
    ]
    bare = jwk(EC_KEY, "e1")
    del bare["use"]
    server.document = {"keys": [*unusable, jwk(RSA_KEY, "r1", alg="RS256"), bare]}
    key_set = quick(server)
    assert key_set.find("x") is None and key_set.find("r1") and key_set.find("e1")


def test_a_new_key_is_fetched_when_a_token_names_it(server: JwksServer) -> None:
    tokens = id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(sign(make_claims())) == "ann"
    server.document = {"keys": [jwk(OTHER_RSA_KEY, "r2")]}
    time.sleep(0.1)
    assert tokens.verify(sign(make_claims(), OTHER_RSA_KEY, kid="r2")) == "ann"
    refused(tokens, sign(make_claims()), "unknown key")
    refused(tokens, sign(make_claims(), kid="r3"), "unknown key")
    assert server.asked == 2


def test_a_flood_of_unknown_keys_is_one_fetch(server: JwksServer) -> None:
    tokens = id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(sign(make_claims())) == "ann"
    time.sleep(0.1)
    server.delay = 0.05
    flood = [sign(make_claims(), kid=f"unknown-{n}") for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda token: refused(tokens, token, "unknown key"), flood))
    assert server.asked == 2


def test_a_herd_at_the_start_is_one_fetch_that_all_wait_for(server: JwksServer) -> None:
    server.delay = 0.1
    tokens = id_tokens(KeySet(server.url))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(tokens.verify, [sign(make_claims())] * 8)) == {"ann"}
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
    tokens = id_tokens(quick(server))
    assert tokens.verify(sign(make_claims())) == "ann"
    time.sleep(0.06)
    assert tokens.verify(sign(make_claims())) == "ann"
    assert server.asked == fetches


def test_a_server_cannot_ask_to_be_asked_all_the_time(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = id_tokens(KeySet(server.url, retry_seconds=0.01))
    for _ in range(3):
        assert tokens.verify(sign(make_claims())) == "ann"
        time.sleep(0.02)
    assert server.asked == 1


def test_a_key_that_was_withdrawn_is_not_accepted_once_the_set_is_old(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = id_tokens(quick(server))
    assert tokens.verify(sign(make_claims())) == "ann"
    server.document = {"keys": []}
    time.sleep(0.06)
    refused(tokens, sign(make_claims()), "unknown key")


def test_a_dead_server_locks_nobody_out_whose_key_is_known(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = id_tokens(quick(server))
    assert tokens.verify(sign(make_claims())) == "ann"
    server.stop()
    for _ in range(3):
        time.sleep(0.06)
        assert tokens.verify(sign(make_claims())) == "ann"
        refused(tokens, sign(make_claims(), OTHER_RSA_KEY, kid="r2"), "unknown key")
    server.document["keys"].append(jwk(OTHER_RSA_KEY, "r2"))
    server.start()
    time.sleep(0.06)
    assert tokens.verify(sign(make_claims(), OTHER_RSA_KEY, kid="r2")) == "ann"


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
    tokens = id_tokens(quick(server))
    assert tokens.verify(sign(make_claims())) == "ann"
    server.status, server.document = status, document
    server.headers["Location"] = server.url
    time.sleep(0.06)
    with caplog.at_level(logging.WARNING, "chatkeep"):
        assert tokens.verify(sign(make_claims())) == "ann"
    assert server.asked == 2
    assert [record.message.count(server.url) for record in caplog.records] == [1]


def test_a_server_that_fails_is_left_in_peace_for_a_while(server: JwksServer) -> None:
    tokens = id_tokens(KeySet(server.url, retry_seconds=0.05))
    assert tokens.verify(sign(make_claims())) == "ann"
    server.status = 503
    time.sleep(0.06)
    for _ in range(10):
        refused(tokens, sign(make_claims(), kid="r2"), "unknown key")
        assert tokens.verify(sign(make_claims())) == "ann"
    assert server.asked == 2


def test_nobody_with_a_known_key_waits_for_a_slow_server(server: JwksServer) -> None:
    server.headers["Cache-Control"] = "max-age=0"
    tokens = id_tokens(quick(server))
    assert tokens.verify(sign(make_claims())) == "ann"
    time.sleep(0.06)
    server.may_answer.clear()
    waiting = threading.Thread(target=tokens.verify, args=(sign(make_claims()),))
    waiting.start()
    _until(lambda: server.asked == 2)
    assert tokens.verify(sign(make_claims())) == "ann"
    refused(tokens, sign(make_claims(), kid="r3"), "unknown key")
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
        tokens.verify(sign(make_claims()))
    assert caught.value.message == "The sign-in service's keys cannot be fetched."
    assert caught.value.headers["Retry-After"] == "5"


def test_a_server_that_is_dead_from_the_start_is_told(server: JwksServer) -> None:
    server.stop()
    tokens = id_tokens(KeySet(server.url))
    _unavailable(tokens)
    server.start()
    _unavailable(tokens)
    assert server.asked == 0, "it is not asked again at once"


def test_a_server_that_comes_up_late_is_found(server: JwksServer) -> None:
    server.stop()
    tokens = id_tokens(quick(server))
    _unavailable(tokens)
    server.start()
    time.sleep(0.06)
    assert tokens.verify(sign(make_claims())) == "ann"


def test_a_server_that_drips_is_waited_for_only_so_long(server: JwksServer) -> None:
    server.delay = 1.6
    tokens = id_tokens(quick(server, timeout_seconds=0.5))
    started = time.monotonic()
    _unavailable(tokens)
    assert time.monotonic() - started < 1.2
