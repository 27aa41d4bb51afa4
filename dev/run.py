"""`make run`: the function on http://localhost:8080, with everything it needs.

Without REDIS_HOST and REDIS_URL it gets a Redis of its own that keeps its data in `.data/`; without
GPT_API_KEY and OPENAI_BASE_URL a demo model that answers with what it was sent.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from chat.settings import read_environment
from dev.model import ModelServer
from dev.redis_server import RedisServer, end_with_parent

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the function until it ends or is told to; its exit status."""
    environment = read_environment(ROOT)
    own: dict[str, str] = {}
    server = None
    if not (environment.get("REDIS_HOST") or environment.get("REDIS_URL")):
        server = RedisServer(_data_folder(), persist=True)
        own["REDIS_URL"] = server.url
    demo = not any(map(environment.get, ("GPT_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")))
    if demo:
        own["OPENAI_BASE_URL"] = ModelServer().start().url
    port = environment.get("PORT", "8080")
    try:
        if server:
            server.start()
        print(_welcome(port, server is not None, demo), flush=True)
        return _serve(environment | own, port)
    finally:
        if server:
            server.stop()


def _data_folder() -> Path:
    return Path(os.environ.get("DATA_DIR", ROOT / ".data"))


def _serve(environment: dict[str, str], port: str) -> int:
    command = [sys.executable, "-m", "functions_framework", "--target=main", f"--port={port}"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=end_with_parent)

    def stop(*_: Any) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return process.wait()


def _welcome(port: str, own_redis: bool, demo: bool) -> str:
    history = "its own Redis, data in .data/" if own_redis else "the Redis of your settings"
    model = "a demo that answers with what it was sent (set GPT_API_KEY for a real one)"
    return (
        f"Chatkeep on http://localhost:{port}\n"
        f"  history: {history}\n"
        f"  model:   {model if demo else 'the API of your settings'}\n"
        f"Try: curl -N localhost:{port}/demo/chat "
        """-d '{"content": "Hello", "stream": true}'\n"""
        "Stop with Ctrl-C."
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as problem:
        sys.exit(str(problem))
