"""Bundles: what is written is what is read, and every way of being broken has its message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ray_fer.bundle import PACKAGED, BundleError, load_bundle
from ray_fer.labels import EXPRESSIONS
from ray_fer.models import ClipBatch


def test_the_packaged_bundle_is_small_trained_and_documented() -> None:
    bundle = load_bundle(PACKAGED)
    assert (PACKAGED / "model.safetensors").stat().st_size <= 4 * 2**20
    assert bundle.config.classes == list(EXPRESSIONS)
    assert bundle.metrics["test"]["uar"] >= 0.70
    assert not set(bundle.metrics["subjects"]["train"]) & set(bundle.metrics["subjects"]["test"])
    card = (PACKAGED / "README.md").read_text()
    assert "python jobs/train_cafer.py --synthfer packaged --output ray_fer/bundles/cafer-synthfer" in card
    assert "culture groups are invented: conclude nothing about people" in card
    assert f"UAR {bundle.metrics['test']['uar']:.3f}" in card
    assert f"Seed {bundle.metrics['seed']}" in card


def test_a_loaded_model_is_the_saved_one_and_in_eval_mode(tiny_bundle: Path) -> None:
    first, second = load_bundle(tiny_bundle), load_bundle(tiny_bundle)
    assert not first.model.training
    frames = torch.randn(2, 16, 3, 32, 32)
    torch.testing.assert_close(first.model(ClipBatch(frames)).logits, second.model(ClipBatch(frames)).logits)


def change_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: shutil.rmtree(f), "no such bundle"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "config.json").write_bytes(b"\xff{"), "config.json"),
        (change_config(format=99), "format 99 is not supported"),
        (change_config(model="resnet"), "unknown model 'resnet'"),
        (change_config(model_config_={"depth": 3}), "depth"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not tensors"), "does not fit config.json"),
        (
            lambda f: (f / "model.safetensors").write_bytes((PACKAGED / "model.safetensors").read_bytes()),
            "does not fit",
        ),
    ],
)
def test_broken_bundles(tiny_bundle: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_bundle, folder)
    damage(folder)
    with pytest.raises(BundleError, match=reason) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
