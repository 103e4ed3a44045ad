"""Training on a real Ray: the same curve whatever dies, however many workers there are, and when it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from ray_fer.bundle import load_bundle
from ray_fer.serving.local_ray import ray_session, simulated_cluster
from ray_fer.training.bundles import model_arguments
from ray_fer.training.fit import fit, prepare_run
from ray_fer.training.mailbox import Outbox, Record, mailbox
from ray_fer.training.recipe import Recipe
from ray_fer.training.run_log import JsonlTracker, loss_curve, read_records
from ray_fer.training.state import TrainingError
from tests.clip_stores import colour_store
from tests.training_runs import TINY_MODEL, tiny_recipe, training_clips

CLIPS = {"train": 59, "val": 21, "test": 21}  # the last batch of 8 is smaller, and so are some workers' shares


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", CLIPS)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session():
        yield


def run(
    recipe: Recipe, store: Path, folder: Path, heard: Callable[[Record], None] = lambda _: None
) -> tuple[list[Record], Any]:
    """Train; the records as they count in the end, and what `fit` returned."""
    clips = training_clips(store)
    prepare_run(folder, recipe, clips)
    log = JsonlTracker(folder / "log.jsonl")

    def both(record: Record) -> None:
        log.heard(record)
        heard(record)

    fitted = fit(recipe, clips, model_arguments(recipe, clips, None), folder, both)
    log.close(None)
    return read_records(folder / "log.jsonl"), fitted


@pytest.fixture(scope="module")
def undisturbed(local_ray: None, store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Twenty epochs with two workers."""
    return run(tiny_recipe("epochs=20"), store, tmp_path_factory.mktemp("undisturbed") / "run")[0]


def training_workers() -> list[psutil.Process]:
    """Of the Ray that this process has started."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any("RayTrainWorker" in word for word in process.cmdline())
    ]


def started(records: list[Record]) -> list[tuple[int, int]]:
    """(workers, step) of every start."""
    return [(record["workers"], record["step"]) for record in records if record["event"] == "start"]


def test_records_are_heard_in_the_order_in_which_they_were_sent(local_ray: None) -> None:
    """An asyncio actor takes calls in any order: a run's start behind its first epoch would strike that out."""
    for _ in range(5):
        heard: list[int] = []
        with mailbox(lambda record, heard=heard: heard.append(record["number"])) as box:
            outbox = Outbox(box)
            for number in range(40):
                outbox.put({"event": "start", "number": number})
            outbox.settle()
            assert heard == list(range(40))


def test_two_and_four_workers_see_the_same_batches(undisturbed: list[Record], store: Path, tmp_path: Path) -> None:
    steps, losses = loss_curve(undisturbed)
    assert steps == list(range(1, 8 * 20 + 1))
    assert losses[-1] < 0.9 * losses[0]
    records, _ = run(tiny_recipe("epochs=5", "workers=4"), store, tmp_path / "run")
    assert started(records) == [(4, 0)]
    few, values = loss_curve(records)
    assert few == steps[: 8 * 5]
    np.testing.assert_allclose(values, losses[: 8 * 5], rtol=1e-4)


def test_the_process_that_asks_may_train_itself(
    undisturbed: list[Record], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    records, fitted = run(tiny_recipe("epochs=5", "workers=0", "select=last"), store, tmp_path / "run")
    assert started(records) == [(1, 0)]
    steps, losses = loss_curve(records)
    assert steps == list(range(1, 8 * 5 + 1))
    np.testing.assert_allclose(losses, loss_curve(undisturbed)[1][: 8 * 5], rtol=1e-4)
    epochs = [record for record in records if record["event"] == "epoch"]
    assert fitted.metrics["val_uar"] == epochs[-1]["val_uar"], "the last epoch's weights and figures"
    assert not list(temporary.glob("ray-fer-*")), "nobody else would delete its checkpoint"


def test_a_killed_worker_changes_nothing(undisturbed: list[Record], store: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(record: Record) -> None:
        if record["event"] == "epoch" and record["epoch"] >= 8 and not killed:
            victim = training_workers()[-1]
            killed.append(victim.pid)
            victim.kill()

    recipe = tiny_recipe("epochs=20", "checkpoint_every=3")
    records, fitted = run(recipe, store, tmp_path / "run", kill)
    assert killed
    starts = started(records)
    assert len(starts) == 2
    assert starts[1][1] > 0, "it went on from a checkpoint, and not from the beginning"
    # Bit by bit: which is also what the same seed on the same number of workers must give.
    assert loss_curve(records) == loss_curve(undisturbed)
    assert fitted.metrics["val_uar"] == max(one["val_uar"] for one in undisturbed if one["event"] == "epoch")


def test_a_killed_driver_goes_on_with_resume(
    undisturbed: list[Record], store: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    recipe = tiny_recipe("epochs=20")
    fields = {
        "epochs": 20, "batch_size": 8, "cpus_per_worker": 0.5, "optimizer": recipe.optimizer.model_dump(),
        "transform": recipe.transform.model_dump(), "model_config_": TINY_MODEL, "early_stopping": None, "workers": 2,
    }  # fmt: skip
    settings = [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    bundle, log = tmp_path / "bundle", tmp_path / "bundle.run" / "records.jsonl"
    command = ["ray-fer", "train", "--store", str(store), "--output", str(bundle), "--recipe", "cafer", *settings]

    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (log.is_file() and log.read_text().count('"event": "epoch"') >= 3):
        assert first.poll() is None, first.stderr and first.stderr.read()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not bundle.exists()

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 2
    assert "go on with --resume" in again.stderr

    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    records = read_records(log)
    assert started(records)[-1][1] > 0
    assert loss_curve(records) == loss_curve(undisturbed), "no step is missing, and none has another loss"
    found = load_bundle(bundle)
    assert found.metrics["test"]["count"] == CLIPS["test"]
    assert found.metrics["clips"] == CLIPS
    assert found.config.recipe is not None
    assert found.config.recipe["epochs"] == 20


def test_what_would_fail_again_is_not_tried_again(local_ray: None, store: Path, tmp_path: Path) -> None:
    heard: list[Record] = []
    with pytest.raises(TrainingError, match=r"the loss is .* lower optimizer\.lr"):
        run(tiny_recipe("optimizer.lr=1e30", "optimizer.gradient_clip=null"), store, tmp_path / "run", heard.append)
    assert len(started(heard)) == 1
    with pytest.raises(TrainingError, match=r"99 workers with 0\.5 CPU each do not fit .* --set workers=\d"):
        run(tiny_recipe("workers=99"), store, tmp_path / "many")


def test_all_options_together(local_ray: None, store: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        "precision=bf16", "accumulate=3", "ema=0.9", "sampling=balanced", "loss.alpha=inverse", "epochs=12",
        "schedule.name=plateau", "early_stopping=2", "monitor=loss", "keep_pixels=false", "workers=1",
        'optimizer.groups=[{"match": "backbone", "lr_scale": 0}]', "optimizer.lr=1e-9",
    )  # fmt: skip
    records, fitted = run(recipe, store, tmp_path / "run")
    assert fitted.reason == "early stopping"
    epochs = [record for record in records if record["event"] == "epoch"]
    assert len(epochs) < 12
    assert np.isfinite(fitted.metrics["val_loss"])
    folders = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("epoch-*"))
    assert 1 <= len(folders) <= recipe.keep + 1, "the best ones, and the latest"


def test_workers_come_and_go_with_nodes(
    undisturbed: list[Record], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Right after a node died, Ray Train may still wait for as many workers as before.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")
    ray.shutdown()
    lost = threading.Event()

    def lose_a_node(record: Record) -> None:
        if record["event"] == "epoch" and record["epoch"] >= 3 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        if record["event"] == "start" and record["workers"] == 1:
            lost.set()

    recipe = tiny_recipe("epochs=60", "workers=[1,2]", "cpus_per_worker=1", "resize_every_s=2")
    with simulated_cluster(2, cpus=1) as cluster, ThreadPoolExecutor(1) as aside:
        nodes = list(cluster.worker_nodes)
        training = aside.submit(run, recipe, store, tmp_path / "run", lose_a_node)
        while not lost.wait(0.5) and not training.done():
            pass
        cluster.add_node(num_cpus=1, object_store_memory=100 * 1024**2)  # Ray does so in a main thread only
        records, _ = training.result()
    assert [workers for workers, _ in started(records)] == [2, 1, 2]
    steps, losses = loss_curve(records)
    assert steps == list(range(1, 8 * 60 + 1))
    np.testing.assert_allclose(losses[: 8 * 20], loss_curve(undisturbed)[1], rtol=1e-3)
