"""Every file in jobs/ through `ray job submit` on three nodes, each with as little to do as it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clip_stores import colour_store, still_store
from tests.integration import test_jobs, test_sweep
from tests.integration.conftest import REPOSITORY
from tests.integration.ray_head import RayHead, ray_cluster
from tests.training_runs import tiny_settings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

HERE = {"workers": 0, "select": "last", "early_stopping": None, "checkpoint_every": None}
"""Trained in the process of the trial, which is quicker to start than workers are."""
ETHNICMER = (
    "model_config_.ethnicity=flow", "model_config_.width=8", "transform.size=32", "epochs=1", "batch_size=10",
    "workers=0",
)  # fmt: skip
# {kafka}, {colours}, {motion}, {people}, {stills} and {out} are given by the test; the file {out}.json is read by it.
WORDS = {
    "bench_kafka_clients": "--bootstrap-servers {kafka} --megabytes 2 --rounds 1 --output {out}.json",
    "bench_preprocess": "--clips 2 --few-clips 2 --baseline-clips 2 --frames 100 --output {out}.json",
    "bench_serve": "--clients 1 --seconds 2 --video-seconds 2 --output {out}.json",
    "bench_stream": "--bootstrap-servers {kafka} --streams 1 --hold 10 --trials 1 --loop-seconds 2 "
    "--backlog-streams 1 --backlog-seconds 150 --output {out}.json",
    "bench_synth": "--seconds 0.2",
    "bench_train": "--clips 28 --epochs 2 --nodes 0 --output {out}.json",
    "calibrate_blendshapes": "--frames 8",
    "crossval": "{colours} --output {out} --protocol 2",
    "prima_facie": "{people} --output {out} --subjects 4 --draws 2 --trees 5",
    "reproduce": "ethnicmer-table-4 --any-dataset --data {people} -o {out} "
    "--set subjects=4 --set draws=2 --set trees=5",
    "soak_stream": "--bootstrap-servers {kafka} --minutes 0.3 --streams 1 --replaced-every 10 --output {out}.json",
    "train_ethnicmer": "{motion} --output {out}",
    "train_multidataset": "--store {stills} --output {out}",
}
SETTINGS = {
    "bench_train": tiny_settings(epochs=2, evaluate_every=2),
    "crossval": tiny_settings(**HERE),
    "train_ethnicmer": ETHNICMER,
    "train_multidataset": test_sweep.TINY,
}


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[RayHead]:
    with ray_cluster(environment, 2, 1, 1) as one:
        yield one


@pytest.fixture(scope="module")
def places(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | Path]:
    folder = tmp_path_factory.mktemp("places")
    sizes = {"train": 28, "val": 14, "test": 28}
    stores = {
        name: colour_store(
            folder / name, {"train": 24}, classes=("Negative", "Positive", "Surprise"), subjects=subjects, flow=True,
            cultures=("Asian", "Non-Asian"), culture_of_subject=True, dataset="casme2",
        )
        for name, subjects in (("motion", 4), ("people", 8))
    }  # fmt: skip
    stores["colours"] = colour_store(folder / "colours", {"train": 28}, folds=2)
    stores["stills"] = still_store(folder / "stills", eila=sizes)
    return {"kafka": kafka, **stores}


def test_none_is_forgotten() -> None:
    submitted = {*test_jobs.SUBMITTED, *WORDS, "bench_load_step"}
    assert {path.stem for path in (REPOSITORY / "jobs").glob("*.py")} == submitted


@pytest.mark.parametrize("job", WORDS)
def test_it_runs(job: str, cluster: RayHead, places: dict[str, str | Path], tmp_path: Path) -> None:
    words = WORDS[job].format_map(places | {"out": tmp_path / "out"}).split()
    settings = [word for one in SETTINGS.get(job, ()) for word in ("--set", one)]
    done = cluster.submit(f"jobs/{job}.py", *words, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    if "{out}" in WORDS[job]:
        written = tmp_path / ("out.json" if "{out}.json" in WORDS[job] else "out")
        assert written.exists(), done.stdout
        if written.suffix:
            assert json.loads(written.read_text())


BEFORE_S, TARGET_LAG = 6, 300
STEP = ["--low", "1", "--high", "9", "--workers", "3", "--before", str(BEFORE_S), "--during", "45", "--after", "100"]


def test_workers_follow_the_load(cluster: RayHead, kafka: str, tmp_path: Path) -> None:
    """They come when streams come, and go when they go; the lag returns to nothing, and no window is lost."""
    figures = tmp_path / "step.json"
    done = cluster.submit("jobs/bench_load_step.py", "--bootstrap-servers", kafka, "--output", figures, *STEP)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(figures.read_text())
    moments = seen["moments"]
    assert {one["replicas"] for one in moments if one["at_s"] < BEFORE_S} == {1}
    assert 2 <= seen["most_replicas"] <= 3
    assert max(one["lag"] or 0 for one in moments) > TARGET_LAG, "there was nothing to scale for"
    assert seen["settled_s"] is not None, "the lag did not return"
    assert moments[-1]["replicas"] == 1
    assert (seen["missing"], seen["repeated"]) == (0, 0)
    assert seen["windows"] > 60
