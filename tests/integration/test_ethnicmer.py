"""EthnicMER on stored motion and apex frames: leave one subject out, a bundle, and what it says of other stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_fer.bundle import BundleConfig, save_bundle
from ray_fer.evaluation.activation_run import activation_maps
from ray_fer.evaluation.infer import predict_clips
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.models import card, create
from ray_fer.models.transform import TransformConfig
from ray_fer.preprocessing.store_index import read_index
from ray_fer.serving.catalogue import served
from ray_fer.serving.local_ray import ray_session
from ray_fer.training.crossval import cross_validate
from ray_fer.training.crossval_plan import CrossValOptions
from ray_fer.training.run import TrainOptions, run_training
from tests.canonical_face import canonical_face
from tests.clip_stores import colour_store

CLASSES = ("Negative", "Positive", "Surprise")
SUBJECTS = 4
TINY = (
    "model_config_.width=8", "transform.size=32", "epochs=4", "evaluate_every=4", "batch_size=8", "optimizer.lr=3e-3",
    "workers=0",
)  # fmt: skip
ROWS = {
    "none": ("model_config_.ethnicity=none",),
    "flow": ("model_config_.ethnicity=flow",),
    "resnet18": ("model_config_.texture_backbone=resnet18",),
    "tiny_vit": ("model_config_.vit_dims=[16, 32, 32, 32]", "model_config_.vit_depths=[1, 1, 1, 1]"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "store"
    clips = {"train": 48, "test": 12}
    cultures = ("Asian", "Non-Asian")
    return colour_store(
        folder, clips, classes=CLASSES, cultures=cultures, subjects=SUBJECTS, flow=True, face=canonical_face()
    )


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session():
        yield


@pytest.mark.parametrize("row", ROWS)
def test_it_is_trained_on_flow_and_apex_and_answers_unseen_subjects(
    row: str, store: Path, local_ray: None, tmp_path: Path
) -> None:
    options = TrainOptions(tmp_path / "model", store=str(store), recipe="ethnicmer", settings=(*TINY, *ROWS[row]))
    written = run_training(options, lambda _: None)
    assert written.test is not None
    assert (written.test.predicted == written.test.truth).mean() > 0.9, "the stripe tells"
    config = json.loads((written.path / "config.json").read_text())
    assert config["classes"] == list(CLASSES)
    assert config["cultures"] == ["Asian", "Non-Asian"]
    with pytest.raises(ValueError, match=r"reads flow.* of a clip, and windows of video hold faces alone"):
        served(written.path)
    faces = read_index(colour_store(tmp_path / "faces", {"test": 3}, classes=CLASSES))
    with pytest.raises(ValueError, match=r"keeps no optical flow, which the model reads; .*--flow tvl1"):
        predict_clips(written.path, faces, here=True)


def test_a_worker_reads_what_a_process_of_its_own_reads(store: Path, local_ray: None, tmp_path: Path) -> None:
    """Flow and apex from Ray's object store, where the process that asks reads them from the shards."""
    losses = []
    for workers in (0, 1):
        settings = (*TINY, *ROWS["flow"], "epochs=1", "evaluate_every=1", f"workers={workers}")
        folder = tmp_path / str(workers)
        run_training(TrainOptions(folder, store=str(store), recipe="ethnicmer", settings=settings), lambda _: None)
        records = [json.loads(line) for line in (folder.with_name(f"{workers}.run") / "records.jsonl").open()]
        losses.append([one["loss"] for one in records if one["event"] == "step"])
    # The later ones grow apart: another number of threads rounds otherwise.
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=1e-3)


def test_leave_one_subject_out_pools_all_answers(store: Path, local_ray: None, tmp_path: Path) -> None:
    output = tmp_path / "loso"
    # No batch of one clip, which batch normalisation cannot be trained on where maps of 32 px have shrunk to one cell.
    settings = (*TINY, *ROWS["flow"], "epochs=2", "evaluate_every=2", "batch_size=10")
    done = cross_validate(CrossValOptions(str(store), output, "ethnicmer", settings, protocol="loso", faces=False))
    assert done.failed == {}
    pooled = read_predictions(output / "seed-42" / "predictions.parquet")
    assert len(pooled.truth) == 60
    subjects = pooled.column("subject_id")
    assert len(set(subjects)) == 2 * SUBJECTS
    assert {path.name for path in (output / "trials").iterdir()} == {f"{one}-seed-42" for one in set(subjects)}


def test_actors_look_where_a_process_looks(store: Path, local_ray: None, tmp_path: Path) -> None:
    arguments = card("ethnicmer").tiny
    config = BundleConfig(
        name="tiny", version="0", model="ethnicmer", model_config_=dict(arguments), classes=list(CLASSES),
        cultures=["Asian", "Non-Asian"], preprocessing=TransformConfig(canvas=64, size=64),
    )  # fmt: skip
    bundle = save_bundle(tmp_path / "tiny", config, create("ethnicmer", **arguments), {}, None, "# tiny\n")
    index, told = read_index(store), []
    found = activation_maps(bundle, index, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
    assert found.content() == activation_maps(bundle, index, here=True).content()
