"""A Google project for the tests, part four: Cloud Functions, 2nd generation, on Cloud Run."""

from typing import Any

from tests.google_apis import Call, on
from tests.google_project import NUMBER, missing
from tests.google_run import Cloud

_FUNCTIONS = "/v2/projects/my-project/locations/{region}/functions"
_UPLOADS = "gcf-v2-uploads"


class Functions:
    """What `gcloud functions deploy` asks; a function becomes a service of Cloud Run."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.all: dict[str, Any] = {}

    @on("cloudfunctions", "GET", "/v2/projects/my-project/locations/{region}/runtimes")
    def runtimes(self, call: Call, region: str) -> Any:
        self.cloud.project.need("cloudfunctions")
        names = ("python312", "python313", "python314")
        return {"runtimes": [{"name": one, "environment": "GEN_2", "stage": "GA"} for one in names]}

    @on("cloudfunctions", "POST", _FUNCTIONS + ":generateUploadUrl")
    def where_to_upload(self, call: Call, region: str) -> Any:
        url = f"http://storage.googleapis.test/{_UPLOADS}/source.zip"
        return {"uploadUrl": url, "storageSource": {"bucket": _UPLOADS, "object": "source.zip"}}

    @on("storage", "PUT", f"/{_UPLOADS}/source.zip")
    def upload(self, call: Call) -> Any:
        self.cloud.project.buckets[_UPLOADS] = {"source.zip": call.body}
        return {}

    @on("cloudfunctions", "GET", _FUNCTIONS + "/{name}")
    def get(self, call: Call, region: str, name: str) -> Any:
        if name not in self.all:
            raise missing(f"projects/my-project/locations/{region}/functions/{name}")
        return self.all[name]

    @on("cloudfunctions", "POST", _FUNCTIONS)
    def make(self, call: Call, region: str) -> Any:
        return self._deploy(region, call.query["functionId"], call.json)

    @on("cloudfunctions", "PATCH", _FUNCTIONS + "/{name}")
    def change(self, call: Call, region: str, name: str) -> Any:
        return self._deploy(region, name, call.json)

    @on("cloudfunctions", "DELETE", _FUNCTIONS + "/{name}")
    def delete(self, call: Call, region: str, name: str) -> Any:
        self.get(call, region, name)
        del self.all[name], self.cloud.services[name]
        return self._operation(region)

    @on("cloudfunctions", "GET", "/v2/projects/my-project/locations/{region}/operations/1")
    def poll(self, call: Call, region: str) -> Any:
        return self._operation(region)

    def _operation(self, region: str) -> Any:
        kind = "type.googleapis.com/google.protobuf.Empty"
        name = f"projects/my-project/locations/{region}/operations/1"
        stages = "type.googleapis.com/google.cloud.functions.v2.OperationMetadata"
        metadata = {"@type": stages, "stages": []}
        return {"name": name, "done": True, "metadata": metadata, "response": {"@type": kind}}

    def _deploy(self, region: str, name: str, function: Any) -> Any:
        wish, build = function["serviceConfig"], function["buildConfig"]
        assert (build["entryPoint"], build["runtime"]) == ("main", "python314")
        source = build["source"]["storageSource"]
        image = f"gcf-artifacts/{name}@{len(self.cloud.builds)}"
        self.cloud.builds[image] = self.cloud.project.buckets[source["bucket"]][source["object"]]
        env = [{"name": n, "value": v} for n, v in wish["environmentVariables"].items()]
        for one in wish.get("secretEnvironmentVariables", []):
            reference = {"name": one["secret"], "key": one["version"]}
            env.append({"name": one["key"], "valueFrom": {"secretKeyRef": reference}})
        template = {"containers": [{"image": image, "env": env}]}
        template["serviceAccountName"] = wish["serviceAccountEmail"]
        labels = function["labels"] | {"goog-managed-by": "cloudfunctions"}
        metadata = {"name": name, "namespace": NUMBER, "labels": labels, "annotations": {}}
        spec = {"template": {"metadata": {"labels": {}, "annotations": {}}, "spec": template}}
        kind = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
        service = self.cloud.deploy(region, {**kind, "metadata": metadata, "spec": spec})
        path = f"projects/my-project/locations/{region}"
        run = {"service": f"{path}/services/{name}", "uri": service["status"]["url"]}
        state = {"name": f"{path}/functions/{name}", "state": "ACTIVE", "environment": "GEN_2"}
        self.all[name] = {**function, **state, "serviceConfig": {**wish, **run}}
        return self._operation(region)
