"""The benchmark of one accelerator, on a CPU with models that are small."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ray_fer.models import ClipBatch, Model, ModelOutput, card, create
from ray_fer.models.describe import placeholders
from ray_fer.models.transform import TransformConfig
from ray_fer.training.accelerator_speed import (
    TransformersViViT,
    flop_per_clip,
    matmul_peak,
    rendered_clips,
    step_speed,
    ways,
    with_features,
)
from ray_fer.training.recipes import recipe

CPU = torch.device("cpu")
TRANSFORM = TransformConfig(frames=4, canvas=32, size=32)


@pytest.fixture(scope="module")
def clips() -> ClipBatch:
    return rendered_clips(7, TRANSFORM, CPU)


def test_clips_are_the_middle_of_synthfer_with_labels_and_groups(clips: ClipBatch) -> None:
    assert clips.frames.shape == (7, 4, 3, 32, 32)
    assert clips.frames.dtype == torch.uint8
    assert clips.frames.float().std() > 10, "there is something to see"
    assert clips.label is not None
    assert clips.culture is not None
    assert sorted(clips.label.tolist()) == list(range(7))
    assert set(clips.culture.tolist()) <= {0, 1, 2, 3}


class Linear(Model):
    """3 x 7 weights on the mean colour: 21 multiply-adds, and as many for the gradient of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 7, bias=False)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        logits = self.linear(batch.frames.mean(dim=(1, 3, 4)))
        return ModelOutput(logits, logits)


def test_operations_are_those_of_both_passes(clips: ClipBatch) -> None:
    assert flop_per_clip(Linear(), clips, TRANSFORM) == 2 * 2 * 21


def test_utilisation_is_operations_by_rate_over_the_peak(clips: ClipBatch) -> None:
    found = step_speed("linear", Linear(), clips, TRANSFORM, batch=2, steps=3, peak=1e6)
    assert found.clips_per_second == pytest.approx(2 / found.seconds_per_step)
    assert found.mfu == pytest.approx(84 * found.clips_per_second / 1e6)
    assert found.memory_gb is None
    assert matmul_peak(CPU, side=64, seconds=0.05) > 1e6


def test_ours_and_transformers_do_the_same_work(clips: ClipBatch) -> None:
    vivit = {
        "frames": 4, "size": 32, "patch": 16, "dim": 32, "spatial_depth": 1, "temporal_depth": 1, "heads": 2,
        "mlp_dim": 64,
    }  # fmt: skip
    ours = create("cafer", vivit=vivit, **placeholders("cafer"))
    theirs = TransformersViViT(
        TRANSFORM, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    for way, model in (("ours", ours), ("transformers", theirs)):
        before = [one.detach().clone() for one in model.parameters()]
        found = step_speed(way, model, clips, TRANSFORM, batch=2, steps=1, peak=1e9)
        assert found.gflop_per_clip > 0
        assert any(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_every_paper_s_system_has_something_to_be_compared_with(clips: ClipBatch) -> None:
    for name in ("cafer", "hdf", "ous"):
        assert len(ways(recipe(name))) == 2
    with pytest.raises(ValueError, match="give cafer, hdf or ous"):
        ways(recipe("c3d"))
    small = recipe("hdf").model_copy(update={"model_config_": {**card("hdf").tiny, "dam_stage": 3}})
    whole, alone = (
        step_speed(way.name, way.make(), clips, TRANSFORM, batch=3, steps=1, peak=1e9) for way in ways(small)
    )
    assert whole.gflop_per_clip > 2 * alone.gflop_per_clip, "its gradient is computed twice, and DAM is there"
    assert whole.gflop_per_clip < 4 * alone.gflop_per_clip


def test_cached_features_leave_the_frozen_encoder_out(clips: ClipBatch) -> None:
    cached, pixels = ways(recipe("ous").model_copy(update={"model_config_": dict(card("ous").tiny)}))
    assert (cached.cached, pixels.cached) == (True, False)
    speeds = [
        step_speed(one.name, one.make(), clips, TRANSFORM, batch=3, steps=1, peak=1e9, cached=one.cached)
        for one in (cached, pixels)
    ]
    assert speeds[0].gflop_per_clip < speeds[1].gflop_per_clip
    model = pixels.make()
    seen = with_features(model, clips, TRANSFORM)
    assert seen.cached is not None
    assert seen.cached["face"].shape[:2] == clips.frames.shape[:2]
