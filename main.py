"""The Cloud Function. `functions-framework --target=main` imports this file and calls `main`."""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flask

# No garbage collection while importing (10 % of a cold start); `gc.freeze()` below exempts what is
# there by then.
gc.disable()

from chat.app import build, guard_server
from chat.settings import BadSettings, load_settings
from chat.web.routes import Router

try:
    settings = load_settings(Path(__file__).parent)
except BadSettings as problems:
    sys.exit(str(problems))

# gunicorn is configured from this variable after it has imported this file.
os.environ["THREADS"] = str(settings.threads)

_build_once = threading.Lock()
_router: Router | None = None


def main(request: flask.Request) -> flask.Response:
    """Answer one request."""
    return (_router or router()).answer(request)


def router() -> Router:
    """The app. The first request builds it: gunicorn forks after it has imported this."""
    global _router
    with _build_once:
        _router = _router or build(settings)
    return _router


def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve any path through `main`, as a WSGI application."""
    # Not put into its own environ: such a cycle keeps the body until the garbage is collected.
    request = flask.Request(environ, populate_request=False)
    return main(request)(environ, start_response)


if flask.has_app_context():
    # Past the framework's own router, which answers some paths with HTML pages and would double the
    # time that routing takes.
    flask.current_app.wsgi_app = serve  # type: ignore[method-assign]
    guard_server(settings, router)

gc.freeze()
gc.enable()
