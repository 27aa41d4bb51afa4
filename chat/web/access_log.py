"""The access log: one JSON line per request, in the format of Cloud Logging.

Protocol: https://cloud.google.com/logging/docs/structured-logging. A line says who asked for what,
how it ended and what it used; it never contains a key or any content.
"""

import logging
import re
import sys
import time
import uuid
from collections.abc import Mapping

import msgspec
from flask import Request

from chat.web.headers import header

_ENTRY = "chatkeep.entry"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/.*)?")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_USER_KEY = re.compile(r"ck_[A-Za-z0-9._~-]{1,64}_[0-9a-f]{48}")
_FACTS = "method route owner chat turn ending status milliseconds tokens request_id trace".split()
log = logging.getLogger("chatkeep.requests")


class RequestEntry(msgspec.Struct):
    """The log entry of a request, filled in while it is answered (so it is mutable)."""

    request_id: str
    method: str
    trace: str
    began: float = msgspec.field(default_factory=time.monotonic)
    route: str = ""
    owner: str = ""
    chat: str = ""
    turn: str = ""
    ending: str = ""
    status: int = 0
    tokens: int = 0
    auth_seconds: float = 0.0

    def set_route(self, route: str, parts: Mapping[str, str]) -> None:
        """Note which route answers the request."""
        self.route, self.chat = route, parts.get("chat_id", "")

    @property
    def milliseconds(self) -> int:
        """The time since the request began."""
        return int((time.monotonic() - self.began) * 1000)

    def write(self) -> None:
        """Log the entry, as an error if the status is 5xx."""
        level = logging.ERROR if self.status >= 500 else logging.INFO
        facts = {name: getattr(self, name) for name in _FACTS}
        log.log(level, "%s %s %d", self.method, self.route, self.status, extra={"facts": facts})


def open_entry(request: Request) -> RequestEntry:
    """Begin the log entry of a request."""
    given = header(request, "X-Request-Id", "")
    request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    entry = RequestEntry(request_id, request.method, _trace_of(request))
    request.environ[_ENTRY] = entry
    return entry


def entry_of(request: Request) -> RequestEntry:
    """The log entry of a request that is being answered."""
    entry: RequestEntry = request.environ[_ENTRY]
    return entry


def _trace_of(request: Request) -> str:
    cloud = _CLOUD_TRACE.fullmatch(header(request, "X-Cloud-Trace-Context", ""))
    other = _TRACEPARENT.fullmatch(header(request, "traceparent", ""))
    match = cloud or other
    return match[1] if match else ""


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        line = {"severity": record.levelname, "message": record.getMessage()}
        facts = dict(getattr(record, "facts", {}))
        if trace := facts.pop("trace", ""):
            name = f"projects/{self._project}/traces/{trace}" if self._project else trace
            line["logging.googleapis.com/trace"] = name
        if record.exc_info:
            line["message"] += "\n" + self.formatException(record.exc_info)
        facts = {name: value for name, value in facts.items() if value != ""}
        text = msgspec.json.encode(line | facts).decode()
        # Redact a key that a client sent in the place of a chat id.
        return _USER_KEY.sub("ck_***", text)


def write_json_lines(project: str) -> None:
    """Make Chatkeep's loggers write JSON lines to stdout."""
    # Do not collect what no line shows (Python's logging HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001  # the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logger = logging.getLogger("chatkeep")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines(project))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
