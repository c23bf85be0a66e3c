"""The manifest of docs/kubernetes/ against the schema of KubeRay's RayJob.

`tests/functional/kuberay/rayjob_v1.json.gz` is the `openAPIV3Schema` of version v1, without descriptions and status, from
`ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of github.com/ray-project/kuberay (Apache-2.0, commit feeaf72fa). Its rules
in CEL are not checked.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "functional" / "kuberay" / "rayjob_v1.json.gz"
MANIFEST = ROOT / "docs" / "kubernetes" / "rayjob.yaml"


def closed(schema: Any) -> Any:
    """Return a structural schema in which an unknown field is an error, as with `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    is_object = isinstance(found.get("properties"), dict) and "type" in found
    if is_object and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(closed(schema))


def errors(validator: Any, manifest: Any) -> list[str]:
    return [error.message for error in validator.iter_errors(manifest)]


def test_the_manifest_is_a_ray_job(validator) -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert errors(validator, manifest) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entrypoints"), "lmprog"),
        (("spec", "backoffLimit"), "none"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"), "two"),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "volumeMounts", 0, "path"),
            "/x",
        ),
    ],
)
def test_a_mistake_is_found(validator, path: tuple[str | int, ...], value: Any) -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    place: Any = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert errors(validator, manifest)
