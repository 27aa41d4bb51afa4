"""The table of the model's parameters: which are passed on, and at what price.

passed     goes to the model as it came; costs nothing beyond the tokens of the answer, which
           MAX_OUTPUT_TOKENS caps
allowed    goes to the model only if ALLOWED_PARAMETERS names it, for it changes the price
ours       read by this server, or replaced: the model does not get it as it came
refused    only in its harmless form, which changes nothing; the answer could not show its effect
"""

from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec

from chat.core.errors import InvalidRequest
from chat.web.dialects import Schema

Rule = Literal["passed", "allowed", "ours", "refused"]


class Parameter(msgspec.Struct, frozen=True):
    """`harmless`: values that change nothing, and are left out."""

    name: str
    rule: Rule
    is_valid: Callable[[Any], bool]
    kind: str
    harmless: tuple[Any, ...] = ()


def _is_number(minimum: float, maximum: float) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return type(value) in (int, float) and minimum <= value <= maximum

    return check


def _is_stop(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return len(texts) <= 16 and all(isinstance(text, str) for text in texts)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds


_TEXT, _OBJECT, _FLAG = _is(str), _is(dict), _is(bool)
_NONE: tuple[Any, ...] = (False, 0, [], {}, "")

TABLE = {
    p.name: p
    for p in [
        Parameter("top_p", "passed", _is_number(0, 1), "a number from 0 to 1"),
        Parameter("stop", "passed", _is_stop, "a string or up to 16 strings"),
        Parameter("seed", "passed", _is(int), "a whole number"),
        Parameter("presence_penalty", "passed", _is_number(-2, 2), "a number from -2 to 2"),
        Parameter("frequency_penalty", "passed", _is_number(-2, 2), "a number from -2 to 2"),
        Parameter("logit_bias", "passed", _OBJECT, "an object"),
        Parameter("response_format", "passed", _OBJECT, "an object", ({"type": "text"},)),
        Parameter("reasoning_effort", "passed", _TEXT, "a string"),
        Parameter("verbosity", "passed", _TEXT, "a string"),
        Parameter("tools", "passed", _is(list), "a list", ([],)),
        Parameter("tool_choice", "passed", _is(str, dict), "a string or an object"),
        Parameter("parallel_tool_calls", "passed", _FLAG, "true or false"),
        Parameter("service_tier", "allowed", _TEXT, "a string", ("auto", "default")),
        Parameter("prediction", "allowed", _OBJECT, "an object"),
        Parameter("web_search_options", "allowed", _OBJECT, "an object"),
        Parameter("n", "refused", _is(int), "1", (1,)),
        Parameter("best_of", "refused", _is(int), "1", (1,)),
        Parameter("logprobs", "refused", _FLAG, "false", _NONE),
        Parameter("top_logprobs", "refused", _is(int), "0", _NONE),
        Parameter("modalities", "refused", _is(list), '["text"]', (["text"],)),
        Parameter("audio", "refused", _OBJECT, "left out", _NONE),
        Parameter("functions", "refused", _is(list), "left out; use `tools`", _NONE),
        Parameter("function_call", "refused", _is(str, dict), "left out", ("none", "auto")),
        Parameter("moderation", "refused", _is(str, dict), "left out", _NONE),
        *(
            Parameter(name, "ours", lambda value: True, "")
            for name in (
                "model messages stream stream_options max_tokens max_completion_tokens temperature"
                " metadata store user safety_identifier prompt_cache_key prompt_cache_retention"
                " prompt_cache_options"
            ).split()
        ),
    ]
}
_TOOLS = ("function", "custom")


def read_parameters(
    fields: dict[str, Any], allowed: Collection[str] = (), *, strict: bool = True
) -> dict[str, Any]:
    """What is passed on of a request. Raises InvalidRequest.

    `allowed`: the names in ALLOWED_PARAMETERS; `strict`: refuse what is not in the table.
    """
    passed = {}
    for name, value in fields.items():
        parameter = TABLE.get(name)
        if value is None or (parameter is None and not strict):
            continue
        if parameter is None:
            if name not in allowed:
                raise unsupported(name)
            passed[name] = value
        elif parameter.rule != "ours" and not _is_harmless(parameter, value):
            passed[name] = _check(parameter, value, allowed)
    if "tools" not in passed:  # servers refuse these without tools
        passed.pop("tool_choice", None)
        passed.pop("parallel_tool_calls", None)
    return passed


def unsupported(name: str, reason: str = "") -> InvalidRequest:
    """The error for what is not passed on."""
    reason = reason or "it is not in the setting ALLOWED_PARAMETERS of this server"
    return InvalidRequest(
        f"`{name}` is not supported: {reason}.", param=name, code="unsupported_parameter"
    )


def _check(parameter: Parameter, value: Any, allowed: Collection[str]) -> Any:
    name = parameter.name
    if not parameter.is_valid(value):
        raise InvalidRequest(f"`{name}` must be {parameter.kind}.", param=name)
    if parameter.rule == "refused":
        raise unsupported(name, f"it must be {parameter.kind}")
    if parameter.rule == "allowed" and name not in allowed:
        raise unsupported(name)
    if name == "tools":
        _check_tools(value, allowed)
    return value


def _check_tools(tools: list[Any], allowed: Collection[str]) -> None:
    """Tools that the model's provider runs cost extra: they are named like `tools.web_search`."""
    for tool in tools:
        kind = tool.get("type", "") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest("`tools` must be a list of objects with a `type`.", param="tools")
        if kind not in _TOOLS and f"tools.{kind}" not in allowed:
            raise unsupported(f"tools.{kind}")


def _is_harmless(parameter: Parameter, value: Any) -> bool:
    return any(type(value) is type(known) and value == known for known in parameter.harmless)


#: What the native API takes of the table, as JSON Schema.
NATIVE: Schema = {
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "stop": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "seed": {"type": "integer"},
    "response_format": {"type": "object"},
    "reasoning_effort": {"type": "string"},
    "tools": {"type": "array"},
    "tool_choice": {"oneOf": [{"type": "string"}, {"type": "object"}]},
    "parallel_tool_calls": {"type": "boolean"},
}
