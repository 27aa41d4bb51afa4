"""Traces and metrics at a collector: one trace a turn, sent before its answer ends, no content."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from dev.model import Answer, ModelServer
from tests.collector import Collector, attributes
from tests.harness import ROOT, Function, StartFunction, clean_environment, start_stream, wait_until
from tests.traces import log_lines

SECRET = "where the treasure lies"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector().start()
    yield server
    server.stop()


@pytest.fixture
def observed(start_function: StartFunction, collector: Collector) -> Function:
    return start_function(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-team=blue",
        K_SERVICE="my-chat",
        K_REVISION="my-chat-1",
        AUTH="open",
    )


def test_a_turn_is_one_trace_and_it_has_arrived_before_the_answer_ends(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["a ", SECRET], headers={}))
    stream, begun = start_stream(
        observed.client, chat_id, SECRET, traceparent=f"00-{TRACE}-{PARENT}-01"
    )
    stream.until("completed")
    spans = {span.name: span for span in collector.spans}
    assert list(spans) == ["turn", "begin", "upstream", "commit"]
    root = spans.pop("turn")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert root.parent_span_id.hex() == PARENT and root.kind == root.SPAN_KIND_SERVER
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}
    moments = [t for s in spans.values() for t in (s.start_time_unix_nano, s.end_time_unix_nano)]
    assert moments == sorted(moments), "begin, upstream, commit: one after the other"
    assert root.start_time_unix_nano <= moments[0] and moments[-1] <= root.end_time_unix_nano
    said = attributes(root)
    assert (said["chatkeep.turn.id"], said["chatkeep.ending"]) == (begun["turn_id"], "completed")
    assert (said["http.route"], said["gen_ai.conversation.id"]) == ("/<chat_id>/chat", chat_id)
    assert attributes(spans["upstream"]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.4-mini",
        "gen_ai.conversation.id": chat_id,
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 2,
        "http.response.status_code": 200,
    }
    assert collector.resource["service.name"] == "my-chat"
    assert collector.resource["faas.version"] == "my-chat-1"
    assert collector.requests[0][1]["x-team"] == "blue"
    assert b"treasure" not in collector.raw


def test_without_a_parent_the_log_names_the_trace_that_was_begun(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    observed.client.say(chat_id, "x")
    assert wait_until(lambda: any(line.get("chat") == chat_id for line in log_lines(observed)))
    line = next(line for line in log_lines(observed) if line.get("chat") == chat_id)
    assert line["logging.googleapis.com/trace"] == collector.spans[0].trace_id.hex()


def test_a_turn_that_fails_and_one_that_is_refused_are_traces_with_their_code(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no"))
    assert observed.client.say(chat_id, "x").status == 502
    assert observed.client.say(chat_id, "x", model="agent").status == 503
    failed, refused = (span for span in collector.spans if span.name == "turn")
    for span, code in ((failed, "upstream_refused"), (refused, "no_agent")):
        assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, code)
    children = [s.name for s in collector.spans if s.parent_span_id == refused.span_id]
    assert children == ["begin"]
    upstream = next(span for span in collector.spans if span.name == "upstream")
    assert attributes(upstream)["chatkeep.upstream.failure"] == "answered 400"


def test_metrics_count_turns_tokens_times_and_errors_and_all_of_them_arrive(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    start_stream(observed.client, chat_id)[0].rest()
    model.enqueue(Answer(status=400, error="no"))
    observed.client.say(chat_id, "x")
    observed.client.get("/no/such/path")
    observed.stop()  # what has not been sent yet is sent at the end
    points = collector.metrics
    turns = {attributes(p)["chatkeep.ending"]: p.as_int for p in points["chatkeep.turns"]}
    assert turns == {"completed": 1, "failed": 1}
    errors = {attributes(p)["error.type"]: p.as_int for p in points["chatkeep.errors"]}
    assert errors == {"upstream_refused": 1, "not_found": 1}
    kinds = {attributes(p)["gen_ai.token.type"] for p in points["gen_ai.client.token.usage"]}
    assert kinds == {"input", "output"}
    steps = {attributes(p)["chatkeep.step"]: p.count for p in points["chatkeep.store.duration"]}
    assert steps == {"begin": 2, "commit": 2}
    assert [p.count for p in points["gen_ai.server.time_to_first_token"]] == [1]
    assert sum(p.count for p in points["gen_ai.client.operation.duration"]) == 2


def test_a_collector_that_fails_is_told_of_once_and_left_alone(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    collector.status = 400
    for _ in range(3):
        assert observed.client.say(chat_id, "x").status == 200
    assert len(collector.requests) == 1
    warnings = [line for line in log_lines(observed) if line["severity"] == "WARNING"]
    assert len(warnings) == 1 and "collector" in warnings[0]["message"]


def test_a_collector_that_is_not_there_does_not_hold_up_an_answer(
    observed: Function, collector: Collector, model: ModelServer, chat_id: str
) -> None:
    collector.stop()
    assert observed.client.request("POST", f"/{chat_id}/chat", {"content": "x"}, timeout=8)
    reply = observed.client.request("POST", f"/{chat_id}/chat", {"content": "x"}, timeout=2)
    assert reply.status == 200


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, main; main.build(main.settings);sys.exit('chat.web.telemetry' in sys.modules)"
    )
    environment = clean_environment() | {"GPT_API_KEY": "k", "REDIS_HOST": "localhost"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=30)
    assert done.returncode == 0
