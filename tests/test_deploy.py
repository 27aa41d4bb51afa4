"""deploy.sh, with the real gcloud, from a filled-in .env to a first answer and back to nothing."""

import io
import re
import threading
import zipfile
from typing import Any

from dev.model import Answer, ModelServer
from tests.deploying import ADMIN_KEY, DEPLOYED, SECRETS, Deployer
from tests.google_project import BUILD_ACCOUNT
from tests.harness import Client

RUNTIME_ACCOUNT = "my-chat-run@my-project.iam.gserviceaccount.com"
WAYS_TO_FAIL = [  # the step that is refused, and what is said of it
    ("batchEnable", "Switch on the APIs"),
    ("iam POST", "Make the account"),
    ("cloudresourcemanager .*:setIamPolicy", None),
    ("secretmanager POST .*/secrets$", "Store ADMIN_KEY"),
    ("my-chat-admin-key:setIamPolicy", "Store ADMIN_KEY"),
    ("my-chat-gpt-api-key:addVersion", "Store GPT_API_KEY"),
    ("storage POST /upload", "Build and deploy"),
    ("builds:submit", "Build and deploy"),
    ("run POST .*/services$", "Build and deploy"),
]


def _changes(deployer: Deployer, since: int) -> list[str]:
    """The requests that change something, with what is random in them left out."""
    names = [call.name for call in deployer.cloud.changes(since)]
    return [re.sub(r"projects/my-project/(locations/)?", "", name) for name in names]


FIRST = """
serviceusage POST /v1/services:batchEnable
iam POST /v1/serviceAccounts
cloudresourcemanager POST /v1/projects/my-project:setIamPolicy
secretmanager POST /v1/secrets
secretmanager POST /v1/secrets/my-chat-admin-key:setIamPolicy
secretmanager POST /v1/secrets/my-chat-admin-key:addVersion
secretmanager POST /v1/secrets
secretmanager POST /v1/secrets/my-chat-gpt-api-key:setIamPolicy
secretmanager POST /v1/secrets/my-chat-gpt-api-key:addVersion
secretmanager POST /v1/secrets
secretmanager POST /v1/secrets/my-chat-redis-password:setIamPolicy
secretmanager POST /v1/secrets/my-chat-redis-password:addVersion
artifactregistry POST /v1/europe-west1/repositories
storage POST /storage/v1/b
storage POST /upload/storage/v1/b/run-sources-my-project-europe-west1/o
run POST /v2/europe-west1/builds:submit
run POST /apis/serving.knative.dev/v1/namespaces/my-project/services
run POST /v1/europe-west1/services/my-chat:setIamPolicy
""".strip().split("\n")
AGAIN = """
storage POST /upload/storage/v1/b/run-sources-my-project-europe-west1/o
run POST /v2/europe-west1/builds:submit
run PUT /apis/serving.knative.dev/v1/namespaces/my-project/services/my-chat
""".strip().split("\n")


def test_one_command_makes_exactly_this_and_a_second_only_what_changed(deployer: Deployer) -> None:
    cloud, project = deployer.cloud, deployer.cloud.project
    said = deployer.deploy()
    assert _changes(deployer, 0) == FIRST
    assert "europe-west1, next to Redis" in said
    assert 'You sent 2 messages. Now: \\"Hello\\"' in said
    key = deployer.folder / ".deploy/my-chat.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"Authorization: Bearer ck_\S+\n", key.read_text())
    assert not any(one in said for one in SECRETS) and key.read_text().split()[-1] not in said
    _assert_what_was_uploaded_is_what_runs(deployer)
    _assert_first_service(deployer)
    assert project.roles == {"roles/run.builder": {f"serviceAccount:{BUILD_ACCOUNT}"}}
    assert project.secrets["my-chat-gpt-api-key"].versions == [b'sk-"secret"#1']
    assert project.secrets["my-chat-admin-key"].versions == [ADMIN_KEY.encode()]

    _set_elsewhere(deployer)
    seen = len(cloud.calls)
    said = deployer.deploy()
    assert _changes(deployer, seen) == AGAIN
    assert "Kept as they are in the cloud, since .env does not name them: RATE_LIMIT" in said
    annotations = cloud.services["my-chat"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/maxScale"] == "7"
    assert deployer.variables()["RATE_LIMIT"] == "5/minute"
    assert deployer.service["containerConcurrency"] == 99

    deployer.set("""'sk-"secret"#1'""", "sk-other")
    (deployer.folder / ".env").open("a").write("RATE_LIMIT=\n")
    seen = len(cloud.calls)
    deployer.deploy("--max=9", "--private")
    new_version = "secretmanager POST /v1/secrets/my-chat-gpt-api-key:addVersion"
    bound = "secretmanager POST /v1/secrets/my-chat-gpt-api-key:setIamPolicy"
    closed = "run POST /v1/europe-west1/services/my-chat:setIamPolicy"
    assert _changes(deployer, seen) == [bound, new_version, *AGAIN, closed]
    assert project.secrets["my-chat-gpt-api-key"].versions == [b'sk-"secret"#1', b"sk-other"]
    assert "RATE_LIMIT" not in deployer.variables()
    assert deployer.variables()["GPT_API_KEY"] == "my-chat-gpt-api-key:2"
    # The version before goes once no rollback can need it.
    deployer.deploy("--public")
    assert project.secrets["my-chat-gpt-api-key"].versions == [None, b"sk-other"]


def _assert_what_was_uploaded_is_what_runs(deployer: Deployer) -> None:
    (archive,) = deployer.cloud.project.buckets["run-sources-my-project-europe-west1"].values()
    names = {name for name in zipfile.ZipFile(io.BytesIO(archive)).namelist() if name[-1] != "/"}
    wanted = {"main.py", "requirements.txt"}
    for path in (deployer.folder / "chat").rglob("*"):
        unwanted = path.name in ("debug.log", ".DS_Store") or "__pycache__" in path.parts
        if path.is_file() and not unwanted:
            wanted.add(str(path.relative_to(deployer.folder)))
    assert names == wanted and {name.split("/")[0] for name in names} == set(DEPLOYED)


def _assert_first_service(deployer: Deployer) -> None:
    template = deployer.cloud.services["my-chat"]["spec"]["template"]
    assert deployer.variables() == {
        "ADMIN_KEY": "my-chat-admin-key:1",
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "GPT_API_KEY": "my-chat-gpt-api-key:1",
        "OPENAI_BASE_URL": "https://models.example.com/v1",
        "REDIS_HOST": "eu1-quick-fox.upstash.io",
        "REDIS_PASSWORD": "my-chat-redis-password:1",
        "SYSTEM_PROMPT": "Be brief, and: say 'please'.",
        "THREADS": "256",
    }
    assert template["spec"]["serviceAccountName"] == RUNTIME_ACCOUNT
    assert (template["spec"]["containerConcurrency"], template["spec"]["timeoutSeconds"]) == (
        200,
        900,
    )
    assert template["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "1",
        "memory": "512Mi",
    }
    annotations = template["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/maxScale"] == "20"
    assert annotations["run.googleapis.com/startup-cpu-boost"].lower() == "true"
    build = next(call for call in deployer.cloud.calls if call.path.endswith("builds:submit"))
    assert build.json["buildpackBuild"]["baseImage"] == "python314"
    assert deployer.cloud.roles["my-chat"] == {"roles/run.invoker": {"allUsers"}}


def _set_elsewhere(deployer: Deployer) -> None:
    """As in the console: a limit, a setting, and how many requests one instance takes."""
    template = deployer.cloud.services["my-chat"]["spec"]["template"]
    template["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"] = "7"
    template["spec"]["containers"][0]["env"].append({"name": "RATE_LIMIT", "value": "5/minute"})
    template["spec"]["containerConcurrency"] = 99


def test_a_stream_of_what_was_uploaded_ends_well_when_the_instance_is_told_to_go(
    deployer: Deployer, model: ModelServer
) -> None:
    deployer.deploy()
    process, port = deployer.cloud.running["my-chat-00001-abc"]
    name, value = (deployer.folder / ".deploy/my-chat.key").read_text().strip().split(": ")
    client = Client(f"http://127.0.0.1:{port}", {name: value})
    gate = threading.Event()
    model.enqueue(Answer(pieces=["one ", "two"], gate=gate))
    stream = client.stream("/c/chat", {"content": "x", "stream": True})
    assert stream.until("delta").data == {"text": "one "}
    process.terminate()
    gate.set()
    assert stream.rest()[-1].name == "completed"
    assert process.wait(20) == 0


def test_a_canary_gets_no_traffic_and_after_a_rollback_a_deploy_gets_it_again(
    deployer: Deployer,
) -> None:
    assert "deploy it without --canary first" in deployer.deploy("--canary", fails=True)
    assert deployer.cloud.changes() == []
    deployer.deploy()
    (first,) = deployer.traffic()
    said = deployer.deploy("--canary")
    assert deployer.traffic() == {first: 100}
    assert "canary---my-chat-123456789012.europe-west1.run.test" in said
    assert "--to-tags=canary=10" in said and "--to-latest" in said
    deployer.deploy()
    (newest,) = deployer.traffic()
    assert newest > first
    deployer.run("--rollback")
    (before,) = deployer.traffic()
    gone = deployer.cloud.project.secrets["my-chat-redis-password"]
    gone.versions[0] = None
    assert "could not start" in deployer.run("--rollback", fails=True)
    gone.versions[0] = b"pass=word,with:signs"
    assert first < before < newest
    status = deployer.run("--status")
    assert f"Traffic    100 % {before}" in status and "secret my-chat-gpt-api-key:1" in status
    deployer.deploy()
    (latest,) = deployer.traffic()
    assert latest > newest
    log = deployer.run("--logs")
    assert "POST /<chat_id>/chat 200" in log


def test_whatever_step_fails_the_next_run_goes_on_and_delete_leaves_nothing(
    deployer: Deployer,
) -> None:
    cloud, project = deployer.cloud, deployer.cloud.project
    project.bindings_until_known = 1
    for request, step in WAYS_TO_FAIL:
        cloud.fail(request)
        if step is None:
            continue  # refused to many who may deploy all the same; the next step shows it
        said = deployer.deploy(fails=True)
        assert f"This step failed: {step}" in said and "run the same command again" in said, said
        if "iam POST" in request:
            assert "Made so far" not in said
    said = deployer.deploy()
    assert 'Now: \\"Hello\\"' in said
    assert [len(secret.versions) for secret in project.secrets.values()] == [1, 1, 1]
    assert sum(call.name.startswith("iam POST") for call in cloud.calls) == 2

    assert "Say --yes" in deployer.run("--delete", fails=True)
    assert cloud.services
    for request in ("packages/my-chat", "run DELETE", "DELETE .*my-chat-gpt-api-key", "iam DELETE"):
        cloud.fail(request)
        assert "This step failed: Delete" in deployer.run("--delete", "--yes", fails=True)
    deployer.run("--delete", "--yes")
    left = (cloud.services, project.secrets, project.images, project.accounts - {BUILD_ACCOUNT})
    assert left == ({}, {}, set(), set())
    assert project.buckets == {"run-sources-my-project-europe-west1": {}}
    assert not (deployer.folder / ".deploy/my-chat.key").exists()


def test_the_classic_way_deploys_with_gcloud_functions_and_is_deleted_so(
    deployer: Deployer,
) -> None:
    said = deployer.deploy("--classic")
    assert 'Now: \\"Hello\\"' in said
    made = next(
        call
        for call in deployer.cloud.changes()
        if call.api == "cloudfunctions"
        if call.query.get("functionId")
    )
    wish: Any = made.json["serviceConfig"]
    assert made.json["buildConfig"]["runtime"] == "python314"
    assert (
        wish["maxInstanceRequestConcurrency"] == 200
        and wish["serviceAccountEmail"] == RUNTIME_ACCOUNT
    )
    assert wish["environmentVariables"]["SYSTEM_PROMPT"] == "Be brief, and: say 'please'."
    assert "do the same" in deployer.deploy(fails=True)
    deployer.run("--delete", "--yes")
    assert deployer.cloud.services == {} and deployer.cloud.project.secrets == {}
