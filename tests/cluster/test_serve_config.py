"""cluster/serve.yaml, and what of it stands in rayservice.yaml."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from ray_fer.serving.catalogue import ModelsConfig
from ray_fer.serving.deployments import API
from ray_fer.serving.options import ServingOptions
from tests.cluster.manifests import CLUSTER, KUBERAY, ROOT, Document, of_kind, parse, resources


@pytest.fixture(scope="module")
def put_serve_config() -> ModuleType:
    """The script that keeps the two in step."""
    spec = importlib.util.spec_from_file_location("put_serve_config", KUBERAY / "put_serve_config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_kubernetes() -> Document:
    (config,) = parse(resources()["RayService", "ray-fer"]["spec"]["serveConfigV2"])
    return config


def on_machines() -> Document:
    (config,) = parse((CLUSTER / "serve.yaml").read_text())
    return config


def test_the_script_has_been_run(put_serve_config: ModuleType) -> None:
    service = (KUBERAY / "rayservice.yaml").read_text()
    fresh = put_serve_config.put(service, put_serve_config.for_kubernetes((CLUSTER / "serve.yaml").read_text()))
    assert fresh == service, f"run `python {(KUBERAY / 'put_serve_config.py').relative_to(ROOT)}`"


def test_the_script_names_a_line_that_it_does_not_find(put_serve_config: ModuleType) -> None:
    serve = (CLUSTER / "serve.yaml").read_text().replace("bootstrap_servers", "servers")
    with pytest.raises(ValueError, match="0 lines that begin with '        bootstrap_servers: ': correct DIFFERENT"):
        put_serve_config.for_kubernetes(serve)
    with pytest.raises(ValueError, match=r"0 blocks `serveConfigV2: \|`, expected one"):
        put_serve_config.put("spec: {}\n", "x: 1\n")


def test_kubernetes_has_another_address_kafka_and_keys_and_nothing_else() -> None:
    config, other = on_machines(), on_kubernetes()
    assert config["http_options"].pop("host") == "127.0.0.1"
    assert other["http_options"].pop("host") == "0.0.0.0"
    (application,), (other_application,) = config["applications"], other["applications"]
    kafka, other_kafka = application["args"].pop("kafka"), other_application["args"].pop("kafka")
    assert kafka.pop("bootstrap_servers") != other_kafka.pop("bootstrap_servers")
    assert {name for name in other_kafka if name not in kafka} == {
        "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password_file", "ssl_cafile",
    }  # fmt: skip
    assert kafka.items() <= other_kafka.items()
    assert other_application["args"]["api"].pop("keys") == "/etc/ray-fer/keys.json"
    assert config == other


@pytest.mark.parametrize("config", [on_machines(), on_kubernetes()], ids=["machines", "kubernetes"])
def test_serve_and_the_application_accept_it(config: Document) -> None:
    deployed = ServeDeploySchema.model_validate(config)
    (application,) = deployed.applications
    options = ServingOptions.model_validate(application.args)
    assert options.kafka is not None
    # More workers than partitions would have nothing to read.
    assert options.workers.most <= options.kafka.partitions
    (api,) = application.deployments
    assert api.name == API
    models = ModelsConfig.model_validate(api.user_config)
    assert models.models[models.default or ""] == "packaged"
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_an_address_that_others_reach_has_keys() -> None:
    for config in (on_machines(), on_kubernetes()):
        (application,) = config["applications"]
        assert config["http_options"]["host"] == "127.0.0.1" or "keys" in application["args"]["api"]


def test_files_that_the_settings_name_are_mounted() -> None:
    (application,) = on_kubernetes()["applications"]
    kafka, api = application["args"]["kafka"], application["args"]["api"]
    named = {kafka["sasl_password_file"], kafka["ssl_cafile"], api["keys"]}
    for group in resources()["RayService", "ray-fer"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        sources = {volume["name"]: volume.get("projected", {}).get("sources", []) for volume in spec["volumes"]}
        (container,) = spec["containers"]
        files = {
            str(Path(mount["mountPath"], item["path"]))
            for mount in container["volumeMounts"]
            for source in sources[mount["name"]]
            for item in source["secret"]["items"]
        }
        assert named == files


def test_the_port_is_the_one_that_pods_and_policies_have() -> None:
    port = on_kubernetes()["http_options"]["port"]
    groups: list[Any] = resources()["RayService", "ray-fer"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "serve", "containerPort": port} in container["ports"]
    (rule,) = of_kind("NetworkPolicy")["ray-fer-api"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port}]
