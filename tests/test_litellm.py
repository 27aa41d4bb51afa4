"""The function with a real LiteLLM proxy between it and the model: `make test-providers`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from dev.model import Answer, ModelServer
from tests.harness import ROOT, Client, StartFunction, free_port, text_of, wait_until
from tests.test_bad_input import assert_error

LITELLM = ROOT / ".peers/litellm/bin/litellm"
MASTER_KEY = "sk-litellm-master-0123456789"
START_SECONDS = 120.0
CONFIG = """
model_list:
- model_name: gpt-5.4-mini
  litellm_params: {{model: openai/plain, api_base: "{url}", api_key: sk-of-the-model-0123, max_retries: 0}}
litellm_settings: {{telemetry: false, num_retries: 0}}
general_settings: {{master_key: {key}}}
"""

if not LITELLM.exists() and not os.environ.get("CI_PROVIDERS"):
    pytest.skip("LiteLLM is not installed: make test-providers", allow_module_level=True)


@pytest.fixture(scope="module")
def proxy(model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("litellm")
    (folder / "config.yaml").write_text(CONFIG.format(url=model_server.url, key=MASTER_KEY))
    port = free_port()
    arguments = [str(LITELLM), "--host=127.0.0.1", f"--port={port}", "--config=config.yaml"]
    # It asks the internet for prices when it starts, unless it is told to use its own.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        live = f"http://127.0.0.1:{port}/health/liveliness"
        assert wait_until(lambda: _answers(live), START_SECONDS), (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture(scope="module")
def through(start_function: StartFunction, proxy: str) -> Client:
    client: Client = start_function(
        OPENAI_BASE_URL=proxy, GPT_API_KEY=MASTER_KEY, MAX_OUTPUT_TOKENS="50"
    ).client
    return client


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_goes_through_litellm(
    through: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    for text in ("one", "two"):
        model.enqueue(Answer(pieces=["Hel", "lo ", text]))
        reply = through.say(chat_id, text, stream=stream)
        last = reply.events[-1].data if stream else reply.json
        assert (reply.status, last["content"], last["status"]) == (
            200,
            f"Hello {text}",
            "completed",
        )
        assert last["usage"]["completion_tokens"] > 0
        if stream:
            assert text_of(reply.events) == f"Hello {text}"
    assert [m["content"] for m in model.requests[-1].body["messages"]] == [
        "one",
        "Hello one",
        "two",
    ]
    capped = {model.requests[-1].body.get(n) for n in ("max_tokens", "max_completion_tokens")}
    assert 50 in capped


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_behind_litellm_is_told(
    through: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=400, error="The model does not like this"))
    reply = through.say(chat_id, "x", stream=stream)
    assert_error(reply, 502, "upstream_refused")
    assert "The model does not like this" in reply.json["error"]["message"]
    assert through.get(f"/{chat_id}/chat").json == []


def test_a_wrong_key_for_litellm_is_told_and_not_shown(
    start_function: StartFunction, proxy: str, chat_id: str
) -> None:
    client = start_function(OPENAI_BASE_URL=proxy, GPT_API_KEY="sk-wrong-0123456789").client
    reply = client.say(chat_id, "x")
    assert_error(reply, 502, "upstream_refused")
    assert b"0123456789" not in reply.body
