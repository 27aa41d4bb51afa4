"""A Google project for the tests, part three: builds, Cloud Run, and the function that was deployed.

A revision is really started, from the archive that was uploaded, as soon as somebody asks its URL.
"""

import copy
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import urllib3

from tests.google_apis import Call, Refused, Server, on
from tests.google_project import NUMBER, Project, missing, policy_of
from tests.google_storage import Images, Storage
from tests.harness import free_port, wait_until

_SERVICES = r"/apis/serving\.knative\.dev/v1/namespaces/my-project/services"
_REVISIONS = r"/apis/serving\.knative\.dev/v1/namespaces/my-project/revisions"
_PLACE = "/v1/projects/my-project/locations/{region}"
_RESERVED = re.compile(r"PORT|K_\w+|CLOUD_RUN_\w+")


class Cloud(Server):
    """The whole stand-in. `swap` replaces settings of a started function: the world's Redis and
    model are ours here."""

    def __init__(self, folder: Path, swap: dict[str, str]) -> None:
        super().__init__()
        self.project = Project()
        self.services: dict[str, Any] = {}
        self.revisions: dict[str, Any] = {}
        self.roles: dict[str, dict[str, set[str]]] = {}
        self.builds: dict[str, Any] = {}
        self.folder, self.swap = folder, swap
        self.extra: dict[str, str] = {}
        self.running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self.numbers = itertools.count(1)
        for part in (
            *self.project.parts,
            Storage(self.project),
            Images(self.project),
            Services(self),
        ):
            self.add(part)

    def stop(self) -> None:
        for process, _ in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in self.running.values():
            process.wait(15)
        super().stop()

    def deploy(self, region: str, spec: Any) -> Any:
        """Take a service's new specification, make a revision of a changed template, set traffic."""
        name = spec["metadata"]["name"]
        self._check(spec)
        before = self.services.get(name)
        service = copy.deepcopy(spec)
        service["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        number = before["metadata"]["generation"] + 1 if before else 1
        service["metadata"] |= {
            "generation": number,
            "uid": f"uid-{name}",
            "resourceVersion": f"v{number}",
            "creationTimestamp": "2026-11-25T10:00:00.000000Z",
        }
        service["metadata"].setdefault("labels", {})["cloud.googleapis.com/location"] = region
        template = service["spec"]["template"]
        if not before or template != before["spec"]["template"]:
            self._add_revision(name, number, template)
        newest = [one for one in self.revisions if one.startswith(f"{name}-0")][-1]
        url = f"http://{name}-{NUMBER}.{region}.run.test"
        traffic = [
            {**one, "revisionName": one.get("revisionName", newest)}
            | ({"url": url.replace("//", f"//{one['tag']}---")} if one.get("tag") else {})
            for one in service["spec"]["traffic"]
        ]
        kinds = ("Ready", "ConfigurationsReady", "RoutesReady")
        service["status"] = {
            "observedGeneration": number,
            "conditions": [{"type": kind, "status": "True"} for kind in kinds],
            "latestCreatedRevisionName": newest,
            "latestReadyRevisionName": newest,
            "traffic": traffic,
            "url": url,
            "address": {"url": url},
        }
        self.services[name] = service
        return service

    def _check(self, spec: Any) -> None:
        template = spec["spec"]["template"]["spec"]
        if template["serviceAccountName"] not in self.project.accounts:
            raise Refused(404, "NOT_FOUND", f"no {template['serviceAccountName']}")
        for variable in template["containers"][0].get("env", []):
            if _RESERVED.fullmatch(variable["name"]):
                raise Refused(400, "INVALID_ARGUMENT", f"reserved env names: {variable['name']}")
        self.secrets_of(template)

    def secrets_of(self, template: Any) -> dict[str, str]:
        """Of a revision, read by its account; refused where Cloud Run would not start it."""
        found = {}
        for variable in template["containers"][0].get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                reader = f"serviceAccount:{template['serviceAccountName']}"
                value = self.project.read_secret(reference["name"], reference["key"], reader)
                if value is None:
                    raise Refused(400, "INVALID_ARGUMENT", f"no access to {reference}")
                found[variable["name"]] = value.decode()
        return found

    def _add_revision(self, name: str, number: int, template: Any) -> None:
        revision = template["metadata"].get("name") or f"{name}-{number:05d}-abc"
        labels = {"serving.knative.dev/service": name} | template["metadata"].get("labels", {})
        made = f"2026-11-25T10:{number:02d}:00.000000Z"
        metadata = {"name": revision, "labels": labels, "creationTimestamp": made, "generation": 1}
        annotations = template["metadata"].get("annotations", {})
        self.revisions[revision] = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {**metadata, "annotations": annotations, "namespace": NUMBER},
            "spec": copy.deepcopy(template["spec"]),
            "status": {
                "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def forward(self, host: str, call: Call) -> tuple[int, bytes, str]:
        tag, _, rest = host.rpartition("---")
        name = rest.removesuffix(".run.test").rpartition(f"-{NUMBER}")[0]
        service = self.services.get(name)
        if not service or not rest.endswith(".run.test"):
            return super().forward(host, call)
        if "allUsers" not in self.roles.get(name, {}).get("roles/run.invoker", set()):
            return 403, b"Forbidden", "text/html"
        traffic = service["status"]["traffic"]
        chosen = next(t for t in traffic if (t.get("tag") == tag if tag else t.get("percent")))
        headers = {k: v for k, v in call.headers.items() if k != "proxy-connection"}
        url = f"http://127.0.0.1:{self.start(chosen['revisionName'])}{call.path}"
        got = urllib3.request(call.method, url, body=call.body, headers=headers, retries=False)
        return got.status, got.data, got.headers["Content-Type"]

    def start(self, revision: str) -> int:
        """The port of a revision's process, started as the platform does: on a read-only folder."""
        if revision in self.running:
            return self.running[revision][1]
        template = self.revisions[revision]["spec"]
        port, build = free_port(), self.builds[template["containers"][0]["image"]]
        folder = self.folder / revision
        zipfile.ZipFile(io.BytesIO(build)).extractall(folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        plain = {v["name"]: v.get("value", "") for v in template["containers"][0].get("env", [])}
        environment = plain | self.secrets_of(template)
        for name in environment.keys() & self.swap.keys():
            environment[name] = self.swap[name]
        environment |= self.extra | {
            "PORT": str(port),
            "K_SERVICE": "x",
            "K_REVISION": revision,
            "HOME": "/tmp",
        }
        environment["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        command = ["functions-framework", "--target=main", f"--port={port}"]
        log = (self.folder / f"{revision}.log").open("wb")
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, preexec_fn=os.setpgrp
        )
        self.running[revision] = (process, port)
        ready = urllib3.PoolManager(retries=False, timeout=5.0)

        def answers() -> bool:
            try:
                return ready.request("GET", f"http://127.0.0.1:{port}/health").status == 200
            except urllib3.exceptions.HTTPError:
                return False

        wait_until(answers, 30)
        return port


class Services:
    """Cloud Run."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def region_of(self, call: Call) -> str:
        return call.headers["host"].rpartition("-run.")[0]

    def find(self, name: str, of: dict[str, Any]) -> Any:
        self.cloud.project.need("run")
        if name not in of:
            raise missing(name)
        return of[name]

    @on("run", "GET", "/v1/projects/my-project/locations/-/services")
    def list_all(self, call: Call) -> Any:
        self.cloud.project.need("run")
        return {"kind": "ServiceList", "items": list(self.cloud.services.values())}

    @on("run", "GET", _SERVICES + "/{name}")
    def get(self, call: Call, name: str) -> Any:
        return self.find(name, self.cloud.services)

    @on("run", "POST", _SERVICES)
    def make(self, call: Call) -> Any:
        return self.cloud.deploy(self.region_of(call), call.json)

    @on("run", "PUT", _SERVICES + "/{name}")
    def change(self, call: Call, name: str) -> Any:
        self.find(name, self.cloud.services)
        return self.cloud.deploy(self.region_of(call), call.json)

    @on("run", "DELETE", _SERVICES + "/{name}")
    def delete(self, call: Call, name: str) -> Any:
        self.find(name, self.cloud.services)
        del self.cloud.services[name]
        self.cloud.revisions.clear()
        return {"status": "Success"}

    @on("run", "GET", _REVISIONS)
    def revisions(self, call: Call) -> Any:
        wanted = re.split(r"\s*=\s*", call.query["labelSelector"].split(",")[0])
        items = [
            one
            for one in self.cloud.revisions.values()
            if wanted[1] == one["metadata"]["labels"].get(wanted[0])
        ]
        return {"kind": "RevisionList", "metadata": {}, "items": items[::-1]}

    @on("run", "GET", _REVISIONS + "/{name}")
    def revision(self, call: Call, name: str) -> Any:
        return self.find(name, self.cloud.revisions)

    @on("run", "GET", _PLACE + "/services/{name}:getIamPolicy")
    def get_roles(self, call: Call, region: str, name: str) -> Any:
        return policy_of(self.cloud.roles.get(name, {}))

    @on("run", "POST", _PLACE + "/services/{name}:setIamPolicy")
    def set_roles(self, call: Call, region: str, name: str) -> Any:
        self.find(name, self.cloud.services)
        return self.cloud.project.bind(self.cloud.roles.setdefault(name, {}), call.json["policy"])
