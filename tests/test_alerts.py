"""`deploy.sh --alerts`: the log's metrics, policies and a dashboard, by the real gcloud; twice."""

import json
import re
from typing import Any

import msgspec

from chat.turns.report import TurnReport, TurnTimes
from chat.web.access_log import RequestEntry
from tests.deploying import Deployer
from tests.google_monitoring import Monitoring
from tests.harness import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
CHANNEL = "projects/my-project/notificationChannels/7"


def _files(pattern: str) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob(pattern))}


def _logged() -> set[str]:
    """The names of what a line of the log may have."""
    report = TurnReport("", "", "failed", "", 0, 0, "", "", 0, 0, TurnTimes(0, 0, 1))
    entry = RequestEntry("", "", "", report=report)
    return set(entry.facts()) | {"audit"}


def test_every_metric_reads_what_the_log_has_and_every_alert_a_metric_that_is_there() -> None:
    metrics = _files("metric-*")
    named = re.findall(r"jsonPayload\.(\w+)", msgspec.json.encode(metrics).decode())
    assert set(named) - _logged() == set()
    for metric in metrics.values():
        labels = {label["key"] for label in metric["metricDescriptor"].get("labels", ())}
        assert labels == set(metric.get("labelExtractors", {}))
    used = _files("alert-*") | _files("dashboard*")
    text = msgspec.json.encode(used).decode()
    assert set(re.findall(r"user/(\w+)", text)) == {name.split("-")[1] for name in metrics}
    labels = set(metrics["metric-chatkeep_requests"]["labelExtractors"]) | {"audit", "state"}
    assert set(re.findall(r"metric\.labels?\.(\w+)", text)) <= labels


def test_alerts_are_made_once_and_what_was_changed_by_hand_stays(deployer: Deployer) -> None:
    monitoring = Monitoring()
    deployer.cloud.add(monitoring)
    deployer.deploy()
    said = deployer.run("--alerts")
    assert "notificationChannels" in said
    names = {path.stem.split("-")[1] for path in FOLDER.glob("metric-*")}
    assert set(monitoring.metrics) == names
    policies = {policy["userLabels"]["alert"]: policy for policy in monitoring.policies.values()}
    assert set(policies) == {path.stem.split("-")[1] for path in FOLDER.glob("alert-*")}
    (dashboard,) = monitoring.dashboards.values()
    assert dashboard["displayName"] == "Chatkeep: my-chat"
    everything = json.dumps([policies, dashboard])
    assert "SERVICE" not in everything and 'service_name=\\"my-chat\\"' in json.dumps(policies)

    monitoring.policies["1"]["enabled"] = False  # by hand: it stays so
    deployer.environment["CHANNEL"] = CHANNEL
    before = len(deployer.cloud.calls)
    deployer.run("--alerts")
    assert not [
        call
        for call in deployer.cloud.changes(before)
        if "POST" in call.name and call.api in ("logging", "monitoring")
    ], "nothing is made twice"
    assert monitoring.policies["1"]["enabled"] is False
    assert all(one["notificationChannels"] == [CHANNEL] for one in monitoring.policies.values())
