"""The manifests: what Kubernetes and the operators accept, and what they must say for ray_fer to run well."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import warnings
from typing import Any

import kubernetes_validate
import pytest
import typer

from ray_fer.cli import train
from ray_fer.training.recipe import overridden
from ray_fer.training.recipes import recipe as recipe_named
from tests.cluster import crds
from tests.cluster.manifests import (
    CLUSTER,
    KUBERAY,
    ROOT,
    Document,
    all_pod_templates,
    documents,
    of_kind,
    parse,
    pod_templates,
    resources,
)

KUBERNETES = ["1.31", "1.37"]
"""The oldest one in which all that we use is stable, and the newest one known."""
BUILT_IN = ("v1", "policy/v1", "networking.k8s.io/v1")
TEMPLATES = all_pod_templates()
WORKERS = {where: one for where, one in TEMPLATES.items() if "workerGroupSpecs" in where}
RAY_CONTAINERS = {where: one["spec"]["containers"][0] for where, one in TEMPLATES.items() if "submitter" not in where}

every_resource = pytest.mark.parametrize("key", resources(), ids="/".join)
every_template = pytest.mark.parametrize("where", TEMPLATES)


@every_resource
def test_resources_are_what_their_makers_accept(key: tuple[str, str]) -> None:
    resource = resources()[key]
    if resource["apiVersion"] in BUILT_IN:
        for version in KUBERNETES:
            kubernetes_validate.validate(resource, version, strict=True)
        return
    assert crds.faults(resource) == []


def test_it_is_said_which_crds_are_not_at_hand() -> None:
    names = {crds.name_of(one) for one in resources().values() if one["apiVersion"] not in BUILT_IN}
    missing = sorted(name for name in names if crds.crd_schema(name) is None)
    if missing:
        warnings.warn(
            f"no CRD at hand of {', '.join(missing)}: only the fields of used_fields.yaml were checked (looked in "
            f"{', '.join(map(str, crds.FOLDERS))})",
            stacklevel=1,
        )
    for name in names:
        assert crds.used_schema(name)["properties"]


@every_template
@pytest.mark.parametrize("version", KUBERNETES)
def test_pod_templates_are_what_kubernetes_accepts(where: str, version: str) -> None:
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": TEMPLATES[where]}
    kubernetes_validate.validate(template, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    service = copy.deepcopy(resources()["RayService", "ray-fer"])
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    group["minReplica"] = group.pop("minReplicas")
    found = crds.faults(service)
    assert any("'minReplica' was unexpected" in one for one in found)
    assert any("'minReplicas' is a required property" in one for one in found)


def test_the_used_fields_are_those_of_the_crds() -> None:
    """Of those that are at hand."""

    def compare(used: Document, known: Document, where: str) -> None:
        for field, inner in used.get("properties", {}).items():
            assert field in known["properties"], f"{where}.{field} is not in the CRD"
            compare(inner, known["properties"][field], f"{where}.{field}")
        if "items" in used:
            compare(used["items"], known["items"], f"{where}[]")
        if "type" in used and "type" in known:
            assert used["type"] == known["type"], where
        assert set(used.get("enum") or ()) <= set(known.get("enum") or used.get("enum") or ()), where

    for name in {crds.name_of(one) for one in resources().values() if one["apiVersion"] not in BUILT_IN}:
        if (crd := crds.crd_schema(name)) is not None:
            compare(crds.used_schema(name), crd["properties"]["spec"], f"{name} spec")


@every_template
def test_no_pod_may_more_than_it_needs(where: str) -> None:
    spec = TEMPLATES[where]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys() >= {"cpu", "memory"}
    # The autoscaler beside the head asks Kubernetes for pods. Nobody else has to ask it for anything.
    autoscaled = "headGroupSpec" in where and not where.startswith("RayJob")
    assert spec.get("automountServiceAccountToken", True) == autoscaled


@pytest.mark.parametrize("where", RAY_CONTAINERS)
def test_ray_pods_are_probed(where: str) -> None:
    container = RAY_CONTAINERS[where]
    agent = {"path": "/api/healthz", "port": 52365}
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"] == agent
    serving_worker = where.startswith("RayService") and where in WORKERS
    assert container["readinessProbe"]["httpGet"] == (
        {"path": "/-/healthz", "port": "serve"} if serving_worker else agent
    )
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == 8080
    assert where.startswith("RayService") == ("serve" in ports)


@pytest.mark.parametrize("where", WORKERS)
def test_workers_leave_in_time(where: str) -> None:
    spec = WORKERS[where]["spec"]
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert command.endswith("ray stop")
    waits = [int(seconds) for seconds in re.findall(r"(?:sleep|--deadline-remaining-seconds) (\d+)", command)]
    if where.startswith("RayService"):
        deadline, slept = waits
        # `graceful_shutdown_timeout_s` of the deployment Stream is 25 s; then Ray itself needs some.
        assert 25 < deadline == slept <= spec["terminationGracePeriodSeconds"] - 30
    else:
        assert waits == []


def test_what_the_drain_command_names_exists() -> None:
    """The command is hidden, and Ray promises nothing about it."""
    drain = next(one for one in WORKERS if one.startswith("RayService"))
    words = shlex.split(WORKERS[drain]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    from ray.scripts.scripts import cli

    command = cli.commands[words[1]]
    options = {name: one for one in command.params for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= options.keys()
    assert words[words.index("--reason") + 1] in options["--reason"].type.choices


def test_gpu_groups_have_gpus_and_nobody_else() -> None:
    for where, template in TEMPLATES.items():
        for container in template["spec"]["containers"]:
            gpus = "nvidia.com/gpu" in container["resources"]["limits"]
            assert gpus == container["image"].endswith("-gpu") == (where.rpartition(".")[0].endswith(".gpu")), where
            tolerated = {one["key"] for one in template["spec"].get("tolerations", [])}
            assert gpus == ("nvidia.com/gpu" in tolerated)


def _volume_sources(template: Document) -> list[Document]:
    volumes = template["spec"].get("volumes", [])
    return volumes + [source for one in volumes for source in one.get("projected", {}).get("sources", [])]


@every_template
def test_volumes_and_secrets_are_there(where: str) -> None:
    template = TEMPLATES[where]
    mounted = {one["name"] for container in template["spec"]["containers"] for one in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in template["spec"].get("volumes", [])}
    claims = {
        one["persistentVolumeClaim"]["claimName"] for one in _volume_sources(template) if "persistentVolumeClaim" in one
    }
    assert claims <= of_kind("PersistentVolumeClaim").keys()
    strimzis = {*of_kind("KafkaUser"), *(f"{kafka}-cluster-ca-cert" for kafka in of_kind("Kafka"))}
    secrets = {one["secret"]["name"] for one in _volume_sources(template) if "secret" in one}
    assert secrets <= of_kind("Secret").keys() | strimzis


def test_the_example_keys_let_nobody_in(tmp_path: Any) -> None:
    from ray_fer.serving.keys import read_keys

    secret = resources()["Secret", "ray-fer-keys"]
    (tmp_path / "keys.json").write_text(secret["stringData"]["keys.json"])
    assert read_keys(tmp_path / "keys.json") == []


def _selected(selector: Document) -> set[str]:
    wanted = selector.get("matchLabels", {}).items()
    return {where for where, one in TEMPLATES.items() if wanted <= one["metadata"]["labels"].items()}


def test_policies_select_the_pods_they_are_for() -> None:
    everyone, heads = set(TEMPLATES), {where for where in TEMPLATES if "headGroupSpec" in where}
    serving = {where for where in TEMPLATES if where.startswith("RayService")}
    policies = {name: one["spec"] for name, one in of_kind("NetworkPolicy").items()}
    assert _selected(policies["ray-fer-among-themselves"]["podSelector"]) == everyone
    assert _selected(policies["ray-fer-among-themselves"]["ingress"][0]["from"][0]["podSelector"]) == everyone
    assert _selected(policies["ray-fer-operator"]["podSelector"]) == heads
    assert _selected(policies["ray-fer-api"]["podSelector"]) == serving
    assert _selected(policies["ray-fer-metrics"]["podSelector"]) == everyone
    (budget,) = of_kind("PodDisruptionBudget").values()
    assert _selected(budget["spec"]["selector"]) == serving & WORKERS.keys()
    spread = WORKERS["RayService/ray-fer.spec.rayClusterConfig.workerGroupSpecs.cpu.template"]["spec"]
    assert _selected(spread["topologySpreadConstraints"][0]["labelSelector"]) == serving & WORKERS.keys()


def test_a_drain_leaves_workers_and_is_not_forbidden() -> None:
    (budget,) = of_kind("PodDisruptionBudget").values()
    groups = resources()["RayService", "ray-fer"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert 1 <= budget["spec"]["minAvailable"] < sum(group["minReplicas"] for group in groups)


def test_monitors_find_what_they_scrape() -> None:
    (service,) = of_kind("ServiceMonitor").values()
    (endpoint,) = service["spec"]["endpoints"]
    # KubeRay names the Service's ports after those of the head's container, and labels it with the RayService's name.
    head = RAY_CONTAINERS["RayService/ray-fer.spec.rayClusterConfig.headGroupSpec.template"]
    assert endpoint["port"] in {port["name"] for port in head["ports"]}
    assert service["spec"]["selector"]["matchLabels"]["ray.io/originated-from-cr-name"] in of_kind("RayService")
    assert endpoint["authorization"]["credentials"]["name"] in of_kind("Secret")
    (pods,) = of_kind("PodMonitor").values()
    assert _selected(pods["spec"]["selector"]) == set(TEMPLATES)


def test_the_alerts_become_a_resource_of_the_operator() -> None:
    """With the command that monitoring.yaml shows."""
    (command,) = re.findall(
        r"^#     (\(printf .*alerts\.yml\)) \| kubectl apply", (KUBERAY / "monitoring.yaml").read_text(), re.M
    )
    printed = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (rule,) = parse(printed)
    assert rule["kind"] == "PrometheusRule"
    assert crds.faults(rule) == []
    (alerts,) = documents(CLUSTER / "prometheus" / "alerts.yml")
    assert rule["spec"] == alerts


def test_the_heads_memory_can_be_added() -> None:
    """kubectl patch --type merge, as RFC 7386 has it."""

    def merged(old: Any, new: Any) -> Any:
        return (
            old | {key: merged(old.get(key, {}), value) for key, value in new.items()} if isinstance(new, dict) else new
        )

    (patch,) = documents(KUBERAY / "head-fault-tolerance.yaml")
    service = merged(resources()["RayService", "ray-fer"], patch)
    assert service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"]
    assert crds.faults(service) == []


def test_the_training_job_is_a_command_that_exists() -> None:
    job = resources()["RayJob", "ray-fer-train"]["spec"]
    python, script, *arguments = shlex.split(job["entrypoint"])
    assert python == "python"
    assert script.startswith("/opt/ray-fer/jobs/")
    assert (ROOT / "jobs" / script.removeprefix("/opt/ray-fer/jobs/")).is_file()
    app = typer.Typer()
    app.command()(train)
    given = typer.main.get_command(app).make_context("train", arguments).params
    recipe = overridden(recipe_named(given["recipe"]), given["settings"])
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert recipe.workers == group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    mounts = [one["mountPath"] for one in group["template"]["spec"]["containers"][0]["volumeMounts"]]
    for path in (given["store"], given["priors_file"], given["output"], given["run"]):
        assert any(str(path).startswith(f"{mount}/") for mount in mounts), path


def test_the_job_that_submits_reaches_the_head() -> None:
    where = "RayJob/ray-fer-train.spec.submitterPodTemplate"
    assert next(pod_templates(resources()["RayJob", "ray-fer-train"]["spec"]["submitterPodTemplate"]))
    assert where in _selected(of_kind("NetworkPolicy")["ray-fer-among-themselves"]["spec"]["podSelector"])
