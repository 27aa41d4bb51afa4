"""The access log: one JSON line per request, and one per act of an admin, for Cloud Logging.

Protocol: https://cloud.google.com/logging/docs/structured-logging. A line says who asked for what,
how it ended, why it failed and what it used; it never contains a key or any content.
"""

import logging
import re
import sys
import time
import uuid
from collections.abc import Callable, Mapping

import msgspec
from flask import Request

from chat.settings import VERSION, Settings
from chat.turns.report import TurnReport
from chat.web.headers import header

_ENTRY = "chatkeep.entry"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/.*)?")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_USER_KEY = re.compile(r"ck_[A-Za-z0-9._~-]{1,64}_[0-9a-f]{48}")
_FACTS = "method route owner chat turn status code milliseconds stream request_id trace".split()
_TURN_FACTS = (
    "model agent ending attempts upstream_status upstream_request_id upstream_failure"
    " tokens_in tokens_out"
).split()
log = logging.getLogger("chatkeep.requests")
audit_log = logging.getLogger("chatkeep.audit")


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
    status: int = 0
    code: str = ""  # of the error
    stream: bool | None = None  # None: it asks for no turn
    report: TurnReport | None = None  # of the turn that it ran, once that has ended
    auth_seconds: float = 0.0
    traceparent: str = ""
    observe: Callable[["RequestEntry"], None] | None = None

    def set_route(self, route: str, parts: Mapping[str, str]) -> None:
        """Note which route answers the request."""
        self.route, self.chat = route, parts.get("chat_id", "")

    @property
    def milliseconds(self) -> int:
        """The time since the request began."""
        return int((time.monotonic() - self.began) * 1000)

    def end_turn(self, report: TurnReport) -> None:
        """Note how its turn ended; before its last bytes are sent, after which there is no CPU."""
        self.report, self.code = report, report.code
        if self.observe:
            self.observe(self)

    def fail(self, code: str) -> None:
        """Note that it is answered with an error, and no turn of it has run."""
        self.code = code
        if self.observe:
            self.observe(self)

    def write(self) -> None:
        """Log the entry, as an error if it was a fault of the server."""
        failed = self.status >= 500 or (self.report is not None and self.report.ending == "failed")
        log.log(
            logging.ERROR if failed else logging.INFO,
            "%s %s %d",
            self.method,
            self.route,
            self.status,
            extra={"facts": self.facts()},
        )

    def facts(self) -> dict[str, object]:
        """What the line has, beside its severity and message; None and "" are left out of it."""
        return {name: getattr(self, name) for name in _FACTS} | self._turn_facts()

    def _turn_facts(self) -> dict[str, object]:
        report = self.report
        if report is None:
            return {}
        facts = {name: getattr(report, name) or None for name in _TURN_FACTS}
        if first := report.times.first_text_at:
            facts["first_token_milliseconds"] = int((first - self.began) * 1000)
        return facts


def open_entry(request: Request) -> RequestEntry:
    """Begin the log entry of a request."""
    given = header(request, "X-Request-Id", "")
    request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    entry = RequestEntry(
        request_id,
        request.method,
        _trace_of(request),
        traceparent=header(request, "traceparent", ""),
    )
    request.environ[_ENTRY] = entry
    return entry


def entry_of(request: Request) -> RequestEntry:
    """The log entry of a request that is being answered."""
    entry: RequestEntry = request.environ[_ENTRY]
    return entry


def audit(request: Request, act: str, user: str, changed: Mapping[str, object]) -> None:
    """Log what an admin has done: the act, whose user it concerns, and what it changed."""
    facts = {
        "severity": "NOTICE",
        "audit": act,
        "by": "admin key",
        "user": user,
        "changed": dict(changed) or "",
        "request_id": entry_of(request).request_id,
        "trace": entry_of(request).trace,
    }
    audit_log.info("admin: %s %s", act, user, extra={"facts": facts})


def _trace_of(request: Request) -> str:
    cloud = _CLOUD_TRACE.fullmatch(header(request, "X-Cloud-Trace-Context", ""))
    other = _TRACEPARENT.fullmatch(header(request, "traceparent", ""))
    match = cloud or other
    return match[1] if match else ""


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def __init__(self, project: str, revision: str) -> None:
        super().__init__()
        self._project = project
        self._versions = {"revision": revision, "version": VERSION}

    def format(self, record: logging.LogRecord) -> str:
        line = {"severity": record.levelname, "message": record.getMessage()}
        facts = dict(getattr(record, "facts", {}))
        if trace := facts.pop("trace", ""):
            name = f"projects/{self._project}/traces/{trace}" if self._project else trace
            line["logging.googleapis.com/trace"] = name
        if record.exc_info:
            line["message"] += "\n" + self.formatException(record.exc_info)
        facts = {
            n: value for n, value in (facts | self._versions).items() if value not in ("", None)
        }
        text = msgspec.json.encode(line | facts).decode()
        # Redact a key that a client sent in the place of a chat id.
        return _USER_KEY.sub("ck_***", text)


def write_json_lines(settings: Settings) -> None:
    """Make Chatkeep's loggers write JSON lines to stdout."""
    # Do not collect what no line shows (Python's logging HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001  # the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logger = logging.getLogger("chatkeep")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines(settings.google_cloud_project, settings.k_revision))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
