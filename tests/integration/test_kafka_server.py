"""The Kafka that other tests stand on: it asks for passwords, speaks TLS, and on CI no test goes without it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kafka import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

from ray_fer.streaming.apache_kafka import KafkaCluster
from ray_fer.streaming.kafka import BrokerError, admin, assign_all, consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.worker import StreamWorker
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


def logged_in(servers: str, **others: object) -> KafkaSettings:
    return KafkaSettings(
        **{
            "bootstrap_servers": servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_username": KAFKA_USER[0],
            "sasl_password": KAFKA_USER[1],
        }
        | others
    )


def test_a_wrong_password_is_told_at_once(kafka_cluster: KafkaCluster) -> None:
    settings = logged_in(kafka_cluster.secure_servers, sasl_password="guess")
    refusal = "user 'alice' is not let in; correct sasl_username, password or sasl_mechanism"
    started = time.monotonic()
    with pytest.raises(BrokerError, match=refusal), admin(settings):
        pass
    with pytest.raises(BrokerError, match=refusal):
        StreamWorker(settings, StreamOptions(), lambda windows: pytest.fail("it was let in")).run()
    assert time.monotonic() - started < 5


@pytest.fixture(scope="module")
def tls_cluster(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaCluster, Path]]:
    """A Kafka that speaks TLS, and the PEM file of who signed its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    signer, broker = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name.from_rfc4514_string("CN=authority")
    root = certificate("authority", signer, authority).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("broker", broker, authority).add_extension(address, critical=False)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "authority.pem").write_bytes(root.sign(signer, hashes.SHA256()).public_bytes(encoding))
    (folder / "broker.pem").write_bytes(
        broker.private_bytes(encoding, form, serialization.NoEncryption())
        + leaf.sign(signer, hashes.SHA256()).public_bytes(encoding)
    )
    with KafkaCluster(folder / "kafka", user=KAFKA_USER, certificate=folder / "broker.pem") as cluster:
        yield cluster, folder / "authority.pem"


def test_frames_go_over_tls(tls_cluster: tuple[KafkaCluster, Path]) -> None:
    cluster, authority = tls_cluster
    settings = logged_in(cluster.secure_servers, security_protocol="SASL_SSL", ssl_cafile=authority)
    create_topics(settings)
    writer = producer(settings)
    writer.send(settings.frames_topic, b"a frame").get(10)
    writer.close()
    reader = consumer(settings, consumer_timeout_ms=10_000)
    assign_all(reader, settings.frames_topic)
    assert next(reader).value == b"a frame"
    reader.close(autocommit=False)


def test_a_broker_whose_certificate_is_not_trusted_is_told_at_once(tls_cluster: tuple[KafkaCluster, Path]) -> None:
    settings = logged_in(tls_cluster[0].secure_servers, security_protocol="SASL_SSL")
    started = time.monotonic()
    with (
        pytest.raises(BrokerError, match=r"certificate is not trusted .*; correct ssl_cafile") as caught,
        admin(settings),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5
    plain = logged_in(tls_cluster[0].secure_servers)
    with pytest.raises(BrokerError, match="is security_protocol SASL_PLAINTEXT right for this listener"), admin(plain):
        pass


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
