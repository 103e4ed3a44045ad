"""Training in two phases: a frozen base first, then its last layers, as in the multi-dataset study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ray_fer.bundle import load_bundle
from ray_fer.serving.local_ray import ray_session
from ray_fer.training.bundles import model_arguments
from ray_fer.training.fit import TrainingClips
from ray_fer.training.fresh import fresh_model
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.run import Keeping, TrainOptions, fit_and_track, run_training
from tests.clip_stores import colour_store
from tests.training_runs import training_clips

TINY = (
    "model_config_.width=8", "model_config_.blocks=[2, 2, 2, 2]", "model_config_.momentum=0.9", "transform.canvas=32",
    "transform.size=32", "batch_size=8", "optimizer.lr=1e-3", "before.optimizer.lr=0.02", "before.epochs=4", "epochs=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("stills") / "store", {"train": 42, "val": 14, "test": 14}, frames=1)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session():
        yield


def recipe(*settings: str) -> Recipe:
    return overridden(recipe_named("multidataset"), [*TINY, *settings])


def events(folder: Path, kind: str) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    return [one for one in records if one["event"] == kind]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, one in before.items() if not torch.equal(one, after[name])}


def test_the_base_is_frozen_first_and_its_last_ten_layers_are_trained_then(
    store: Path, local_ray: None, tmp_path: Path
) -> None:
    options = TrainOptions(tmp_path / "m", str(store), recipe="multidataset", settings=TINY)
    written = run_training(options, lambda _: None)
    assert written.test is not None
    run = tmp_path / "m.run"
    assert [len(events(folder, "epoch")) for folder in (run / "first", run)] == [4, 2]
    assert events(run / "first", "step")[0]["lr"] == pytest.approx(0.02)
    clips = training_clips(store)
    fresh = fresh_model(recipe(), model_arguments(recipe(), clips, None)).state_dict()
    trained = load_bundle(written.path).model.state_dict()
    moved = {name.rsplit(".", 1)[0] for name in changed(fresh, trained)}
    last = {f"backbone.conv5_block2.{layer}" for layer in ("1_bn", "2_conv", "2_bn", "3_conv")}
    assert moved == {"head", "backbone.post_bn", *last}


def test_the_second_phase_begins_with_the_best_of_the_first(store: Path, local_ray: None, tmp_path: Path) -> None:
    still = recipe("model_config_.trainable_layers=0", "optimizer.lr=1e-12", "epochs=1")
    clips: TrainingClips = training_clips(store)
    said: list[str] = []
    kept = Keeping(tmp_path / "run", tensorboard=False)
    fitted = fit_and_track(still, clips, None, kept, said.append)
    best = max(one["val_war"] for one in events(tmp_path / "run" / "first", "epoch"))
    assert fitted.metrics["val_war"] == best > 0.2, "a linear layer on random features"
    assert [line for line in said if " phase: " in line] == ["first phase: 4 epochs", "second phase: 1 epochs"]

    again = fit_and_track(still, clips, None, Keeping(tmp_path / "run", resume=True, tensorboard=False), said.append)
    assert len(events(tmp_path / "run" / "first", "step")) == 4 * 6, "nothing is trained twice"
    assert changed(fitted.model.state_dict(), again.model.state_dict()) == set()
