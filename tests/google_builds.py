"""A Google project for the tests, part five: the builds that Cloud Run asks Cloud Build for."""

import io
import zipfile
from typing import Any

from tests.google_apis import Call, Refused, on
from tests.google_project import BUILD_ACCOUNT, NUMBER
from tests.google_run import Cloud

_RUNTIMES = {"python311", "python312", "python313", "python314"}


class Builds:
    """Cloud Build, by way of Cloud Run's own API for it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @on("run", "POST", "/v2/projects/my-project/locations/{region}/builds:submit")
    def submit(self, call: Call, region: str) -> Any:
        project = self.cloud.project
        project.need("run")
        asked, source = call.json, call.json["storageSource"]
        archive = project.buckets[source["bucket"]][source["object"]]
        runtime = asked["buildpackBuild"]["baseImage"]
        if runtime not in _RUNTIMES:
            raise Refused(400, "INVALID_ARGUMENT", f"unknown base image {runtime}")
        image, number = asked["imageUri"], next(self.cloud.numbers)
        digest = f"sha256:{number:064x}"
        names = set(zipfile.ZipFile(io.BytesIO(archive)).namelist())
        may_build = f"serviceAccount:{BUILD_ACCOUNT}" in project.roles.get("roles/run.builder", ())
        builds = may_build and asked["buildpackBuild"]["functionTarget"] == "main"
        builds = builds and {"main.py", "requirements.txt"} <= names and "Dockerfile" not in names
        if builds:
            self.cloud.builds[f"{image}@{digest}"] = archive
            project.images.add(image.rpartition("/")[2])
        build = {
            "id": f"build-{number}",
            "name": f"projects/{NUMBER}/locations/{region}/builds/build-{number}",
            "projectId": "my-project",
            "logUrl": f"https://console.cloud.google.com/cloud-build/builds/build-{number}",
            "status": "SUCCESS" if builds else "FAILURE",
            "results": {"images": [{"name": image, "digest": digest}]},
        }
        project.operations[f"build-{number}"] = build
        kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
        metadata = {"@type": kind, "build": build | {"status": "QUEUED"}}
        name = f"projects/my-project/locations/{region}/operations/build-{number}"
        operation = {"name": name, "metadata": metadata}
        return {"buildOperation": operation, "baseImageUri": f"{region}-docker.pkg.dev/{runtime}"}

    @on("cloudbuild", "GET", "/v1/projects/my-project/locations/{region}/operations/{id}")
    def poll(self, call: Call, region: str, id: str) -> Any:
        name = f"projects/my-project/locations/{region}/operations/{id}"
        kind = "type.googleapis.com/google.devtools.cloudbuild.v1.Build"
        return {
            "name": name,
            "done": True,
            "response": {"@type": kind, **self.cloud.project.operations[id]},
        }
