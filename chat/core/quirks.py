"""What one model of one server wants to be asked differently. Pure.

A refusal that names a parameter teaches it: then the same is asked once more, under the parameter's
other name or without it.
"""

import re
from typing import Literal

import msgspec
from msgspec.structs import replace

MaxTokensName = Literal["max_tokens", "max_completion_tokens"]
SystemRole = Literal["system", "developer", "user"]

_OPENAI = re.compile(r"(?:\w+\.)?api\.openai\.com")
_AZURE = re.compile(
    r".*\.(?:openai\.azure|services\.ai\.azure|cognitiveservices\.azure)\.(?:com|us|cn)"
)
_MAX_LOOKED_AT = 64 * 1024
# How servers say that they do not know a parameter, and not that its value is wrong.
_UNSUPPORTED = re.compile(
    r"unsupported|not support|un(?:known|recogni[sz]ed|expected)|extra|not (?:permitted|allowed)"
    r"|not available|instead|deprecated|only the default|no longer|invalid (?:field|parameter|arg)"
    r"|not recogni[sz]ed|does not exist|additional propert|incompatible|must not"
)
_NO_SYSTEM = re.compile(
    r"system (?:role|message|prompt)s?\b.{0,40}not|['\"`]system['\"`]|only user and assistant"
    r"|system.{0,40}(?:not supported|unsupported)|developer instruction is not enabled"
)


class Quirks(msgspec.Struct, frozen=True):
    """How a request is written. `temperature`, `usage`: whether they may be asked for.

    `own_options`: `store` and `include_obfuscation`, which only OpenAI itself knows.
    """

    max_tokens: MaxTokensName = "max_tokens"
    system_role: SystemRole = "system"
    temperature: bool = True
    usage: bool = True
    own_options: bool = False


def is_azure(host: str) -> bool:
    """Whether this host is Azure's, classic or v1: the key has a header of its own there."""
    return _AZURE.fullmatch(host) is not None


def first_quirks(host: str) -> Quirks:
    """What is known of a host before it was asked."""
    if _OPENAI.fullmatch(host):
        return Quirks(max_tokens="max_completion_tokens", own_options=True)
    return Quirks(max_tokens="max_completion_tokens") if is_azure(host) else Quirks()


def learn(quirks: Quirks, sent: bytes, refusal: bytes) -> Quirks:
    """The quirks after a 400 or 422; the same ones if the refusal names nothing we can change.

    `sent` and `refusal` are the bodies of the request and of the response.
    """
    text = refusal[:_MAX_LOOKED_AT].decode("utf-8", "replace").lower()
    fields = msgspec.json.decode(sent, type=_SentRequest)
    if _UNSUPPORTED.search(text):
        quirks = _learn_fields(quirks, fields, text)
    if quirks.system_role != "user" and fields.begins_with_instructions and _NO_SYSTEM.search(text):
        wants_developer = quirks.system_role == "system" and "developer" in text
        is_enabled = "not enabled" not in text
        role: SystemRole = "developer" if wants_developer and is_enabled else "user"
        quirks = replace(quirks, system_role=role)
    return quirks


class _SentMessage(msgspec.Struct, frozen=True):
    role: str


class _SentRequest(msgspec.Struct, frozen=True):
    messages: list[_SentMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    stream_options: object = None
    store: bool | None = None

    @property
    def begins_with_instructions(self) -> bool:
        return bool(self.messages) and self.messages[0].role in ("system", "developer")


def _learn_fields(quirks: Quirks, fields: _SentRequest, text: str) -> Quirks:
    if fields.max_tokens is not None and _names(text, "max_tokens"):
        quirks = replace(quirks, max_tokens="max_completion_tokens")
    elif fields.max_completion_tokens is not None and _names(text, "max_completion_tokens"):
        quirks = replace(quirks, max_tokens="max_tokens")
    if fields.temperature is not None and _names(text, "temperature"):
        quirks = replace(quirks, temperature=False)
    is_own = _names(text, "include_obfuscation") or _names(text, "store")
    if quirks.own_options and is_own:
        return replace(quirks, own_options=False)
    names_options = _names(text, "stream_options") or _names(text, "include_usage")
    if fields.stream_options is not None and names_options:
        quirks = replace(quirks, usage=False)
    return quirks


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){name}(?!\w)", text) is not None
