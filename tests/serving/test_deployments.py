"""What the Serve application is refused for, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ray_fer.bundle import PACKAGED
from ray_fer.serving.app import replicas
from ray_fer.serving.catalogue import models_of
from ray_fer.serving.keys import add_key
from ray_fer.serving.options import ApiOptions, Replicas, Scaling, ServingOptions
from ray_fer.serving.serve_stream import guarded
from ray_fer.streaming.kafka_settings import KafkaSettings


def test_a_static_member_is_a_single_worker() -> None:
    settings = KafkaSettings(instance="worker-a")
    ServingOptions(kafka=settings, workers=1)
    with pytest.raises(ValueError, match="instance 'worker-a' is the name of a single worker, and there are 2"):
        ServingOptions(kafka=settings, workers="1-2")


@pytest.mark.parametrize(
    ("written", "least", "most"), [(3, 3, 3), ("2", 2, 2), ("1-4", 1, 4), (" 2 - 3 ", 2, 3), (0, 0, 0), ("0", 0, 0)]
)
def test_replicas_are_a_number_or_a_range(written: int | str, least: int, most: int) -> None:
    read = Replicas.model_validate(written)
    assert (read.least, read.most, read.fixed) == (least, most, least == most)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("many", "'many' is no number of replicas: write 3, or 1-4 for as many as are needed"),
        ("4-2", "4-2: the first number is the smaller one"),
        ("0-3", "without a replica nobody knows when one is needed; write 1-3"),
        (-1, "greater than or equal to 0"),
    ],
)
def test_what_is_no_number_of_replicas(written: int | str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Replicas.model_validate(written)


def test_a_fixed_number_is_not_autoscaled() -> None:
    assert replicas(Replicas(least=2, most=2), Scaling(), 1) == {"num_replicas": 2}
    scaling = replicas(Replicas(least=1, most=3), Scaling(), 1.5)["autoscaling_config"]
    assert (scaling.min_replicas, scaling.max_replicas, scaling.get_target_ongoing_requests()) == (1, 3, 1.5)


def test_other_addresses_need_keys_or_a_word(tmp_path: Path) -> None:
    options = ServingOptions(models=models_of([PACKAGED]))
    with pytest.raises(ValueError, match="everyone who reaches this machine could use the API: give a file of keys"):
        guarded(options, "0.0.0.0", insecure=False)
    assert guarded(options, "0.0.0.0", insecure=True) == guarded(options, "127.0.0.1", insecure=True) == options
    assert guarded(options, "127.0.0.1", insecure=False).api.hosts == ["127.0.0.1", "localhost", "::1"]
    asking = options.model_copy(update={"api": ApiOptions(keys=tmp_path / "keys.json")})
    with pytest.raises(FileNotFoundError, match="ray-fer keys create NAME"):
        guarded(asking, "0.0.0.0", insecure=False)
    add_key(tmp_path / "keys.json", "lab")
    assert guarded(asking, "0.0.0.0", insecure=False) == asking
