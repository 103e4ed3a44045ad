"""What KubeRay, Strimzi and the Prometheus operator accept: their CRDs where these are at hand, and always the fields
that our manifests use (used_fields.yaml).

CRDs are looked for in the folder that RAY_FER_KUBERAY_CRDS names, and in ../shared/crds beside the checkout, under the
names that the projects give them, such as ray.io_rayclusters.yaml, with or without .gz. No package carries KubeRay's;
Strimzi's are made by its own generator from Maven Central (io.strimzi:api and io.strimzi:crd-generator, Java 21).
"""

from __future__ import annotations

import gzip
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

from tests.cluster.manifests import ROOT, Document

FOLDERS = [
    *(Path(given) for given in [os.environ.get("RAY_FER_KUBERAY_CRDS")] if given),
    ROOT.parent / "shared" / "crds",
]
_ANY: dict[str, Any] = {}
_INT_OR_STRING = {"type": ["integer", "string"]}


def name_of(resource: Document) -> str:
    """Such as ray.io/v1/RayJob."""
    return f"{resource['apiVersion']}/{resource['kind']}"


@lru_cache
def crd_schema(name: str) -> dict[str, Any] | None:
    """The schema of a kind by its CRD, None where no folder has it. Fields that it does not know are refused."""
    group, version, kind = name.split("/")
    for folder in FOLDERS:
        for path in (folder / f"{group}_{kind.lower()}s.yaml", folder / f"{group}_{kind.lower()}s.yaml.gz"):
            if path.is_file():
                text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                crd = yaml.load(text, yaml.CSafeLoader)
                schemas = {one["name"]: one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"]}
                assert version in schemas, f"{path} has versions {', '.join(schemas)}, and we use {version}"
                schema: dict[str, Any] = _strict(schemas[version])
                schema["properties"]["metadata"] = _ANY
                return schema
    return None


def _strict(schema: Any) -> Any:
    """An OpenAPI schema of Kubernetes as a JSON schema that refuses what Kubernetes would silently drop."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    changed = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        changed.setdefault("additionalProperties", False)
    return changed


@lru_cache
def used_schema(name: str) -> dict[str, Any]:
    """The schema of `spec` in used_fields.yaml. Raises KeyError for a kind that is not in it."""
    fields = yaml.safe_load(Path(__file__).with_name("used_fields.yaml").read_text())
    return _schema(fields[name])


def _schema(node: Any) -> dict[str, Any]:
    if isinstance(node, list):
        return {"type": "array", "items": _schema(node[0])}
    if isinstance(node, dict):
        return {
            "type": "object",
            "properties": {name.rstrip("!"): _schema(inner) for name, inner in node.items()},
            "required": [name.rstrip("!") for name in node if name.endswith("!")],
            "additionalProperties": False,
        }
    if node in ("any", "pod"):
        return {"type": "object"} if node == "pod" else _ANY
    if node.startswith("one of "):
        return {"enum": node.split()[2:]}
    return {"type": node}


def faults(resource: Document) -> list[str]:
    """What is wrong with a resource: one line each, with where."""
    found = _faults(used_schema(name_of(resource)), resource["spec"], "used_fields.yaml: spec")
    schema = crd_schema(name_of(resource))
    return found if schema is None else found + _faults(schema, resource, "CRD: ")


def _faults(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    return [f"{where}{one.json_path[1:]}: {one.message}" for one in Draft7Validator(schema).iter_errors(value)]
