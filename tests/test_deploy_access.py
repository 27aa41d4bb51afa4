"""deploy.sh: who reaches what was deployed, and what it leaves alone."""

import json

import pytest

from tests.deploying import SECRETS, Deployer


def test_a_function_that_stays_closed_is_deployed_and_opened_later(deployer: Deployer) -> None:
    deployer.cloud.fail("run POST .*my-chat:setIamPolicy")
    said = deployer.deploy()
    assert "If it should be public: ./deploy.sh my-chat --public" in said
    key = deployer.folder / ".deploy/my-chat.key"
    assert "print-identity-token" not in said and not key.exists()
    said = deployer.deploy("--public")
    assert 'Now: \\"Hello\\"' in said and key.exists()


@pytest.mark.parametrize(
    "settings, options, is_public, authorization",
    [
        ("AUTH=keys", (), True, "-H @.deploy/my-chat.key"),
        ("AUTH=keys", ("--private",), False, "-H @.deploy/my-chat.key"),
        ("AUTH=open", (), False, ""),
        ("AUTH=open", ("--public",), True, ""),
        ("AUTH=open,keys", (), False, ""),
        ("AUTH=jwt\nFIREBASE_PROJECT=p", (), True, "-H 'Authorization: Bearer <an ID token>'"),
    ],
)
def test_without_users_it_is_public_only_when_asked_for(
    deployer: Deployer,
    settings: str,
    options: tuple[str, ...],
    is_public: bool,
    authorization: str,
) -> None:
    with (deployer.folder / ".env").open("a") as file:
        file.write(f"{settings}\n")
    said = deployer.deploy("--dry-run", *options)
    deploy = next(line for line in said.splitlines() if line.startswith("gcloud run deploy"))
    assert (" --allow-unauthenticated" in deploy) == is_public
    assert (" --no-allow-unauthenticated" in deploy) != is_public
    call = next(line for line in said.splitlines() if line.startswith("curl") and "demo" in line)
    assert authorization in call and ("-H" in call) == bool(authorization)
    assert ("/admin/users/add" in said) == ("keys" in settings)


def test_a_service_of_somebody_else_is_left_alone(deployer: Deployer) -> None:
    cloud = deployer.cloud
    cloud.project.enabled |= {"run", "secretmanager"}
    cloud.project.accounts.add("theirs@my-project.iam.gserviceaccount.com")
    template = {
        "serviceAccountName": "theirs@my-project.iam.gserviceaccount.com",
        "containers": [{}],
    }
    spec = {"template": {"metadata": {}, "spec": template}}
    cloud.deploy("us-east1", {"metadata": {"name": "my-chat", "labels": {}}, "spec": spec})
    for options in ((), ("--delete", "--yes"), ("--rollback",)):
        assert "not made by deploy.sh" in deployer.deploy(*options, fails=True)
    assert cloud.changes() == []


def test_a_redis_that_does_not_answer_stops_it_before_anything_is_made(deployer: Deployer) -> None:
    deployer.set("eu1-quick-fox.upstash.io", "redis.invalid")
    said = deployer.run(fails=True)
    assert "Redis at redis.invalid: " in said and "--no-ping" in said
    assert deployer.cloud.calls == []


def test_a_dry_run_prints_every_command_and_asks_nothing(deployer: Deployer) -> None:
    said = deployer.deploy("--dry-run")
    assert deployer.cloud.calls == []
    for command in (
        "gcloud services enable artifactregistry.googleapis.com",
        "gcloud iam service-accounts create my-chat-run",
        "gcloud secrets versions add my-chat-gpt-api-key",
        "gcloud run deploy my-chat --function=main --base-image=python314 --region=europe-west1",
        "--update-secrets=ADMIN_KEY=my-chat-admin-key:VERSION,",
        "gcloud run services update-traffic my-chat --region=europe-west1 --to-latest",
    ):
        assert command in said
    flags, _ = json.JSONDecoder().raw_decode(said, said.index("{", said.index("flags.json:")))
    assert flags["--update-env-vars"]["REDIS_HOST"] == "eu1-quick-fox.upstash.io"
    for option in ("--rollback", "--delete", "--status", "--logs"):
        assert "gcloud" in deployer.run("--dry-run", option)
    assert deployer.cloud.calls == [] and not any(one in said for one in SECRETS)
    assert not (deployer.folder / ".deploy").exists()
