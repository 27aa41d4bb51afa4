"""A Google project for the tests, part one: APIs, accounts, roles, secrets."""

import base64
import re
from typing import Any

from tests.google_apis import Call, Refused, on

NUMBER = "123456789012"
BUILD_ACCOUNT = f"{NUMBER}-compute@developer.gserviceaccount.com"
_SECRET = "/v1/projects/my-project/secrets/{secret}"


class Project:
    """What exists in `my-project`; each part is refused until its API is enabled, as in a new one."""

    def __init__(self) -> None:
        self.enabled = {"serviceusage", "cloudresourcemanager", "storage"}
        self.roles: dict[str, set[str]] = {}  # role -> members
        self.accounts = {BUILD_ACCOUNT}
        # A new account is unknown to other services for a while: so many bindings are refused.
        self.bindings_until_known = 0
        self.secrets: dict[str, Secret] = {}
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.repositories: set[str] = set()
        self.images: set[str] = set()
        self.operations: dict[str, Any] = {}
        self.parts = (Basics(self), Secrets(self))

    def need(self, api: str) -> None:
        if api not in self.enabled:
            message = f"{api} API has not been used in project {NUMBER} before or it is disabled."
            raise Refused(403, "PERMISSION_DENIED", message)

    def bind(self, roles: dict[str, set[str]], policy: Any) -> Any:
        """Take over a policy as a whole; whoever is named in it must exist."""
        for binding in policy.get("bindings", []):
            for member in binding["members"]:
                kind, _, who = member.partition(":")
                if kind == "serviceAccount" and who != BUILD_ACCOUNT and not self._is_known(who):
                    message = f"Service account {who} does not exist."
                    raise Refused(400, "INVALID_ARGUMENT", message)
        roles.clear()
        roles.update({one["role"]: set(one["members"]) for one in policy.get("bindings", [])})
        return policy_of(roles)

    def read_secret(self, name: str, version: str, reader: str) -> bytes | None:
        """None where it is not there, or its reader may not read it."""
        secret = self.secrets.get(name)
        readers = secret.roles.get("roles/secretmanager.secretAccessor", set()) if secret else set()
        return secret.find(version) if secret and reader in readers else None

    def _is_known(self, account: str) -> bool:
        waits = self.bindings_until_known > 0
        self.bindings_until_known -= waits
        return account in self.accounts and not waits


class Secret:
    """A secret: its versions, None where destroyed."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.versions: list[bytes | None] = []
        self.roles: dict[str, set[str]] = {}

    def find(self, version: str) -> bytes | None:
        """The newest enabled one for `latest`; None for one that is not there any more."""
        if version == "latest":
            return next((one for one in reversed(self.versions) if one is not None), None)
        number = int(version)
        return self.versions[number - 1] if 0 < number <= len(self.versions) else None


def policy_of(roles: dict[str, set[str]]) -> Any:
    bindings = [{"role": role, "members": sorted(members)} for role, members in roles.items()]
    return {"version": 1, "etag": "BwY=", "bindings": bindings}


def missing(what: str) -> Refused:
    return Refused(404, "NOT_FOUND", f"{what} not found")


class Basics:
    """APIs, roles and accounts."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @on("serviceusage", "POST", "/v1/projects/my-project/services:batchEnable")
    def enable(self, call: Call) -> Any:
        self.project.enabled |= {
            name.removesuffix(".googleapis.com") for name in call.json["serviceIds"]
        }
        return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": {}}

    @on("serviceusage", "GET", r"/v1/projects/my-project/services/{api}\.googleapis\.com")
    def is_enabled(self, call: Call, api: str) -> Any:
        return {"state": "ENABLED" if api in self.project.enabled else "DISABLED"}

    @on("cloudresourcemanager", "GET", "/v1/projects/my-project")
    def describe(self, call: Call) -> Any:
        return {"projectId": "my-project", "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}

    @on("cloudresourcemanager", "POST", "/v1/projects/my-project:getIamPolicy")
    def get_roles(self, call: Call) -> Any:
        return policy_of(self.project.roles)

    @on("cloudresourcemanager", "POST", "/v1/projects/my-project:setIamPolicy")
    def set_roles(self, call: Call) -> Any:
        return self.project.bind(self.project.roles, call.json["policy"])

    @on("cloudbuild", "GET", "/v1/projects/my-project/locations/{region}/defaultServiceAccount")
    def build_account(self, call: Call, region: str) -> Any:
        self.project.need("cloudbuild")
        email = f"projects/my-project/serviceAccounts/{BUILD_ACCOUNT}"
        return {"name": f"{NUMBER}/defaultServiceAccount", "serviceAccountEmail": email}

    @on("iam", "POST", "/v1/projects/my-project/serviceAccounts")
    def make_account(self, call: Call) -> Any:
        name = call.json["accountId"]
        if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", name):
            raise Refused(400, "INVALID_ARGUMENT", f"bad account id {name}")
        email = f"{name}@my-project.iam.gserviceaccount.com"
        if email in self.project.accounts:
            raise Refused(409, "ALREADY_EXISTS", f"{email} already exists")
        self.project.accounts.add(email)
        return {"email": email, "name": f"projects/my-project/serviceAccounts/{email}"}

    @on("iam", "GET", "/v1/projects/{owner}/serviceAccounts/{email}")
    def get_account(self, call: Call, owner: str, email: str) -> Any:
        if email not in self.project.accounts:
            raise missing(email)
        return {"email": email, "name": f"projects/my-project/serviceAccounts/{email}"}

    @on("iam", "DELETE", "/v1/projects/{owner}/serviceAccounts/{email}")
    def delete_account(self, call: Call, owner: str, email: str) -> Any:
        self.get_account(call, owner, email)
        self.project.accounts.remove(email)
        return {}

    @on("logging", "POST", "/v2/entries:list")
    def read_log(self, call: Call) -> Any:
        line = {"message": "POST /<chat_id>/chat 200", "ms": 41}
        entry = {"timestamp": "2026-11-25T10:00:00Z", "severity": "INFO", "jsonPayload": line}
        return {"entries": [entry]}


class Secrets:
    """Secret Manager."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def find(self, name: str) -> Secret:
        self.project.need("secretmanager")
        if name not in self.project.secrets:
            raise missing(f"Secret [projects/{NUMBER}/secrets/{name}]")
        return self.project.secrets[name]

    @on("secretmanager", "GET", "/v1/projects/my-project/secrets")
    def list_all(self, call: Call) -> Any:
        self.project.need("secretmanager")
        name, _, value = call.query["filter"].removeprefix("labels.").partition("=")
        of_it = {n: s for n, s in self.project.secrets.items() if s.labels.get(name) == value}
        base = f"projects/{NUMBER}/secrets"
        return {"secrets": [{"name": f"{base}/{n}", "labels": s.labels} for n, s in of_it.items()]}

    @on("secretmanager", "POST", "/v1/projects/my-project/secrets")
    def make(self, call: Call) -> Any:
        self.project.need("secretmanager")
        name = call.query["secretId"]
        if name in self.project.secrets:
            raise Refused(409, "ALREADY_EXISTS", f"Secret [{name}] already exists")
        self.project.secrets[name] = Secret(call.json.get("labels", {}))
        return {"name": f"projects/{NUMBER}/secrets/{name}"}

    @on("secretmanager", "POST", _SECRET + ":addVersion")
    def add(self, call: Call, secret: str) -> Any:
        versions = self.find(secret).versions
        versions.append(base64.b64decode(call.json["payload"]["data"]))
        name = f"projects/{NUMBER}/secrets/{secret}/versions/{len(versions)}"
        return {"name": name, "clientSpecifiedPayloadChecksum": True}

    @on("secretmanager", "GET", _SECRET + "/versions/{version}:access")
    def access(self, call: Call, secret: str, version: str) -> Any:
        data = self.find(secret).find(version)
        if data is None:
            raise missing(f"Secret Version [{secret}/{version}]")
        number = len(self.find(secret).versions) if version == "latest" else version
        name = f"projects/{NUMBER}/secrets/{secret}/versions/{number}"
        return {"name": name, "payload": {"data": base64.b64encode(data).decode()}}

    @on("secretmanager", "GET", _SECRET + "/versions/{version}")
    def describe(self, call: Call, secret: str, version: str) -> Any:
        state = "DESTROYED" if self.find(secret).find(version) is None else "ENABLED"
        return {"name": f"{secret}/versions/{version}", "state": state}

    @on("secretmanager", "POST", _SECRET + "/versions/{version}:destroy")
    def destroy(self, call: Call, secret: str, version: str) -> Any:
        if self.find(secret).find(version) is None:
            raise missing(f"Secret Version [{secret}/{version}]")
        self.find(secret).versions[int(version) - 1] = None
        return {"name": f"{secret}/versions/{version}", "state": "DESTROYED"}

    @on("secretmanager", "GET", _SECRET + "/versions")
    def list_versions(self, call: Call, secret: str) -> Any:
        base = f"projects/{NUMBER}/secrets/{secret}/versions"
        states = ["DESTROYED" if one is None else "ENABLED" for one in self.find(secret).versions]
        rows = [{"name": f"{base}/{n}", "state": state} for n, state in enumerate(states, 1)]
        return {"versions": rows[::-1]}

    @on("secretmanager", "GET", _SECRET + ":getIamPolicy")
    def get_roles(self, call: Call, secret: str) -> Any:
        return policy_of(self.find(secret).roles)

    @on("secretmanager", "POST", _SECRET + ":setIamPolicy")
    def set_roles(self, call: Call, secret: str) -> Any:
        return self.project.bind(self.find(secret).roles, call.json["policy"])

    @on("secretmanager", "DELETE", _SECRET)
    def delete(self, call: Call, secret: str) -> Any:
        self.find(secret)
        del self.project.secrets[secret]
        return {}
