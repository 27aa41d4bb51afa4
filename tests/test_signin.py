"""ID tokens and App Check over HTTP: who signs in where, and whose chats are whose."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from dev.model import ModelServer
from tests.harness import ADMIN_KEY, Client, new_user
from tests.signing import EC_KEY, OTHER_RSA_KEY, RSA_KEY, JwksServer, jwk, make_claims, sign

APP_CHECK = "X-Firebase-AppCheck"


@pytest.fixture(scope="module")
def keys() -> Iterator[JwksServer]:
    server = JwksServer(jwk(RSA_KEY, "r1"), jwk(EC_KEY, "e1")).start()
    yield server
    server.stop()


@pytest.fixture
def base(start_function: Any, keys: JwksServer, model: ModelServer) -> str:
    found: str = start_function(
        AUTH="jwt,keys",
        ADMIN_KEY=ADMIN_KEY,
        FIREBASE_PROJECT="my-project",
        JWT_JWKS_URL=keys.url,
        RATE_LIMIT="1000/hour",
    ).client.base
    return found


def signed_in(base: str, sub: str, **claims: Any) -> Client:
    return Client(base, {"Authorization": f"Bearer {sign(make_claims(sub=sub, **claims))}"})


def test_chats_belong_to_the_sub_of_the_token(base: str, chat_id: str) -> None:
    ann, bob = signed_in(base, "ann"), signed_in(base, "auth0|{bob}:é")
    assert [who.say(chat_id, f"I am {n}").status for n, who in enumerate((ann, bob))] == [200, 200]
    later = Client(base, {"Authorization": sign(make_claims(sub="ann"), EC_KEY, "ES256", "e1")})
    assert [m["content"] for m in later.get(f"/{chat_id}/chat").json][:1] == ["I am 0"]
    assert bob.get(f"/{chat_id}/chat").json[0]["content"] == "I am 1"
    assert bob.get("/me").json["usage"]["day"]["requests"] == 1
    rows = Client(base, {"Authorization": ADMIN_KEY}).get("/admin/usage").json["usage"]
    assert {"ann", bob.get("/me").json["owner"]} <= {row["owner"] for row in rows}
    _, user = new_user(base)
    assert user.get("/chats").json["data"] == []


def test_a_token_that_is_not_good_opens_nothing(base: str, chat_id: str) -> None:
    bad = [
        sign(make_claims(), OTHER_RSA_KEY),
        sign(make_claims(exp=int(time.time()) - 100)),
        sign(make_claims(aud="another-project")),
        sign(make_claims(sub="")),
        "a.b.c",
        "..",
    ]
    for token in bad:
        for path in (f"/{chat_id}/chat", "/me"):
            reply = Client(base, {"Authorization": f"Bearer {token}"}).get(path)
            assert (reply.status, reply.code) == (401, "key_rejected"), token
            assert token not in reply.body.decode()


def test_a_dead_server_of_keys_locks_out_nobody_it_knew(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    keys = JwksServer(jwk(RSA_KEY, "r1")).start()
    settings = {"AUTH": "jwt", "FIREBASE_PROJECT": "my-project", "JWT_JWKS_URL": keys.url}
    knows, knows_not = (start_function(**settings).client.base for _ in range(2))
    assert signed_in(knows, "ann").say(chat_id, "x").status == 200
    keys.stop()
    assert signed_in(knows, "ann").say(chat_id, "x").status == 200
    lost = signed_in(knows_not, "ann").say(chat_id, "x")
    assert lost.status == 503 and lost.headers["Retry-After"] == "5"


def test_who_signs_in_again_after_leaving_finds_nothing_but_the_limits(
    start_function: Any, keys: JwksServer, model: ModelServer, redis_server: Any, chat_id: str
) -> None:
    base = start_function(
        AUTH="jwt", FIREBASE_PROJECT="my-project", JWT_JWKS_URL=keys.url, RATE_LIMIT="2/hour"
    ).client.base
    leaver = signed_in(base, f"leaver-{chat_id}")
    assert [leaver.say(chat_id, "x").status for _ in range(3)] == [200, 200, 429]
    assert leaver.request("DELETE", "/me").status == 204
    assert [k for k in redis_server.client().scan_iter() if b"leaver" in k] == []
    assert leaver.get("/chats").json["data"] == [] and leaver.say(chat_id, "x").status == 429


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_app_check_lets_only_the_own_apps_in(
    start_function: Any, keys: JwksServer, model: ModelServer, chat_id: str, mode: str
) -> None:
    base = start_function(
        APP_CHECK=mode,
        APP_CHECK_JWKS_URL=keys.url,
        FIREBASE_PROJECT="my-project",
        AUTH="open",
        ADMIN_KEY=ADMIN_KEY,
    ).client.base
    issuer = "https://firebaseappcheck.googleapis.com/123"
    good = sign(make_claims(iss=issuer, aud=["projects/123", "projects/my-project"], sub="app"))
    bad = sign(make_claims(iss=issuer, aud=["projects/456"], sub="app"))
    app = Client(base)
    with_token = app.post(f"/{chat_id}/chat", {"content": "x"}, X_Firebase_AppCheck=good)
    assert with_token.status == 200
    refused = app.post(f"/{chat_id}/chat", {"content": "x"}, X_Firebase_AppCheck=bad)
    assert (refused.status, refused.code) == (401, "key_rejected")
    assert refused.json["error"]["param"] == APP_CHECK
    without = app.say(chat_id, "x")
    if mode == "optional":
        assert without.status == 200
    else:
        assert (without.status, without.code) == (401, "key_missing")
        assert without.json["error"]["param"] == APP_CHECK
    assert app.get("/health").status == 200
    assert app.get("/admin/users", Authorization=ADMIN_KEY).status == 200
