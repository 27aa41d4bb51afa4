"""The Cloud Function. `functions-framework --target=main` imports this file and calls `main`."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import flask

from chat.app import build
from chat.settings import BadSettings, parse_settings, read_environment

try:
    settings = parse_settings(read_environment(Path(__file__).parent))
except BadSettings as problems:
    sys.exit(str(problems))

# The server reads this after importing us. One thread serves one open stream.
os.environ["THREADS"] = str(settings.threads)

_build_once = threading.Lock()
_app: Callable[[flask.Request], flask.Response] | None = None


def main(request: flask.Request) -> flask.Response:
    """Answer one request. The app is built by the first: the server forks after the import."""
    global _app
    if _app is None:
        with _build_once:
            _app = _app or build(settings)
    return _app(request)


if flask.has_app_context():
    # Ask us before the framework's own router, which would answer some paths with pages of HTML.
    flask.current_app.before_request(lambda: main(flask.request))
