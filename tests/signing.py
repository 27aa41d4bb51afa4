"""What signs tokens in the tests: keys, a server that publishes them, claims."""

import base64
import contextlib
import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chat.core.errors import KeyRejected
from chat.web.auth.idtokens import AppCheck, IdTokens
from chat.web.auth.jwks import KeySet

ISSUER = "https://securetoken.google.com/my-project"
AUDIENCE = "my-project"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
Claims = dict[str, Any]
_jws = jwt.PyJWS()


def jwk(key: Any, kid: str, **more: Any) -> Claims:
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


def id_tokens(key_set: KeySet, *, firebase: bool = True) -> IdTokens:
    return IdTokens(key_set, ISSUER, AUDIENCE, firebase)


def quick(server: JwksServer, **more: Any) -> KeySet:
    """A key set that does in fractions of a second what it usually does in minutes."""
    return KeySet(server.url, **{"pause_seconds": 0.05, "retry_seconds": 0.05} | more)


def make_claims(**changes: Any) -> Claims:
    """Good claims but for the changes; None leaves a claim out, a timedelta counts from now."""
    now = int(time.time())
    claims: Claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann"}
    claims |= {"iat": now, "exp": now + 3600, "auth_time": now} | changes
    for name, value in changes.items():
        if isinstance(value, timedelta):
            claims[name] = now + value.total_seconds()
    return {name: value for name, value in claims.items() if value is not None}


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def sign(claims: Claims, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "r1") -> str:
    return _jws.encode(json.dumps(claims).encode(), key, alg, {"kid": kid})


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_raw(header: Any, payload: Any) -> str:
    """Sign what PyJWT would not write."""
    message = f"{segment(header)}.{segment(payload)}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(message.encode(), RSA_KEY)
    return f"{message}.{segment(signature)}"


def refused(subject: IdTokens | AppCheck, token: str, phrase: str = "") -> None:
    with pytest.raises(KeyRejected) as caught:
        subject.verify(token)
    error = caught.value
    assert (error.status, error.code) == (401, "key_rejected")
    assert phrase in error.message
    parts = [part for part in token.split(".") if len(part) > 8]
    assert not any(part in error.message for part in parts), "a token is not shown"
