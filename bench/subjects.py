"""What is measured, as data: how each subject is started, and what requests it takes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.preload import Preload, preload_fifty, preload_ours
from tests.harness import ROOT

_PEERS = ROOT / ".peers"  # where `make bench-peers` installs
_FUNCTION = (sys.executable, "-m", "functions_framework", "--target=main", "--host=127.0.0.1")
_TEXT = "A question of one hundred bytes: what would you say to somebody who asks you something like that?"


@dataclass(frozen=True)
class Subject:
    """A server; {port}, {model}, {redis} and {folder} are filled into its texts.

    `folder` is where its command runs, `needs` the file without which it is left out, `files` are
    written into {folder} before. Streams and history are measured up to the most it is good for.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/CHAT/chat"
    body: str = f'{{"content": "{_TEXT}"}}'
    headers: str = ""
    most_streams: int = 1000
    most_history: int = 0
    preload: Preload | None = None
    folder: Path = ROOT
    needs: Path = ROOT
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        return self.needs.exists()

    @property
    def is_the_model(self) -> bool:
        return not self.command

    @property
    def uses_redis(self) -> bool:
        return any("{redis}" in text for text in self.environment.values())

    def body_of(self, *, stream: bool) -> str:
        return self.body.removesuffix("}") + ', "stream": true}' if stream else self.body


_OPENAI_PATH = "/v1/chat/completions"
_OPENAI_BODY = f'{{"model": "bench", "messages": [{{"role": "user", "content": "{_TEXT}"}}]}}'
_CONNECTED = {"OPENAI_BASE_URL": "{model}", "REDIS_URL": "{redis}"}

MODEL = Subject("the model itself", path=_OPENAI_PATH, body=_OPENAI_BODY)
HELLO = Subject(
    "bare function", (*_FUNCTION, "--source=bench/hello.py", "--port={port}"), most_streams=0
)
FIFTY = Subject(
    "50 lines, openai SDK",
    (*_FUNCTION, "--source=bench/fifty.py", "--port={port}"),
    {**_CONNECTED, "THREADS": "256"},
    preload=preload_fifty,
    most_history=1000,  # it replays everything: half a minute per turn at 100,000 messages
)
OURS = Subject(
    "Chatkeep",
    (*_FUNCTION, "--source=main.py", "--port={port}"),
    _CONNECTED,
    preload=preload_ours,
    most_history=100_000,
)

# Neither keeps a history, so they do less. Versions: see the Makefile and peers.json.
LITELLM = Subject(
    "LiteLLM (no history)",
    (
        str(_PEERS / "litellm/bin/litellm"),
        *("--host=127.0.0.1", "--port={port}", "--config={folder}/litellm.yaml"),
    ),
    # Acceptable only because nothing but this machine can reach the server.
    {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
    path=_OPENAI_PATH,
    body=_OPENAI_BODY,
    most_streams=250,
    needs=_PEERS / "litellm/bin/litellm",
    files={
        "litellm.yaml": "model_list:\n- model_name: bench\n  litellm_params:\n"
        "    model: openai/bench\n    api_base: {model}\n    api_key: none\n"
    },
)
_NODE = _PEERS / "node_modules/.bin/node"
_PORTKEY = _PEERS / "node_modules/@portkey-ai/gateway/build/start-server.js"
PORTKEY = Subject(
    "Portkey (no history)",
    (str(_NODE), str(_PORTKEY), "--port={port}", "--headless"),
    path=_OPENAI_PATH,
    body=_OPENAI_BODY,
    headers="x-portkey-provider: openai\r\nx-portkey-custom-host: {model}\r\n"
    "Authorization: Bearer none\r\n",
    needs=_NODE,
)

SUBJECTS = (MODEL, HELLO, FIFTY, OURS, LITELLM, PORTKEY)
