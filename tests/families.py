"""How the families of model servers answer: in the shapes they document or were reported to send.

A family has a base URL and settings (for the page), a stream, a whole answer, a refusal, and the
name of the parameter that caps an answer. Each answer says "Hello", after 7 tokens, with 5.
"""

from typing import Any, NamedTuple

from tests.replies import DONE, event, whole

USAGE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
KEY = "`GPT_API_KEY`"
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


class Family(NamedTuple):
    """`thinks`: whether `stream` and `whole` have thinking; it is always "plan"."""

    base_url: str
    settings: str
    stream: bytes
    whole: bytes
    refusal: tuple[int, bytes]
    reason: str
    cap: str = "max_tokens"
    refuses: str = ""  # what a stream may not be asked with
    thinks: bool = False


def _delta(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({**HEAD, "choices": [choice | more.pop("choice", {})], **more})


def _stream(*before: bytes, last: bytes = b"", end: bytes = DONE) -> bytes:
    text = _delta({"content": "Hel"}) + _delta({"content": "lo"})
    return b"".join(before) + text + (last or _delta({}, "stop", usage=USAGE)) + end


def _with_usage_chunk(*before: bytes) -> bytes:
    usage = event({**HEAD, "choices": [], "usage": USAGE})
    return _stream(*before, last=_delta({}, "stop") + usage)


def _whole(**message: Any) -> bytes:
    answer = {"role": "assistant", "content": "Hello", **message}
    choice = {"index": 0, "message": answer, "finish_reason": "stop"}
    return event({"object": "chat.completion", "choices": [choice], "usage": USAGE})[6:-2]


def _error(**error: Any) -> bytes:
    return event({"error": error})[6:-2]


ROLE = _delta({"role": "assistant", "content": "", "refusal": None})
REASONED = _delta({"role": "assistant", "content": None, "reasoning_content": "plan"})
REASONING = _delta({"role": "assistant", "content": "", "reasoning": "plan"})
FILTERS = event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""})
OPENAI = (400, _error(message="Invalid 'x'.", type="invalid_request_error", param="x", code=None))
VLLM = event({"object": "error", "message": "Too long", "type": "BadRequestError", "code": 400})[6:]
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]}]
GEMINI = event([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID"}}])[6:]
CLOUDFLARE = event({"success": False, "errors": [{"code": 7003, "message": "No route"}]})[6:]
OLLAMA = _error(message="model 'x' not found", type="not_found_error", param=None, code=None)
RAW = {"raw": '{"error":{"message":"Overloaded"}}', "provider_name": "P"}
AZURE = (404, _error(code="DeploymentNotFound", message="The API deployment does not exist."))
NEW_CAP = "max_completion_tokens"

FAMILIES: dict[str, Family] = {
    "OpenAI": Family(
        "https://api.openai.com/v1",
        KEY,
        _with_usage_chunk(ROLE),
        _whole(refusal=None),
        OPENAI,
        "Invalid 'x'.",
        cap=NEW_CAP,
    ),
    "Azure v1": Family(
        "https://NAME.openai.azure.com/openai/v1",
        KEY,
        _with_usage_chunk(FILTERS, ROLE),
        _whole(refusal=None),
        AZURE,
        "deployment does not exist",
        cap=NEW_CAP,
    ),
    "Azure classic": Family(
        "https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=2024-10-21",
        KEY,
        _with_usage_chunk(FILTERS, ROLE),
        _whole(),
        AZURE,
        "deployment does not exist",
        cap=NEW_CAP,
    ),
    "OpenRouter": Family(
        "https://openrouter.ai/api/v1",
        KEY,
        _with_usage_chunk(b": OPENROUTER PROCESSING\n\n", REASONING),
        _whole(reasoning="plan"),
        (502, _error(message="Provider returned error", code=502, metadata=RAW)),
        "Overloaded",
        thinks=True,
    ),
    "Groq": Family(
        "https://api.groq.com/openai/v1",
        KEY,
        _stream(REASONING, last=_delta({}, "stop", x_groq={"id": "r", "usage": USAGE})),
        _whole(reasoning="plan"),
        (404, _error(message="The model `x` does not exist", code="model_not_found")),
        "does not exist",
        thinks=True,
    ),
    "DeepSeek": Family(
        "https://api.deepseek.com/v1",
        KEY,
        _stream(b": keep-alive\n\n", REASONED),
        _whole(reasoning_content="plan"),
        (400, _error(message="Model Not Exist", type="invalid_request_error", code=None)),
        "Model Not Exist",
        thinks=True,
    ),
    "Qwen (DashScope)": Family(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        KEY,
        _with_usage_chunk(REASONED),
        _whole(reasoning_content="plan"),
        (400, _error(code="invalid_parameter_error", message="Range of max_tokens", type="x")),
        "Range of max_tokens",
        thinks=True,
    ),
    "Kimi": Family(
        "https://api.moonshot.ai/v1",
        KEY,
        _stream(REASONED, last=_delta({}, "stop", choice={"usage": USAGE})),
        _whole(reasoning_content="plan"),
        (400, _error(message="Invalid request", type="invalid_request_error")),
        "Invalid request",
        thinks=True,
    ),
    "Mistral": Family(
        "https://api.mistral.ai/v1",
        KEY,
        _stream(_delta({"content": PARTS})),
        whole([*PARTS, {"type": "text", "text": "Hello"}], usage=USAGE),
        (400, event({"object": "error", "message": "Invalid model: x", "code": "1500"})[6:]),
        "Invalid model: x",
        refuses="stream_options",
        thinks=True,
    ),
    "Gemini": Family(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        KEY,
        _stream(_delta({"content": "<thought>plan</thought>", "role": "assistant"})),
        _whole(content="<thought>plan</thought>Hello"),
        (400, GEMINI),
        "API key not valid.",
        thinks=True,
    ),
    "Vertex AI": Family(
        "https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION/endpoints/openapi",
        "none: the token of the instance's service account",
        _stream(ROLE),
        _whole(),
        (400, GEMINI),
        "API key not valid.",
    ),
    "Anthropic-compatible": Family(
        "https://api.anthropic.com/v1",
        KEY,
        _with_usage_chunk(ROLE),
        _whole(),
        (400, _error(code="invalid_request_error", message="messages: required", type="x")),
        "messages: required",
    ),
    "Ollama": Family(
        "http://localhost:11434/v1",
        "",
        _with_usage_chunk(REASONING),
        _whole(reasoning="plan"),
        (404, OLLAMA),
        "model 'x' not found",
        thinks=True,
    ),
    "llama.cpp": Family(
        "http://localhost:8080/v1",
        "",
        _with_usage_chunk(REASONED),
        _whole(reasoning_content="plan"),
        (400, b'error: {"code":400,"message":"context exceeded","type":"x"}\n\n'),
        "context exceeded",
        thinks=True,
    ),
    "vLLM": Family(
        "http://localhost:8000/v1",
        "",
        _with_usage_chunk(ROLE, REASONED),
        _whole(reasoning_content="plan", tool_calls=[]),
        (400, VLLM),
        "Too long",
        thinks=True,
    ),
    "SGLang": Family(
        "http://localhost:30000/v1",
        "",
        _with_usage_chunk(
            _delta({"role": "assistant", "content": "", "reasoning_content": "plan"})
        ),
        _whole(reasoning_content="plan", tool_calls=None),
        (400, VLLM),
        "Too long",
        thinks=True,
    ),
    "TGI": Family(
        "http://localhost:3000/v1",
        "",
        _with_usage_chunk().replace(b"data: ", b"data:"),
        _whole(),
        (422, event({"error": "Input validation error: x", "error_type": "validation"})[6:]),
        "Input validation error",
    ),
    "LM Studio": Family(
        "http://localhost:1234/v1",
        "",
        _with_usage_chunk(_delta({"content": "<think>plan</think>"})),
        _whole(content="<think>plan</think>\n\nHello"),
        (200, b'{"error":"Unexpected endpoint or method. (POST /x)"}'),
        "Unexpected endpoint",
        thinks=True,
    ),
    "LiteLLM": Family(
        "http://localhost:4000/v1",
        KEY,
        _with_usage_chunk(ROLE),
        _whole(tool_calls=None, function_call=None),
        (400, _error(message="litellm.BadRequestError: x", type=None, param=None, code="400")),
        "litellm.BadRequestError",
    ),
    "Cloudflare AI Gateway": Family(
        "https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/compat",
        f'{KEY}, `UPSTREAM_HEADERS={{"cf-aig-authorization": "Bearer TOKEN"}}`',
        _with_usage_chunk(ROLE),
        _whole(),
        (404, CLOUDFLARE),
        "No route",
    ),
    "Portkey": Family(
        "https://api.portkey.ai/v1",
        '`UPSTREAM_HEADERS={"x-portkey-api-key": "KEY", "x-portkey-provider": "@NAME"}`',
        _with_usage_chunk(ROLE),
        _whole(),
        (400, b'{"status":"failure","message":"Invalid config passed"}'),
        "Invalid config passed",
    ),
    "Helicone": Family(
        "https://oai.helicone.ai/v1",
        f'{KEY}, `UPSTREAM_HEADERS={{"Helicone-Auth": "Bearer KEY"}}`',
        _with_usage_chunk(ROLE),
        _whole(),
        OPENAI,
        "Invalid 'x'.",
        cap=NEW_CAP,
    ),
}
