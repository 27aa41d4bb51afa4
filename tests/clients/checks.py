# mypy: ignore-errors
"""Runs the checks of one client: each has a chat of its own, and prints one line of JSON.

CHAT_URL has `{chat}` where the chat's id goes. A check returns whether all was as it should be.
"""

import asyncio
import inspect
import json
import os
import sys
import uuid

KEY = "none"
MODEL = "demo"
SAID = ["My name is Ada.", "I live in Paris.", "What is my name?"]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def url() -> str:
    return os.environ["CHAT_URL"].replace("{chat}", f"client-{uuid.uuid4().hex[:12]}")


def remembers(answers: list[str]) -> bool:
    """Whether the answers count one message more each time."""
    return [f"({n} so far)" in answer for n, answer in enumerate(answers, 1)] == [True] * 3


def run(*checks) -> None:
    for check in checks:
        try:
            found = check(url())
            problem = "" if (asyncio.run(found) if inspect.iscoroutine(found) else found) else "no"
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:300]}"
        print(json.dumps({"check": check.__name__, "problem": problem}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some clients leave threads behind
