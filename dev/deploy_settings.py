"""Used by deploy.sh: check .env as the function will, and separate secrets from plain settings."""

import json
import sys
from pathlib import Path

from dotenv import dotenv_values

from chat.settings import BadSettings, all_fields, parse_settings


def main(folder: Path, project: str) -> None:
    """Write what deploy.sh needs into `folder`: plain.yaml, secrets/, and `open` if AUTH is."""
    given = {name: value for name, value in dotenv_values(".env").items() if value}
    try:
        settings = parse_settings(given | {"K_SERVICE": "set on Cloud Run"}, names=given)
    except BadSettings as problems:
        sys.exit(str(problems))
    plain: dict[str, str] = {}
    (folder / "secrets").mkdir()
    for field in all_fields():
        value = given.get(field.variable) or given.get(field.alias)
        if value and field.secret:
            (folder / "secrets" / field.variable).write_text(value)
        elif value:
            plain[field.variable] = value
    plain.setdefault("THREADS", str(settings.threads))
    plain.setdefault("GOOGLE_CLOUD_PROJECT", project)
    if "open" in settings.auth_ways:
        (folder / "open").touch()
    # JSON is YAML, and quotes whatever needs it.
    (folder / "plain.yaml").write_text(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
