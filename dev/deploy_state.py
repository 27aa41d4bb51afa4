"""Used by deploy.sh: read what gcloud says in JSON, and work out what has to be changed."""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

# Set once, on the first deploy; later deploys keep what was changed elsewhere.
_FIRST = {"THREADS": "256"}


def service(folder: Path, name: str, region: str) -> str:
    """`found region made_by_us classic has_users_traffic` of the service, or why it is unclear."""
    services = [s for s in _read(folder / "services.json") if s["metadata"]["name"] == name]
    places = [s["metadata"]["labels"]["cloud.googleapis.com/location"] for s in services]
    if region:
        services = [s for s, place in zip(services, places, strict=True) if place == region]
    if len(services) > 1:
        sys.exit(f"{name} is deployed in {' and '.join(places)}: say which, with --region")
    if not services:
        return "no - - -"
    (folder / "service.json").write_text(json.dumps(services[0]))
    labels = services[0]["metadata"]["labels"]
    ours = "yes" if labels.get("chatkeep") == name else "no"
    classic = "yes" if labels.get("goog-managed-by") == "cloudfunctions" else "no"
    return f"yes {labels['cloud.googleapis.com/location']} {ours} {classic}"


def secrets(folder: Path, name: str) -> str:
    """A line for each secret: variable, its name in Secret Manager, its version or `new`."""
    lines = []
    for file in sorted((folder / "secrets").iterdir()):
        current, version = _read(folder / "now" / file.name), "new"
        if current:
            value = base64.urlsafe_b64decode(_padded(current["payload"]["data"]))
            if value == file.read_bytes():
                version = current["name"].rpartition("/")[2]
        lines.append(f"{file.name} {secret_of(name, file.name)} {version}")
    return "\n".join(lines)


def secret_of(name: str, variable: str) -> str:
    """Its name in Secret Manager."""
    return f"{name}-{variable.lower().replace('_', '-')}"


def flags(folder: Path, project: str) -> str:
    """Write `flags.json`, the settings as gcloud's --flags-file; names those that stay as they were."""
    plain = json.loads((folder / "plain.json").read_text())
    mine = set(plain) | {file.name for file in (folder / "secrets").iterdir()}
    there = {variable["name"]: variable for variable in _variables(_read(folder / "service.json"))}
    first = _FIRST | {"GOOGLE_CLOUD_PROJECT": project}
    plain = {n: v for n, v in first.items() if n not in there} | plain
    unset = [n for n in (folder / "unset").read_text().split() if n in there]
    is_secret = {name: "valueFrom" in variable for name, variable in there.items()}
    # gcloud refuses to turn a plain variable into a secret, or the other way round, in one step.
    plain_gone = [n for n in unset if not is_secret[n]]
    secret_gone = [n for n in unset if is_secret[n]]
    wanted: dict[str, Any] = {"--update-env-vars": plain}
    if plain_gone:
        wanted["--remove-env-vars"] = plain_gone
    if secret_gone:
        wanted["--remove-secrets"] = secret_gone
    (folder / "flags.json").write_text(json.dumps(wanted, indent=1))
    kept = sorted(set(there) - mine - set(unset) - set(first))
    return " ".join(kept)


def traffic(folder: Path) -> str:
    """The URL, whether all traffic goes to the newest revision, and the URL of the canary or `-`."""
    status = _read(folder / "service.json")["status"]
    shares = [one for one in status.get("traffic", []) if one.get("percent")]
    newest = status.get("latestReadyRevisionName", "-")
    to_newest = [one.get("latestRevision") for one in shares] == [True]
    canary = next((t["url"] for t in status.get("traffic", []) if t.get("tag") == "canary"), "-")
    return f"{status['url']} {'yes' if to_newest else 'no'} {canary} {newest}"


def previous(folder: Path) -> str:
    """The revision before the one that gets most of the traffic; ends with 1 when there is none."""
    before = _before_the_serving(folder)
    if not before:
        sys.exit("There is no earlier revision to go back to.")
    return str(before["metadata"]["name"])


def secrets_of_previous(folder: Path) -> str:
    """What that revision reads, as `secret:version` lines."""
    return "\n".join(sorted(_secrets_of(_before_the_serving(folder))))


def _serving(folder: Path) -> str:
    shares = _read(folder / "service.json")["status"].get("traffic", [])
    return str(max(shares, key=lambda one: one.get("percent", 0))["revisionName"])


def _before_the_serving(folder: Path) -> Any:
    revisions = sorted(
        _read(folder / "revisions.json"), key=lambda one: one["metadata"]["creationTimestamp"]
    )
    names = [one["metadata"]["name"] for one in revisions]
    serving = _serving(folder)
    older = revisions[: names.index(serving)] if serving in names else []
    ready = [one for one in older if _is_ready(one)]
    return ready[-1] if ready else None


def _secrets_of(revision: Any) -> set[str]:
    """As `secret:version`."""
    variables = _variables({"spec": {"template": revision}}) if revision else []
    references = [one.get("valueFrom", {}).get("secretKeyRef") for one in variables]
    return {f"{one['name']}:{one['key']}" for one in references if one}


def _is_ready(revision: Any) -> bool:
    conditions = revision["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] != "False" for one in conditions)


def unused(folder: Path, secret: str) -> str:
    """Versions of a secret that neither what serves nor what a rollback goes to has need of.

    The newest is kept in any case: a canary may be waiting with it.
    """
    revisions = _read(folder / "revisions.json")
    wanted = [one for one in revisions if one["metadata"]["name"] == _serving(folder)]
    used = set[str]()
    for revision in [*wanted, _before_the_serving(folder)]:
        used |= _secrets_of(revision)
    numbers = [one["name"].rpartition("/")[2] for one in _read(folder / "versions.json")]
    newest = max(numbers, key=int, default="")
    return "\n".join(
        number for number in numbers if f"{secret}:{number}" not in used and number != newest
    )


def status(folder: Path) -> str:
    """What runs, for a person."""
    known = _read(folder / "service.json")
    now, template = known["status"], known["spec"]["template"]
    notes = {
        **known["metadata"].get("annotations", {}),
        **template["metadata"].get("annotations", {}),
    }
    limits = [notes.get(f"autoscaling.knative.dev/{kind}Scale") for kind in ("min", "max")]
    ready: Any = next((c for c in now["conditions"] if c["type"] == "Ready"), {})
    lines = [
        f"URL        {now['url']}",
        f"Ready      {ready.get('status')} {ready.get('message', '')}".rstrip(),
        f"Newest     {now.get('latestReadyRevisionName', 'none is ready')}",
        f"Instances  {limits[0] or 0} to {limits[1] or 'the default'}",
    ]
    for one in now.get("traffic", []):
        tag = f"  tag {one['tag']}: {one['url']}" if one.get("tag") else ""
        lines.append(f"Traffic    {one.get('percent', 0):3} % {one['revisionName']}{tag}")
    for variable in _variables(known):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        shown = (
            f"secret {reference['name']}:{reference['key']}" if reference else variable.get("value")
        )
        lines.append(f"Setting    {variable['name']} = {shown}")
    return "\n".join(lines)


def token(folder: Path) -> str:
    """Of the user that /admin/users/add made; ends with 1 when the answer is another."""
    answer = (folder / "user.json").read_text()
    found = re.search(r'"token":\s*"([^"]+)"', answer)
    return found[1] if found else sys.exit(f"/admin/users/add answered: {answer[:300]}")


def _variables(service: Any) -> list[Any]:
    if not service:
        return []
    containers = service["spec"]["template"]["spec"]["containers"]
    return list(containers[0].get("env", []))


def _padded(text: str) -> str:
    return text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4)


def _read(file: Path) -> Any:
    """What a command of gcloud printed; empty where it was not asked, or found nothing."""
    text = file.read_text() if file.exists() else ""
    return json.loads(text) if text.strip() else []


if __name__ == "__main__":
    commands = (
        service,
        secrets,
        flags,
        traffic,
        previous,
        secrets_of_previous,
        unused,
        status,
        token,
    )
    by_name = {command.__name__: command for command in commands}
    print(by_name[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
