"""`make sbom`: what is deployed, as CycloneDX 1.6 JSON (https://cyclonedx.org), from the pins.

The same pins give the same document, to the byte: no time of day, and a serial number made of what
is in it. Hashes are those of the files that pip may install; licences are what packages say here.
"""

import json
import re
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from chat.settings import VERSION

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill_of_materials(requirements: str) -> dict[str, Any]:
    """The document, from the text of a requirements file with hashes."""
    blocks = re.split(r"\n(?=\S)", requirements.strip())
    parts = [part for block in blocks if (part := _component(block))]
    root = _purl("chatkeep", VERSION)
    content = json.dumps(parts, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "chatkeep",
                "version": VERSION,
            }
        },
        "components": parts,
        "dependencies": [{"ref": root, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _component(block: str) -> dict[str, Any] | None:
    pin = _PIN.match(block)
    if not pin:
        return None
    name, version = pin.groups()
    purl = _purl(name, version)
    hashes = [{"alg": "SHA-256", "content": digest} for digest in _HASH.findall(block)]
    part = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": hashes,
    }
    licence = _licence(name)
    return part | {"licenses": [{"license": {"name": licence}}]} if licence else part


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"


def _licence(name: str) -> str:
    """As the installed package says it; "" if it does not, or is for another platform."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    said = [about[field] for field in ("License-Expression", "License") if field in about]
    classes = [c for c in about.get_all("Classifier") or () if c.startswith("License")]
    said += [one.rpartition(" :: ")[2] for one in classes]
    return next((text for text in said if text and "\n" not in text and len(text) < 100), "")


if __name__ == "__main__":
    print(json.dumps(bill_of_materials((ROOT / "requirements.txt").read_text()), indent=2))
