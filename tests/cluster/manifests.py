"""The files below cluster/, read as strictly as those read them for whom they are made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"

Document = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"given twice: {', '.join(sorted(twice))}{node.start_mark}")
        return super().construct_mapping(node, deep)


def parse(text: str) -> list[Any]:
    """The YAML documents of a text."""
    return list(yaml.load_all(text, _Loader))


def documents(path: Path) -> list[Document]:
    """The YAML documents of a file."""
    return parse(path.read_text())


@lru_cache
def resources() -> dict[tuple[str, str], Document]:
    """Everything below cluster/kuberay, by kind and name; patches are left out."""
    found = [one for path in sorted(KUBERAY.glob("*.yaml")) for one in documents(path) if "kind" in one]
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found), "two resources of one kind have the same name"
    return named


def of_kind(kind: str) -> dict[str, Document]:
    """The resources of a kind by name."""
    return {name: one for (its_kind, name), one in resources().items() if its_kind == kind}


def pod_templates(value: Any, where: str = "") -> Iterator[tuple[str, Document]]:
    """Every pod template inside a resource, with where it is."""
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield where, value
            return
        for key, inner in value.items():
            yield from pod_templates(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from pod_templates(item, f"{where}.{item.get('groupName', '')}" if isinstance(item, dict) else where)


def all_pod_templates() -> dict[str, Document]:
    """Those of all resources, by kind, name and where."""
    return {
        f"{kind}/{name}{where}": template
        for (kind, name), one in resources().items()
        for where, template in pod_templates(one)
    }
