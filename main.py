"""The Cloud Function. `functions-framework --target=main` imports this file and calls `main`."""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flask

# What is imported stays: to look for garbage in it takes a tenth of a cold start, and some of every
# turn. So nobody looks, until it is out of sight.
gc.disable()

from chat.app import build, guard_server
from chat.settings import BadSettings, parse_settings, read_environment

try:
    settings = parse_settings(read_environment(Path(__file__).parent))
except BadSettings as problems:
    sys.exit(str(problems))

# The server reads this after importing us.
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


def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: every path leads to `main`."""
    return main(flask.Request(environ))(environ, start_response)


if flask.has_app_context():
    # Not through the framework's own router: it would answer some paths with pages of HTML, and
    # takes as long as ours.
    flask.current_app.wsgi_app = serve  # type: ignore[method-assign]
    guard_server(settings)

gc.freeze()
gc.enable()
