"""Training on scenes, and on what a frozen encoder made of clips once, on a real Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from ray_fer.evaluation.infer import predict_clips
from ray_fer.preprocessing.store_index import read_index
from ray_fer.serving.catalogue import served
from ray_fer.serving.local_ray import ray_session
from ray_fer.training.bundles import model_arguments, write_bundle
from ray_fer.training.cache import cache_features
from ray_fer.training.clip_batches import clip_batch
from ray_fer.training.data import ClipReader, Reading, clip_tables, label_indices
from ray_fer.training.fit import Fitted, TrainingClips, check_model, fit, prepare_run
from ray_fer.training.fresh import fresh_model
from ray_fer.training.mailbox import Record
from ray_fer.training.order import epoch_order
from ray_fer.training.recipe import Recipe, overridden
from tests.clip_stores import colour_store
from tests.training_runs import training_clips

CLIPS = {"train": 42, "val": 14, "test": 14}
OUS = {
    "frames": 4, "size": 16, "patch": 8, "image_width": 64, "image_depth": 4, "text_width": 64, "text_depth": 1,
    "dim": 64, "blocks": 1, "prompt_length": 4, "queries": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("scenes") / "store", CLIPS, scene=True)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session():
        yield


def recipe(*settings: str) -> Recipe:
    small = Recipe(
        name="tiny-ous", model="ous", model_config_=OUS, epochs=4, batch_size=8, augment=None,
        transform={"frames": 4, "canvas": 16, "size": 16}, optimizer={"lr": 2e-3}, monitor="loss",
    )  # fmt: skip
    return overridden(small, settings)


def train(chosen: Recipe, store: Path, folder: Path) -> tuple[list[Record], Fitted, TrainingClips]:
    clips = training_clips(store)
    arguments = model_arguments(chosen, clips, None)
    check_model(chosen, arguments, clips.train, clips.val)
    prepare_run(folder, chosen, clips)
    records: list[Record] = []
    return records, fit(chosen, clips, arguments, folder, records.append), clips


def losses(records: list[Record]) -> list[float]:
    return [record["loss"] for record in records if record["event"] == "step"]


@pytest.fixture(scope="module")
def features(local_ray: None, store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    summary = cache_features(store, tmp_path_factory.mktemp("features") / "table", recipe())
    assert (summary.usable, summary.failed) == (sum(CLIPS.values()), [])
    return summary.store


@pytest.mark.parametrize("workers", ["workers=0", "workers=2"])
def test_training_on_features_is_training_on_pixels(
    workers: str, local_ray: None, store: Path, features: str, tmp_path: Path
) -> None:
    settings = [workers, "select=last"]
    seen, from_pixels, _ = train(recipe(*settings), store, tmp_path / "pixels")
    read, from_features, _ = train(recipe(*settings, f"cached={features}"), store, tmp_path / "features")
    np.testing.assert_allclose(losses(read), losses(seen), rtol=1e-4)
    assert losses(seen)[-1] < losses(seen)[0]
    for name, one in from_pixels.model.state_dict().items():
        torch.testing.assert_close(from_features.model.state_dict()[name], one, atol=1e-4, rtol=1e-3)
    for figure in ("val_uar", "val_loss"):
        assert from_features.metrics[figure] == pytest.approx(from_pixels.metrics[figure], rel=1e-3)


def test_what_is_frozen_is_what_training_began_with(local_ray: None, store: Path, tmp_path: Path) -> None:
    chosen = recipe("workers=0", "select=last", "epochs=3")
    _, later, clips = train(chosen, store, tmp_path / "later")
    before = fresh_model(chosen, model_arguments(chosen, clips, None)).state_dict()
    after = later.model.state_dict()
    assert {name for name in before if name.startswith(("image.", "text."))}
    for name in before:
        same = torch.equal(before[name], after[name])
        # A trained LayerNorm may be at what it began with; a frozen one is.
        assert same if name.startswith(("image.", "text.")) else not same or "norm" in name, name


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["seed=7"], "made with another model .*weights was .* for this recipe with `ray-fer cache-features`"),
        (["transform.left=0.1", "transform.side=0.8"], "made with another model .*transform was"),
        (["model_config_.streams=face"], r"inputs was \['frames', 'scene'\] and is \['frames'\]"),
        (["model_config_.train_encoder=true"], "OUS freezes nothing here, so nothing can be cached"),
    ],
)
def test_features_of_another_encoder_are_refused(
    settings: list[str], reason: str, store: Path, features: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        train(recipe(f"cached={features}", *settings), store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_heads_share_features(features: str, store: Path, local_ray: None, tmp_path: Path) -> None:
    """The ablations of Tables III to VI."""
    for number, setting in enumerate(("blocks=2", "prompt_length=8", 'losses="ce"', 'fusion="mean"')):
        chosen = recipe(f"cached={features}", f"model_config_.{setting}", "workers=0", "select=last", "epochs=1")
        _, fitted, _ = train(chosen, store, tmp_path / str(number))
        assert np.isfinite(fitted.metrics["val_loss"])


@pytest.mark.parametrize("clips", [{"train": 60, "val": 20}, CLIPS], ids=["other names", "the same names"])
def test_features_of_other_clips_are_refused(
    clips: dict[str, int], features: str, local_ray: None, tmp_path: Path
) -> None:
    other = colour_store(tmp_path / "other", clips, scene=True, seed=5)
    with pytest.raises(ValueError, match=r"made of other clips than those of .*other.*--overwrite"):
        train(recipe(f"cached={features}"), other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_clip_that_failed_is_named_with_what_helps(local_ray: None, store: Path, tmp_path: Path) -> None:
    """Its picture cannot be decoded, which a store's never are."""
    broken = tmp_path / "store"
    shutil.copytree(store, broken)
    (shard, *_) = sorted((broken / "clips").glob("*.parquet"))
    table = pq.read_table(shard)
    frames = table.column("frames").to_pylist()
    frames[0][0] = b"no picture"
    place = table.schema.get_field_index("frames")
    pq.write_table(
        table.set_column(place, table.schema.field("frames"), pa.array(frames, table.schema.types[place])), shard
    )
    summary = cache_features(broken, tmp_path / "features", recipe())
    assert [one.clip_id for one in summary.failed] == [table.column("clip_id")[0].as_py()]
    with pytest.raises(ValueError, match=r"lacks 1 of the clips, the first is .*not a JPEG.*--retry-failed"):
        train(recipe(f"cached={summary.store}"), broken, tmp_path / "run")


def test_weights_may_be_named_from_where_the_command_is_typed(
    local_ray: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in folders of their own; what is frozen comes from the file, and is not in checkpoints."""
    drawn = recipe("seed=9")
    weights = fresh_model(drawn, model_arguments(drawn, training_clips(store), None)).state_dict()
    (tmp_path / "clip").mkdir()
    save_file({name: one.contiguous() for name, one in weights.items()}, str(tmp_path / "clip" / "model.safetensors"))
    monkeypatch.chdir(tmp_path)
    chosen = recipe("pretrained=clip", "workers=1", "epochs=1", "seed=4")
    _, fitted, _ = train(chosen, store, tmp_path / "run")
    for name, one in fitted.model.state_dict().items():
        if name.startswith(("image.", "text.")):
            assert torch.equal(one, weights[name]), name
    (checkpoint, *_) = (tmp_path / "run").rglob("model.safetensors")
    assert not [name for name in load_file(str(checkpoint)) if name.startswith(("image.blocks", "text.blocks"))]


def test_a_bundle_is_tested_with_its_scenes_and_refused_where_there_are_none(
    local_ray: None, store: Path, tmp_path: Path
) -> None:
    chosen = recipe("workers=0", "select=last", "epochs=6")
    _, fitted, clips = train(chosen, store, tmp_path / "run")
    test = read_index(store).split("test")
    written = write_bundle(tmp_path / "bundle", chosen, clips, fitted, None, "", test)
    assert written.test is not None
    assert (written.test.predicted == written.test.truth).mean() > 0.5, "the scene tells"
    assert "image.cls" in load_file(str(written.path / "model.safetensors")), "a bundle needs no other file"
    plain = colour_store(tmp_path / "plain", {"test": 7})
    with pytest.raises(ValueError, match=r"keeps no whole frames.*--scene whole"):
        predict_clips(written.path, read_index(plain).split("test"))
    with pytest.raises(ValueError, match=r"keeps no whole frames.*streams=face"):
        train(chosen, colour_store(tmp_path / "faces", CLIPS), tmp_path / "again")
    with pytest.raises(ValueError, match="windows of video hold faces alone"):
        served(written.path)


SMALL_X3D: dict[str, Any] = {"width": 4, "width_factor": 1.0, "depth_factor": 0.5, "dim": 32}


def hdf(*settings: str) -> Recipe:
    small = recipe("model=hdf", "model_config_={}", "select=last", *settings)
    return small.model_copy(update={"model_config_": {"x3d": SMALL_X3D, "dropout": 0.0}})


def test_hdf_with_sharpness_goes_through_the_same_loop(local_ray: None, store: Path, tmp_path: Path) -> None:
    seen, _, _ = train(hdf("workers=2", "optimizer.sam=0.05", "accumulate=2"), store, tmp_path / "run")
    assert np.isfinite(losses(seen)).all()
    assert len(losses(seen)) == 4 * 6


@pytest.mark.parametrize("sam", [None, 0.05])
def test_a_step_of_hdf_by_hand(sam: float | None, local_ray: None, store: Path, tmp_path: Path) -> None:
    """One step of plain gradient descent on all clips: equation 16, and sharpness-aware minimisation, with autograd."""
    chosen = hdf(
        "workers=0", "epochs=1", "batch_size=42", "optimizer.name=sgd", "optimizer.lr=0.1", "optimizer.momentum=0",
        "optimizer.weight_decay=0", "optimizer.gradient_clip=null", f"optimizer.sam={json.dumps(sam)}",
        "loss.gamma=0", "loss.smoothing=0",
    )  # fmt: skip
    seen, fitted, clips = train(chosen, store, tmp_path / "run")
    model = fresh_model(chosen, model_arguments(chosen, clips, None)).train()
    reading = Reading.of(chosen, clips.classes, clips.cultures)
    reader = ClipReader.of_tables(clip_tables(clips.train, reading), reading)
    order = epoch_order(label_indices(clips.train, clips.classes), chosen.seed, 0)
    batch = clip_batch(reader.read(order), chosen.transform)
    names = [name for name, one in model.named_parameters() if one.requires_grad]

    def gradient(weight_of_classification: Any, weight_of_contrast: Any) -> tuple[float, list[torch.Tensor]]:
        output = model(batch)
        assert batch.label is not None
        classification = functional.cross_entropy(output.logits, batch.label)
        loss = weight_of_classification * classification + weight_of_contrast * output.losses["contrastive"]
        return float(loss.detach()), list(torch.autograd.grad(loss, [model.get_parameter(name) for name in names]))

    start = [model.get_parameter(name).detach().clone() for name in names]
    total, first = gradient(1.0, 1.0)
    norm = torch.cat([one.flatten() for one in first]).norm()
    with torch.no_grad():
        for name, one in zip(names, first, strict=True):
            model.get_parameter(name).add_(one * (sam or 0.0) / norm)
    _, second = gradient(norm / (norm + 1), 1 / (norm + 1))
    assert losses(seen) == pytest.approx([total], rel=1e-4)
    for name, before, one in zip(names, start, second, strict=True):
        torch.testing.assert_close(fitted.model.get_parameter(name), before - 0.1 * one, atol=1e-5, rtol=1e-3)
