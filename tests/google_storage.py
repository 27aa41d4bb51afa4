"""A Google project for the tests, part two: what is uploaded, and the images that are built."""

import re
from typing import Any

from tests.google_apis import Call, on
from tests.google_project import Project, missing

_REPOSITORIES = "/v1/projects/my-project/locations/{region}/repositories"


class Storage:
    """Cloud Storage."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def find(self, bucket: str) -> dict[str, bytes]:
        if bucket not in self.project.buckets:
            raise missing(f"bucket {bucket}")
        return self.project.buckets[bucket]

    @on("storage", "GET", "/storage/v1/b/{bucket}")
    def get_bucket(self, call: Call, bucket: str) -> Any:
        self.find(bucket)
        return {"name": bucket, "kind": "storage#bucket", "location": "US-CENTRAL1"}

    @on("storage", "POST", "/storage/v1/b")
    def make_bucket(self, call: Call) -> Any:
        self.project.buckets.setdefault(call.json["name"], {})
        return self.get_bucket(call, call.json["name"])

    @on("storage", "GET", "/storage/v1/b/{bucket}/storageLayout")
    def layout(self, call: Call, bucket: str) -> Any:
        return {"bucket": bucket, "hierarchicalNamespace": {"enabled": False}}

    @on("storage", "GET", "/storage/v1/b")
    def list_buckets(self, call: Call) -> Any:
        return {"items": [{"name": name, "id": name} for name in self.project.buckets]}

    @on("storage", "POST", "/(?:resumable/)?upload/storage/v1/b/{bucket}/o")
    def upload(self, call: Call, bucket: str) -> Any:
        boundary = re.search(r"boundary=['\"]?([^'\"]+)", call.headers["content-type"])
        assert boundary, call.headers
        part = call.body.split(b"--" + boundary[1].encode())[2]
        data = re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1].removesuffix(b"\n").removesuffix(b"\r")
        self.find(bucket)[call.query["name"]] = data
        return _thing(bucket, call.query["name"], len(data))

    @on("storage", "GET", "/storage/v1/b/{bucket}/o")
    def list_objects(self, call: Call, bucket: str) -> Any:
        prefix = call.query.get("prefix", "")
        names = [name for name in self.find(bucket) if name.startswith(prefix)]
        return {"items": [_thing(bucket, name, 1) for name in names]}

    @on("storage", "DELETE", "/storage/v1/b/{bucket}/o/(?P<name>.+)")
    def delete(self, call: Call, bucket: str, name: str) -> Any:
        del self.find(bucket)[name]
        return {}


def _thing(bucket: str, name: str, size: int) -> Any:
    return {"bucket": bucket, "name": name, "generation": "1", "size": str(size)}


class Images:
    """Artifact Registry."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @on("artifactregistry", "GET", _REPOSITORIES + "/{name}")
    def get(self, call: Call, region: str, name: str) -> Any:
        self.project.need("artifactregistry")
        if f"{region}/{name}" not in self.project.repositories:
            raise missing(name)
        path = f"projects/my-project/locations/{region}/repositories/{name}"
        return {"name": path, "format": "DOCKER"}

    @on("artifactregistry", "POST", _REPOSITORIES)
    def make(self, call: Call, region: str) -> Any:
        self.project.need("artifactregistry")
        self.project.repositories.add(f"{region}/{call.query['repositoryId']}")
        return {"name": f"projects/my-project/locations/{region}/operations/1", "done": True}

    @on("artifactregistry", "GET", "/v1/projects/my-project/locations/{region}/operations/1")
    def made(self, call: Call, region: str) -> Any:
        path = f"projects/my-project/locations/{region}/repositories/cloud-run-source-deploy"
        done = {"name": f"projects/my-project/locations/{region}/operations/1", "done": True}
        return {**done, "response": {"@type": "type.googleapis.com/x", "name": path}}

    @on("artifactregistry", "DELETE", _REPOSITORIES + "/{name}/packages/{image}")
    def delete(self, call: Call, region: str, name: str, image: str) -> Any:
        if image not in self.project.images:
            raise missing(image)
        self.project.images.remove(image)
        return {"name": f"projects/my-project/locations/{region}/operations/1", "done": True}
