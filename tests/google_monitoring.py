"""Google's log-based metrics, alert policies and dashboards, as far as gcloud asks for them."""

from typing import Any

from tests.google_apis import Call, Refused, on

_METRICS = "/v2/projects/my-project/metrics"
_POLICIES = "/v3/projects/my-project/alertPolicies"
_DASHBOARDS = "/v1/projects/my-project/dashboards"


class Monitoring:
    """What was made, by name."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}
        self.dashboards: dict[str, Any] = {}

    @on("logging", "GET", _METRICS + "/{name}")
    def find_metric(self, call: Call, name: str) -> Any:
        if name not in self.metrics:
            raise Refused(404, "NOT_FOUND", f"Metric {name} does not exist.")
        return self.metrics[name]

    @on("logging", "POST", _METRICS)
    def add_metric(self, call: Call) -> Any:
        self.metrics[call.json["name"]] = call.json
        return call.json

    @on("logging", "PUT", _METRICS + "/{name}")
    def change_metric(self, call: Call, name: str) -> Any:
        self.metrics[name] = call.json
        return call.json

    @on("monitoring", "GET", _POLICIES)
    def list_policies(self, call: Call) -> Any:
        return {"alertPolicies": list(self.policies.values())}

    @on("monitoring", "GET", _POLICIES + "/{id}")
    def find_policy(self, call: Call, id: str) -> Any:
        return self.policies[id]

    @on("monitoring", "POST", _POLICIES)
    def add_policy(self, call: Call) -> Any:
        id = str(len(self.policies) + 1)
        conditions = [
            one | {"name": f"projects/my-project/alertPolicies/{id}/conditions/{number}"}
            for number, one in enumerate(call.json["conditions"])
        ]
        name = f"projects/my-project/alertPolicies/{id}"
        self.policies[id] = call.json | {"name": name, "conditions": conditions}
        return self.policies[id]

    @on("monitoring", "PATCH", _POLICIES + "/{id}")
    def change_policy(self, call: Call, id: str) -> Any:
        self.policies[id] |= call.json
        return self.policies[id]

    @on("monitoring", "GET", _DASHBOARDS)
    def list_dashboards(self, call: Call) -> Any:
        return {"dashboards": list(self.dashboards.values())}

    @on("monitoring", "POST", _DASHBOARDS)
    def add_dashboard(self, call: Call) -> Any:
        name = f"projects/1/dashboards/{len(self.dashboards) + 1}"
        self.dashboards[name] = call.json | {"name": name}
        return self.dashboards[name]
