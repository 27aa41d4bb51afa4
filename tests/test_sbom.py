"""The bill of materials names everything that is deployed, with its hashes, and nothing else."""

import re

from dev.sbom import bill_of_materials
from tests.harness import ROOT

REQUIREMENTS = (ROOT / "requirements.txt").read_text()


def test_every_pin_is_a_component_with_the_hashes_of_its_files() -> None:
    bill = bill_of_materials(REQUIREMENTS)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    parts = bill["components"]
    pins = re.findall(r"^([\w.-]+)==([^ ;\\]+)", REQUIREMENTS, re.M)
    assert [(part["name"], part["version"]) for part in parts] == pins and len(pins) > 10
    hashes = [entry["content"] for part in parts for entry in part["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", REQUIREMENTS))
    assert all(part["purl"].startswith("pkg:pypi/") and part["hashes"] for part in parts)
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(parts)
    assert bill["dependencies"][0]["dependsOn"] == references


def test_nearly_all_say_their_licence_and_the_document_is_the_same_each_time() -> None:
    bill = bill_of_materials(REQUIREMENTS)
    assert bill == bill_of_materials(REQUIREMENTS)
    without = [part["name"] for part in bill["components"] if "licenses" not in part]
    assert len(without) * 10 <= len(bill["components"]), without
