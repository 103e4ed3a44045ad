"""compose.yaml: everything that it names is there, and nobody else reaches what it starts."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from ray_fer.cli import app
from ray_fer.streaming.apache_kafka import VERSION
from tests.cluster.manifests import CLUSTER, documents, parse

(COMPOSE,) = documents(CLUSTER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"topics", "deploy"}

every_service = pytest.mark.parametrize("name", SERVICES)


def command_exists(words: list[str], whole: bool = True) -> None:
    """Parse a command of ours, or of Ray's two programs, without running it. Not `whole`: it is only spoken of."""
    from ray.scripts.scripts import cli as ray_cli
    from ray.serve.scripts import cli as serve_cli

    commands: dict[str, Any] = {"ray-fer": typer.main.get_command(app), "ray": ray_cli, "serve": serve_cli}
    command, *arguments = words
    found, context = commands[command], None
    while hasattr(found, "get_command"):  # a group of commands
        name, *arguments = arguments
        context = found.context_class(found, parent=context, info_name=name)
        found = found.get_command(context, name)
        assert found is not None, f"{command} has no command {name}"
    found.make_context(found.name, list(arguments), resilient_parsing=not whole)


@every_service
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for needed, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert needed in ONE_SHOT
    for volume in service.get("volumes", []):
        source, target, *options = volume.split(":")
        if source.startswith("."):
            # Bundles are the user's to bring.
            assert (CLUSTER / source).exists() or source == "./models"
            assert options == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    if "build" in service:
        build = service["build"]
        dockerfile = CLUSTER / build["context"] / build["dockerfile"]
        assert re.search(rf"^FROM .* AS {build['target']}$", dockerfile.read_text(), re.MULTILINE)


def test_volumes_are_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert COMPOSE["volumes"].keys() == {source for source in used if not source.startswith(".")}


@every_service
def test_a_service_is_pinned_limited_and_out_of_reach(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-gpu)?", tag), service["image"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port
    assert ("restart" in service) == (name not in ONE_SHOT)


def test_only_the_gpu_needs_a_profile() -> None:
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {"ray-worker-gpu": ["gpu"]}
    (device,) = SERVICES["ray-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["ray-worker-gpu"]["image"] == SERVICES["ray-worker"]["image"] + "-gpu"


def test_workers_may_be_many() -> None:
    worker = SERVICES["ray-worker"]
    assert not {"container_name", "hostname", "ports"} & worker.keys()


@pytest.mark.parametrize("name", ["topics", "ray-head", "ray-worker", "ray-worker-gpu", "deploy"])
def test_commands_exist(name: str) -> None:
    command = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[name]["command"]]
    if command[:2] == ["/bin/bash", "-c"]:
        command = shlex.split(command[2].rpartition("&&")[2])
    command_exists(command)


@pytest.mark.parametrize(
    "name", [name for name, one in SERVICES.items() if one.get("command", [])[:2] == ["ray", "start"]]
)
def test_the_object_store_fits_into_shared_memory(name: str) -> None:
    """Ray puts it on disk otherwise, and says so in a log only."""
    (given,) = re.findall(r"--object-store-memory=(\d+)", " ".join(SERVICES[name]["command"]))
    gigabytes = int(SERVICES[name]["shm_size"].removesuffix("g"))
    assert int(given) < 0.9 * gigabytes * 1024**3


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(AssertionError, match="ray-fer has no command topics"):
        command_exists(["ray-fer", "topics"])
    with pytest.raises(Exception, match="--adress"):
        command_exists(["serve", "deploy", "x.yaml", "--adress", "y"])
    with pytest.raises(Exception, match="--partition"):
        command_exists(["ray-fer", "stream", "topics", "--create", "--partition", "12"])


def test_the_deployed_config_listens_where_its_port_is_published(tmp_path: Path) -> None:
    """What the one-shot makes of serve.yaml, by running its `sed`."""
    edit, _, deploy = SERVICES["deploy"]["command"][2].partition(" && ")
    source, target = SERVICES["deploy"]["volumes"][0].split(":")[:2]
    edit = edit.replace(target, str(CLUSTER / source)).replace("/tmp/serve.yaml", str(tmp_path / "serve.yaml"))
    subprocess.run(["bash", "-euc", edit], check=True)
    (before,) = documents(CLUSTER / "serve.yaml")
    (after,) = parse((tmp_path / "serve.yaml").read_text())
    assert after["http_options"].pop("host") == "0.0.0.0"
    assert before["http_options"].pop("host") == "127.0.0.1"
    assert after == before
    port = after["http_options"]["port"]
    assert f"127.0.0.1:{port}:{port}" in SERVICES["ray-head"]["ports"]
    assert deploy.startswith("serve deploy /tmp/serve.yaml")


def test_the_topics_are_those_of_the_application() -> None:
    (config,) = documents(CLUSTER / "serve.yaml")
    kafka = config["applications"][0]["args"]["kafka"]
    command = SERVICES["topics"]["command"]
    assert command[command.index("--bootstrap-servers") + 1] == kafka["bootstrap_servers"]
    assert command[command.index("--partitions") + 1] == str(kafka["partitions"])
    broker = SERVICES["kafka"]["environment"]
    assert f"INSIDE://{kafka['bootstrap_servers']}" in broker["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{VERSION}"  # with which the integration tests run


def test_kafka_keeps_its_data_on_the_volume_and_needs_no_other_broker() -> None:
    kafka = SERVICES["kafka"]
    assert f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}" in kafka["volumes"]
    for name, value in kafka["environment"].items():
        if name.endswith(("REPLICATION_FACTOR", "MIN_ISR")):
            assert value == 1
    names = {one.partition("://")[0] for one in kafka["environment"]["KAFKA_LISTENERS"].split(",")}
    secured = dict(one.split(":") for one in kafka["environment"]["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert secured.keys() == names
    (port,) = kafka["ports"]
    assert kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(f"MACHINE://{port.rpartition(':')[0]}")


def test_the_token_is_asked_for_and_not_in_git() -> None:
    for name in ("topics", "ray-head", "ray-worker", "ray-worker-gpu", "deploy"):
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    ignored = (CLUSTER / ".gitignore").read_text().splitlines()
    assert {".env", "models/"} <= set(ignored)
