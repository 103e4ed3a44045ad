"""Kafka as strimzi.yaml describes it is what `ray-fer stream topics --create` and cluster/kafka/README.md say."""

from __future__ import annotations

import re

import pytest
from kafka.admin import KafkaAdminClient

from ray_fer.streaming import topics
from ray_fer.streaming.apache_kafka import VERSION
from ray_fer.streaming.kafka_settings import KafkaSettings
from tests.cluster.manifests import CLUSTER, of_kind, parse, resources


@pytest.fixture
def settings() -> KafkaSettings:
    """Those of the application on Kubernetes."""
    (config,) = parse(resources()["RayService", "ray-fer"]["spec"]["serveConfigV2"])
    return KafkaSettings.model_validate(config["applications"][0]["args"]["kafka"])


@pytest.fixture
def asked_for(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """What `create_topics` would ask an empty cluster for."""
    asked: dict[str, dict] = {}

    class Empty:
        def __enter__(self) -> Empty:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def list_topics(self) -> list[str]:
            return []

        def create_topics(self, wanted: dict[str, dict], raise_errors: bool) -> dict[str, list]:
            asked.update(wanted)
            return {"topics": []}

        def wait_for_topics(self, names: list[str]) -> None:
            pass

    assert {"list_topics", "create_topics", "wait_for_topics"} <= set(dir(KafkaAdminClient))
    monkeypatch.setattr(topics, "admin", lambda _: Empty())
    monkeypatch.setattr(topics, "problems", lambda *_: [])
    assert topics.create_topics(settings, replicas=3) == settings.topics()
    return asked


def test_the_topics_are_those_that_the_command_makes(asked_for: dict[str, dict]) -> None:
    found = {}
    for name, topic in of_kind("KafkaTopic").items():
        spec = topic["spec"]
        config = {key: str(value) for key, value in spec["config"].items()}
        found[name] = {"num_partitions": spec["partitions"], "replication_factor": spec["replicas"], "configs": config}
    assert found == asked_for


def test_the_cluster_is_the_one_that_the_application_asks(settings: KafkaSettings) -> None:
    (name,) = of_kind("Kafka")
    kafka = resources()["Kafka", name]["spec"]["kafka"]
    (listener,) = kafka["listeners"]
    assert settings.bootstrap_servers == f"{name}-kafka-bootstrap:{listener['port']}"
    assert settings.sasl_mechanism == listener["authentication"]["type"].upper()
    assert settings.security_protocol == "SASL_SSL"
    assert listener["tls"]
    assert settings.sasl_username in of_kind("KafkaUser")
    assert kafka["version"] == VERSION  # with which the integration tests run
    for kind in ("KafkaTopic", "KafkaUser", "KafkaNodePool"):
        assert {one["metadata"]["labels"]["strimzi.io/cluster"] for one in of_kind(kind).values()} == {name}


def test_any_one_node_may_be_lost() -> None:
    (pool,) = of_kind("KafkaNodePool").values()
    (kafka,) = of_kind("Kafka").values()
    config = kafka["spec"]["kafka"]["config"]
    assert pool["spec"]["replicas"] == 3
    assert {value for key, value in config.items() if key.endswith("replication.factor")} == {3}
    assert config["min.insync.replicas"] == config["transaction.state.log.min.isr"] == 2
    assert {topic["spec"]["replicas"] for topic in of_kind("KafkaTopic").values()} == {3}


def _rights(user: str) -> dict[tuple[str, str], set[str]]:
    acls = of_kind("KafkaUser")[user]["spec"]["authorization"]["acls"]
    return {(acl["resource"]["type"], acl["resource"]["name"]): set(acl["operations"]) for acl in acls}


def test_users_may_what_the_readme_says() -> None:
    text = (CLUSTER / "kafka" / "README.md").read_text()
    rows = dict(
        re.findall(r"^\| ((?:topics?|group|transactional ids|cluster)\b[^|]*) \| ([^|]+) \|$", text, re.MULTILINE)
    )
    said = {}
    for what, operations in rows.items():
        kind = what.split()[0].rstrip("s")
        if kind == "cluster":  # to make topics, which is the operator's part here
            continue
        for name in re.findall(r"`([a-z-]+)`", what):
            said["transactionalId" if kind == "transactional" else kind, name] = set(
                re.sub(r"\(.*\)", "", operations).replace(" ", "").split(",")
            )
    assert _rights("ray-fer") == said
    (prefixed,) = [
        acl["resource"]
        for acl in of_kind("KafkaUser")["ray-fer"]["spec"]["authorization"]["acls"]
        if acl["resource"].get("patternType") == "prefix"
    ]
    assert prefixed["type"] == "transactionalId"
    assert _rights("ray-fer-cameras") == {("topic", "frames"): {"Write", "Describe"}}
