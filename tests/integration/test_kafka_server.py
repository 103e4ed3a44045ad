"""The Kafka that other tests stand on: it asks for passwords, and on CI no test goes without it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

from ray_fer.streaming.apache_kafka import KafkaCluster
from tests.integration.conftest import KAFKA_USER, REPOSITORY


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_the_secure_listener_lets_in_who_knows_the_password(kafka_cluster: KafkaCluster, mechanism: str) -> None:
    def log_in(password: str) -> None:
        KafkaAdminClient(
            bootstrap_servers=kafka_cluster.secure_servers,
            bootstrap_timeout_ms=3000,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_plain_username=KAFKA_USER[0],
            sasl_plain_password=password,
        ).close()

    log_in(KAFKA_USER[1])
    with pytest.raises(KafkaTimeoutError):
        log_in("guess")


@pytest.mark.parametrize("on_ci", [False, True])
def test_without_java_tests_of_kafka_are_skipped_but_not_on_ci(on_ci: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"PATH": "/nowhere"}
    if on_ci:
        environment["CI"] = "true"
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-m", "kafka"]
    run = subprocess.run(
        [*command, "tests/integration/test_kcat.py"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert run.returncode == (1 if on_ci else 0), run.stdout
    assert ("1 error" if on_ci else "1 skipped") in run.stdout
    assert "java, mvn not installed: this test starts a real Apache Kafka" in run.stdout
