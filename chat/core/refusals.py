"""Where model servers say that something went wrong, and how to say it. Pure.

Every provider has its own place and shape for an error, with an error status or with 200.
"""

import re

from chat.core.lenient_json import decode_all, without_surrogates
from chat.core.redaction import redact
from chat.core.reply import read_documents

NO_REASON = "no reason given"
_MAX_CHARACTERS = 500
_MAX_LOOKED_AT = 64 * 1024
_MAX_OF_A_PAGE = 8 * 1024
_MAX_DEPTH = 8
_MAX_REASONS = 3
_FINE = (None, "", False, 0, 200, *"0 200 ok OK success Success null none None".split())
_ERRORS = ("error", "errors", "base_resp")
_WORDS = (
    "message msg detail details error_message errorMessage error_msg status_msg error_description"
    " description reason title Message fault cause raw"
).split()
_CODES = ("code", "status_code", "statusCode", "error_code", "errorCode")
_FAILED = ("error", "failed", "failure")
#: Finish reasons that say that something went wrong.
BROKEN_OFF = frozenset("error network_error insufficient_system_resource abort".split())
_HTML = re.compile(r"<(?:!doctype|html|head|body|h[1-3]|p|div|pre|center|\?xml)\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][\w.-]{1,63}")
_TITLE = re.compile(r"<(title|h1|message)\b[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)


def find_error(document: dict[str, object]) -> str | None:
    """What a whole reply, or an event, says went wrong; None if it says no such thing."""
    choices, groq = document.get("choices"), document.get("x_groq")
    if isinstance(groq, dict) and not _is_blank(groq.get("error")):
        return describe(groq["error"]) or NO_REASON
    if _says_error(document) or (not choices and _says_failure(document)):
        return describe({k: v for k, v in document.items() if k != "choices"}) or NO_REASON
    if isinstance(choices, list) and choices:
        return _find_in_choice(choices[0])
    return None


def find_hint(document: object) -> str:
    """Words that may be the reason, should nothing else follow: `{"message": "No credit"}`."""
    if isinstance(document, str):
        return describe(document)
    if isinstance(document, dict) and not document.get("choices"):
        return describe({name: document[name] for name in _WORDS if name in document})
    return ""


def describe(value: object, depth: int = 0) -> str:
    """The words of an error, whatever they are wrapped in; "" if there are none."""
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return _describe_text(value, depth)
    if isinstance(value, list):
        reasons = [describe(item, depth + 1) for item in value[:_MAX_REASONS]]
        return "; ".join(reason for reason in reasons if reason)
    return _describe_object(value, depth) if isinstance(value, dict) else ""


def describe_error(body: bytes, *secrets: str) -> str:
    """The server's own words about what went wrong, on one line, without keys."""
    documents, stray = read_documents(body)
    for document in documents:
        found = decode_all(document)
        for value in [*found.values, found.rest]:
            if reason := describe(value):
                return sanitize(reason, *secrets)
    return sanitize(describe(stray.decode("utf-8", "replace")), *secrets)


def find_code(body: bytes) -> str:
    """The code of a refusal, e.g. `model_not_found`; no words, which might quote a message."""
    found = decode_all(body[:_MAX_LOOKED_AT]).values
    value = found[0] if found else None
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return ""
    error = value.get("error")
    places = [error, value] if isinstance(error, dict) else [value]
    codes = [str(place.get(name)) for place in places for name in ("code", "status", "type")]
    return next((code for code in codes if _NAME.fullmatch(code) and code != "None"), "")


def sanitize(reason: str, *secrets: str) -> str:
    """A reason fit for clients and the log: one line of bounded length, without keys."""
    line = " ".join(without_surrogates(reason[:_MAX_LOOKED_AT]).split())
    line = "".join(character for character in line if character.isprintable())
    return redact(line, *secrets)[:_MAX_CHARACTERS] or NO_REASON


def _says_error(document: dict[str, object]) -> bool:
    """Whether there is an error, whatever stands beside it."""
    if not _is_blank(document.get("error")):
        return True
    if "error" in (document.get("object"), document.get("type")):
        return True
    base = document.get("base_resp")
    return isinstance(base, dict) and base.get("status_code") not in _FINE


def _says_failure(document: dict[str, object]) -> bool:
    """Whether a document that holds no answer tells of an error."""
    if any(not _is_blank(document.get(name)) for name in ("errors", "detail")):
        return True
    if document.get("success") is False:
        return True
    status = document.get("status")
    if status in _FAILED or (isinstance(status, int) and status >= 400):
        return True
    fails = any(_is_code(document.get(name)) for name in _CODES)
    return fails and any(not _is_blank(document.get(name)) for name in _WORDS)


def _find_in_choice(choice: object) -> str | None:
    if not isinstance(choice, dict):
        return None
    for place in (choice, choice.get("delta"), choice.get("message")):
        if isinstance(place, dict) and not _is_blank(place.get("error")):
            return describe(place["error"]) or NO_REASON
    if str(choice.get("finish_reason")).lower() in BROKEN_OFF:
        return NO_REASON
    return None


def _is_code(value: object) -> bool:
    return isinstance(value, int | str) and value not in _FINE


def _is_blank(value: object, depth: int = 0) -> bool:
    """Whether an error is none: null, {}, {"message": "", "code": 0}."""
    if depth > _MAX_DEPTH:
        return True
    if isinstance(value, dict):
        return all(_is_blank(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return all(_is_blank(item, depth + 1) for item in value)
    return isinstance(value, int | float | str | None) and value in _FINE


def _describe_object(value: dict[str, object], depth: int) -> str:
    reasons: list[str] = []
    for name in (*_ERRORS, *_WORDS):
        _add(reasons, describe(value.get(name), depth + 1))
        if len(reasons) > 1:
            break
    where = value.get("loc")
    if reasons and isinstance(where, list):  # FastAPI
        reasons[0] = f"{'.'.join(map(str, where[:8]))}: {reasons[0]}"
    metadata = value.get("metadata")
    if isinstance(metadata, dict):  # OpenRouter
        _add(reasons, describe(metadata.get("raw"), depth + 1))
    if not reasons:
        _add(reasons, _describe_code(value))
    return ": ".join(reasons)


def _add(reasons: list[str], reason: str) -> None:
    if reason and not any(reason in known for known in reasons):
        reasons.append(reason)


def _describe_code(value: dict[str, object]) -> str:
    codes = [value[name] for name in ("type", "status", *_CODES) if _is_code(value.get(name))]
    named = [str(code)[:_MAX_CHARACTERS] for code in codes if code not in ("error", True)]
    return f"code {named[-1]}" if named else ""


def _describe_text(text: str, depth: int) -> str:
    text = text[:_MAX_LOOKED_AT].strip()
    if text.startswith(("{", "[")):
        found = decode_all(text.encode("utf-8", "replace"))
        if found.values and (reason := describe(found.values[0], depth + 1)):
            return reason
    text = text[:_MAX_OF_A_PAGE]
    page = _HTML.search(text)
    if not page:
        return text
    title = _TITLE.search(text)
    named = " ".join(title[2].split()) if title else ""
    page_named = f"an HTML page ({re.sub(r'<[^>]*>', ' ', named)})" if named else "an HTML page"
    before = text[: page.start()].strip()
    return f"{before} {page_named}" if before else page_named
