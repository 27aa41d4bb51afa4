"""Hides keys in errors and logs, in whatever form they are quoted. Pure."""

import re
from urllib.parse import quote

import msgspec

_HIDDEN = "***"
_MAX_TEXT = 2000  # more than is ever shown: some of the patterns are slow on long words
_WINDOW = 8  # so many characters of the key in a row are too many
_SHORT = 8  # a key that short (`none`, `ollama`) is hidden only where it stands alone

_BODY = r"[\w*.…•~+/=-]"
_SHAPES = re.compile(
    rf"\b(?:sk|pk|rk|gsk|xai|hf|r8|fw|csk|nvapi|pplx|tgp|ghp|gho|glpat|sess|vck|github_pat)"
    rf"[-_]{_BODY}{{6,}}"
    rf"|\b(?:AIza|ya29\.|eyJ|AKIA){_BODY}{{8,}}"
    rf"|\b[Bb]earer[-_ ]+(?!token|auth){_BODY}{{6,}}",
)
# `API key provided: abc1`, `api_key=abc1`, `x-api-key: 'abc1'`
_NAMED = re.compile(
    r"((?:api|access|secret|auth)[-_ ]?(?:key|token|secret)(?: provided| given)?[\"'`]?"
    r"\s*[:=]\s*[\"'`(]*)(?=\S*[\d*])(?!\*{3}\B)([^\s\"'`,;)<>{}]{4,})",
    re.IGNORECASE,
)
_MASK = r"(?:\*+|…+|\.{2,}|•+|#{3,}|[xX]{3,})"
_MASKED = re.compile(rf"(?<![\w+/=~-])[\w+/=~-]*(?:{_MASK}[\w+/=~-]*)+")
_EDGES = re.compile(
    r"((?:start|begin|end)\w*\s+(?:in|with)[:\s]+[\"'`(]*)([^\s\"'`,;)<>]{2,})", re.I
)


def redact(text: str, *secrets: str) -> str:
    """The text without any of the secrets, in whole or in part, and without what looks like any key."""
    text = text[:_MAX_TEXT]
    for secret in filter(None, secrets):
        text = _hide_edges(_hide_masked(_hide_secret(text, secret), secret), secret)
    text = _SHAPES.sub(_HIDDEN, text)
    return _NAMED.sub(rf"\1{_HIDDEN}", text)


def _hide_secret(text: str, secret: str) -> str:
    if len(secret) < _SHORT:
        alone = rf"(?<!\w){re.escape(secret)}(?!\w)"
        return re.sub(alone, _HIDDEN, text, flags=re.IGNORECASE)
    for form in {secret, quote(secret, safe=""), _in_json(secret), repr(secret)[1:-1]}:
        text = re.sub(re.escape(form), _HIDDEN, text, flags=re.IGNORECASE)
    return _hide_stretches(text, secret)


def _hide_stretches(text: str, secret: str) -> str:
    """Hide every stretch of the key that is long enough to be one."""
    secret_small, small = secret.lower(), text.lower()
    if len(small) != len(text):  # a few characters change their length
        secret_small, small = secret, text
    kept: list[str] = []
    at = 0
    while at < len(text):
        end = at + _WINDOW
        if small[at:end] not in secret_small or end > len(text):
            kept.append(text[at])
            at += 1
            continue
        while end < len(text) and small[at : end + 1] in secret_small:
            end += 1
        kept.append(_HIDDEN)
        at = end
    return "".join(kept)


def _hide_masked(text: str, secret: str) -> str:
    """Hide `gsk_ab...WXYZ` and `********WXYZ`, if it is this key that is quoted so."""

    def hide(found: re.Match[str]) -> str:
        first, *_, last = re.split(_MASK, found[0])
        return _HIDDEN if _is_edge(first, secret) or _is_edge(last, secret) else found[0]

    return _MASKED.sub(hide, text)


def _hide_edges(text: str, secret: str) -> str:
    """Hide `... ending in WXYZ`."""

    def hide(found: re.Match[str]) -> str:
        return found[1] + _HIDDEN if _is_edge(found[2].strip(".*…"), secret) else found[0]

    return _EDGES.sub(hide, text)


def _is_edge(part: str, secret: str) -> bool:
    part, secret = part.lower(), secret.lower()
    return len(part) >= 2 and (secret.startswith(part) or secret.endswith(part))


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]
