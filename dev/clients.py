"""`make test-clients`: real clients of the OpenAI API, unmodified, against a running function.

Each client is installed into a folder of its own under .clients/, and runs its script of
tests/clients. What works is written into docs/clients.md.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.model import Answer, ModelServer, demo_answer
from dev.redis_server import RedisServer, find_binary
from tests.harness import ROOT, Function

HOME = ROOT / ".clients"
SCRIPTS = ROOT / "tests" / "clients"
PAGE = ROOT / "docs" / "clients.md"
CHECKS = "chat stream history tools structured image errors cancel resume".split()
_SECONDS = 180.0


@dataclass(frozen=True)
class ApiClient:
    """A client: where its script is, and what has to be installed for it."""

    name: str
    script: str
    packages: tuple[str, ...]


CLIENTS = [
    ApiClient("openai (Python) 3.57.0", "openai_python.py", ("openai==3.57.0",)),
    ApiClient("openai (Python) 2.54.0", "openai_python.py", ("openai==2.54.0",)),
    ApiClient("langchain-openai 1.7.4", "langchain_python.py", ("langchain-openai==1.7.4",)),
    ApiClient("openai-agents 0.24.0", "agents_python.py", ("openai-agents==0.24.0",)),
    ApiClient("pydantic-ai 2.68.0", "pydantic_ai_python.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    ApiClient("litellm 1.110.2", "litellm_python.py", ("litellm==1.110.2",)),
    ApiClient(
        "llama-index 0.8.1", "llama_index_python.py", ("llama-index-llms-openai-like==0.8.1",)
    ),
    ApiClient("openai (JavaScript) 7.57.0", "openai_node.mjs", ("openai@7.57.0",)),
    ApiClient(
        "AI SDK 6.0.326",
        "ai_sdk.mjs",
        ("ai@6.0.326", "@ai-sdk/openai@3.0.141", "@ai-sdk/openai-compatible@2.0.92", "zod"),
    ),
    ApiClient(
        "@langchain/openai", "langchain_js.mjs", ("@langchain/openai", "@langchain/core", "zod")
    ),
    ApiClient("@openai/agents", "agents_js.mjs", ("@openai/agents", "openai", "zod")),
]


def answer(body: dict[str, Any]) -> Answer:
    """A model that calls the tools it is given, and keeps to schemas."""
    last = body["messages"][-1]
    count = sum(message["role"] == "user" for message in body["messages"])
    if last["role"] == "tool":
        return Answer([f"The tool said: {last['content']}"])
    if tools := body.get("tools"):
        return _call(tools[0]["function"], stream=bool(body.get("stream")))
    if "json_schema" in (body.get("response_format") or {}):
        return Answer(['{"city": "Paris"}'])
    if last["content"] == "long":
        return Answer([f"{n} " for n in range(40)], pause=0.03)
    return Answer([*demo_answer(body).pieces, f" ({count} so far)"])


def _call(function: dict[str, Any], *, stream: bool) -> Answer:
    names = (function.get("parameters") or {}).get("properties") or {}
    arguments = json.dumps(dict.fromkeys(names, "Paris"))
    called = {"name": function["name"], "arguments": arguments}
    call = {"index": 0, "id": f"call_{os.urandom(6).hex()}", "type": "function", "function": called}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    kind = "delta" if stream else "message"
    choice = {"index": 0, kind: message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    raw = json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode()
    return Answer(raw=b"data: %b\n\ndata: [DONE]\n\n" % raw if stream else raw)


def install(client: ApiClient) -> Path:
    """Install a client, if it is not there; returns its folder."""
    folder = HOME / "".join(c if c.isalnum() or c == "." else "-" for c in client.name)
    done = folder / "installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if client.script.endswith(".py"):
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin/pip"), "install", "-q", *client.packages])
        else:
            _run(["npm", "install", "--silent", "--prefix", str(folder), *client.packages])
        done.touch()
    return folder


def check(client: ApiClient, folder: Path, url: str) -> dict[str, str]:
    """What each of its checks says: "" is good."""
    if client.script.endswith(".py"):
        command = [str(folder / "bin/python"), "-B", str(SCRIPTS / client.script)]
    else:
        for name in (client.script, "checks.mjs"):  # imports are found beside a script
            (folder / name).write_text((SCRIPTS / name).read_text())
        command = ["node", str(folder / client.script)]
    done = subprocess.run(
        command,
        env=os.environ | {"CHAT_URL": url},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check')]
    if not lines:
        return {"chat": done.stderr.strip()[-300:] or "no output"}
    return {line["check"]: line["problem"] for line in lines}


def write_page(found: dict[str, dict[str, str]]) -> str:
    """docs/clients.md."""
    rows = [
        f"| {name} | {' | '.join(map(_cell, _row(checks)))} |" for name, checks in found.items()
    ]
    return "\n".join(
        [
            "# OpenAI clients",
            "",
            "Written by `make test-clients`: it installs these clients, unmodified, and runs them",
            "against a function (scripts in `tests/clients/`). Where a client has both APIs, Chat",
            "Completions and Responses are tried. Empty: not tried.",
            "",
            f"| client | {' | '.join(CHECKS)} |",
            f"|---|{'---|' * len(CHECKS)}",
            *rows,
            "",
        ]
    )


def _row(checks: dict[str, str]) -> list[str | None]:
    return [checks.get(name) for name in CHECKS]


def _cell(problem: str | None) -> str:
    return "" if problem is None else "fails" if problem else "works"


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Run all clients, or those whose names hold a word of the command line."""
    words = sys.argv[1:]
    chosen = [c for c in CLIENTS if not words or any(word in c.name for word in words)]
    folder = Path(tempfile.mkdtemp())
    model = ModelServer(answer=answer).start()
    redis = RedisServer(folder, binary=find_binary()).start()
    settings = {"GPT_API_KEY": "none", "OPENAI_BASE_URL": model.url, "REDIS_URL": redis.url}
    function = Function(settings | {"AUTH": "open"}, folder / "function.log").start()
    found: dict[str, dict[str, str]] = {}
    try:
        for client in chosen:
            url = f"{function.client.base}/{{chat}}/v1"
            found[client.name] = check(client, install(client), url)
            for name, problem in found[client.name].items():
                print(f"{client.name}: {name}: {problem or 'works'}", flush=True)
    finally:
        function.stop()
        redis.stop()
        model.stop()
    if not words:
        PAGE.write_text(write_page(found))
    return sum(bool(problem) for checks in found.values() for problem in checks.values())


if __name__ == "__main__":
    sys.exit(main())
