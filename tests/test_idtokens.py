"""ID tokens and App Check tokens: good ones are let in, all others are told why."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from chat.core.errors import KeyRejected
from chat.web.auth.idtokens import AppCheck, IdTokens
from chat.web.auth.jwks import KeySet
from tests.signing import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    Claims,
    JwksServer,
    after,
    id_tokens,
    jwk,
    make_claims,
    refused,
    segment,
    sign,
    sign_raw,
)

ROOT = Path(__file__).parents[1]


def test_good_tokens_of_both_algorithms_name_their_subject(
    server: JwksServer, tokens: IdTokens
) -> None:
    for _ in range(3):
        assert tokens.verify(sign(make_claims())) == "ann"
        assert tokens.verify(sign(make_claims(sub="bob"), EC_KEY, "ES256", "e1")) == "bob"
    assert server.asked == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"sub": "x" * 128},
        {"sub": "Ännchen von Tharau"},
        {"auth_time": None},
        {"nbf": after(40)},
        {"iat": after(40), "auth_time": after(40)},
        {"exp": after(-30)},
        {"exp": after(0.5)},
        {"jti": 7, "firebase": {"sign_in_provider": "anonymous"}},
    ],
)
def test_claims_that_are_fine(tokens: IdTokens, changes: Claims) -> None:
    assert tokens.verify(sign(make_claims(**changes))) == changes.get("sub", "ann")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": "https://securetoken.google.com/other"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"iss": None}, "required claim"),
        ({"aud": "other"}, "not meant"),
        ({"aud": ["other", AUDIENCE + "x"]}, "not meant"),
        ({"aud": {AUDIENCE: 1}}, "not meant"),
        ({"aud": []}, "required claim"),
        ({"aud": None}, "required claim"),
        ({"exp": after(-70)}, "expired"),
        ({"exp": None}, "required claim"),
        ({"exp": "soon"}, "read"),
        ({"exp": float("nan")}, "read"),
        ({"exp": float("inf")}, "read"),
        ({"iat": after(120)}, "not valid yet"),
        ({"iat": None}, "required claim"),
        ({"nbf": after(120)}, "not valid yet"),
        ({"nbf": []}, "read"),
        ({"auth_time": after(120)}, "not valid yet"),
        ({"auth_time": "today"}, "not valid yet"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 7}, "subject"),
        ({"sub": "x" * 129}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "a\x7f"}, "subject"),
        ({"sub": "a\ud800"}, "subject"),
    ],
)
def test_claims_that_are_refused(tokens: IdTokens, changes: Claims, word: str) -> None:
    refused(tokens, sign(make_claims(**changes)), word)


def test_the_time_of_the_sign_in_is_firebases_own(server: JwksServer) -> None:
    token = sign(make_claims(auth_time=after(120)))
    assert id_tokens(KeySet(server.url), firebase=False).verify(token) == "ann"


def test_only_a_signature_of_the_named_key_counts(tokens: IdTokens) -> None:
    good = sign(make_claims())
    message, _, signature = good.rpartition(".")
    refused(tokens, sign(make_claims(), OTHER_RSA_KEY), "signature")
    refused(tokens, f"{message}.", "signature")
    refused(tokens, f"{message}.{signature[:-6]}", "signature")
    header, payload, _ = good.split(".")
    forged = segment(make_claims(sub="admin"))
    refused(tokens, f"{header}.{forged}.{signature}", "signature")
    es = sign(make_claims(), EC_KEY, "ES256", "e1").rpartition(".")[0]
    refused(tokens, f"{es}.{segment(bytes(64))}", "signature")
    refused(tokens, f"{es}.{signature}", "signature")
    assert tokens.verify(f"{header}.{payload}.{signature}") == "ann"


def test_only_the_algorithm_of_the_key_counts(tokens: IdTokens) -> None:
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    message = f"{segment({'alg': 'HS256', 'kid': 'r1'})}.{segment(make_claims())}"
    hmac = jwt.get_algorithm_by_name("HS256").sign(message.encode(), pem)
    refused(tokens, f"{message}.{segment(hmac)}", "not accepted")
    none = f"{segment({'alg': 'none', 'kid': 'r1'})}.{segment(make_claims())}."
    refused(tokens, none, "not accepted")
    for alg in ("RS512", "PS256"):
        refused(tokens, sign(make_claims(), RSA_KEY, alg), "not accepted")
    refused(tokens, sign(make_claims(), RSA_KEY, "RS256", "e1"), "not accepted")
    refused(tokens, sign(make_claims(), EC_KEY, "ES256", "r1"), "not accepted")
    odd: Any
    for odd in (None, ["RS256"], {}, 5, "rs256", ""):
        refused(tokens, sign_raw({"alg": odd, "kid": "r1"}, make_claims()), "not accepted")


def test_a_token_must_name_its_key_also_when_there_is_only_one() -> None:
    server = JwksServer(jwk(RSA_KEY, "r1")).start()
    try:
        tokens = id_tokens(KeySet(server.url))
        assert tokens.verify(sign(make_claims())) == "ann"
        refused(tokens, jwt.encode(make_claims(), RSA_KEY, "RS256"), "does not name")
        for kid in (None, "", 1, ["r1"]):
            refused(tokens, sign_raw({"alg": "RS256", "kid": kid}, make_claims()), "does not name")
        refused(tokens, sign(make_claims(), kid="R1"), "unknown key")
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
    segment({"alg": "none", "kid": "r1"}) + ".e30.",
    segment([1]) + ".e30.x",
    segment(b"[" * 5000) + ".e30.x",
    segment(b"\xff\xfe") + ".e30.x",
    segment(b'{"alg": ' + b"9" * 5000 + b"}") + ".e30.x",
]


@pytest.mark.parametrize("token", GARBAGE)
def test_garbage_is_refused_and_no_key_is_asked_for(
    server: JwksServer, tokens: IdTokens, token: str
) -> None:
    refused(tokens, token)
    assert server.asked == 0


def test_garbage_behind_a_good_header_is_refused(tokens: IdTokens) -> None:
    header, payload, signature = sign(make_claims()).split(".")
    for token in (header, f"{header}.{payload}", f"{header}.!!!!.{signature}"):
        refused(tokens, token, "cannot be read")
    refused(tokens, f"{header}.{payload}.{signature}.{signature}")
    refused(tokens, f"{header}!.{payload}.{signature}", "cannot be read")
    good = {"alg": "RS256", "kid": "r1"}
    for text in (b"", b"null", b"[]", b"{", b"\xff", b"[" * 5000):
        refused(tokens, sign_raw(good, text), "cannot be read")
    refused(tokens, sign_raw(good | {"crit": ["exp"]}, make_claims()), "cannot be read")
    refused(tokens, sign_raw(good | {"crit": ["b64"], "b64": False}, make_claims()))


def test_a_huge_token_is_refused_before_it_is_read(server: JwksServer, tokens: IdTokens) -> None:
    refused(tokens, sign(make_claims(more="x" * 8192)), "too long")
    assert server.asked == 0
    assert tokens.verify(sign(make_claims(more="x" * 4096))) == "ann"


PROJECT = "123456"
APP = "1:123456:android:abc"


def _app_claims(**changes: Any) -> Claims:
    audiences = [f"projects/{PROJECT}", "projects/my-project"]
    issuer = f"https://firebaseappcheck.googleapis.com/{PROJECT}"
    return make_claims(**{"iss": issuer, "aud": audiences, "sub": APP, "auth_time": None} | changes)


def test_a_good_app_check_token_names_its_app(server: JwksServer) -> None:
    key_set = KeySet(server.url)
    for project in (PROJECT, "my-project"):
        assert AppCheck(key_set, project).verify(sign(_app_claims())) == APP
    assert AppCheck(key_set, PROJECT).verify(sign(_app_claims(exp=after(-30)))) == APP


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": ISSUER}, "issuer"),
        ({"iss": "https://firebaseappcheck.googleapis.com.evil.example/"}, "issuer"),
        ({"iss": ["https://firebaseappcheck.googleapis.com/1"]}, "issuer"),
        ({"aud": f"projects/{PROJECT}"}, "not meant"),
        ({"aud": ["projects/other", PROJECT]}, "not meant"),
        ({"aud": []}, "required claim"),
        ({"exp": after(-70)}, "expired"),
        ({"iat": after(120)}, "not valid yet"),
        ({"sub": ""}, "subject"),
        ({"sub": 1}, "subject"),
    ],
)
def test_app_check_claims_that_are_refused(server: JwksServer, changes: Claims, word: str) -> None:
    refused(AppCheck(KeySet(server.url), PROJECT), sign(_app_claims(**changes)), word)


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub"])
def test_an_app_check_token_that_lacks_a_claim_is_refused(server: JwksServer, name: str) -> None:
    claims = _app_claims()
    del claims[name]
    refused(AppCheck(KeySet(server.url), PROJECT), sign(claims))


def test_an_app_check_token_is_a_jwt_in_rs256(server: JwksServer) -> None:
    checks = AppCheck(KeySet(server.url), PROJECT)
    refused(checks, sign(_app_claims(), EC_KEY, "ES256", "e1"), "not accepted")
    refused(checks, sign(_app_claims(), OTHER_RSA_KEY), "signature")
    for header in ({}, {"typ": "at+jwt"}, {"typ": None}):
        token = sign_raw({"alg": "RS256", "kid": "r1"} | header, _app_claims())
        refused(checks, token, "cannot be read")
    with pytest.raises(KeyRejected) as caught:
        checks.verify("x")
    assert caught.value.param == "X-Firebase-AppCheck"


def test_importing_the_module_does_not_import_the_libraries() -> None:
    code = "import sys, chat.web.auth.idtokens; sys.exit(bool({'jwt', 'cryptography'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
