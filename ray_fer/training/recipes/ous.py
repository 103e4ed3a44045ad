"""OUS (section IV.A, "Training Details") and small versions of it."""

from __future__ import annotations

from typing import Any

from ray_fer.models.transform import TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, Recipe, ScheduleConfig
from ray_fer.training.recipes.cafer import cafer_quick, cafer_small

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""What CLIP was trained with."""


def ous() -> Recipe:
    """The paper's values: Adam 2e-3, batch 16 over 4 GPUs, 60 epochs, a third of the rate after five epochs without a
    lower validation loss, an end below 1e-7, and the weights of the lowest validation loss.

    It speaks of "strict data preprocessing and augmentation protocols" and gives none: ours augment clips as usual.
    With `cached` features and augment=null, an epoch takes seconds.
    """
    return Recipe(
        name="ous", model="ous", transform=TransformConfig(mean=CLIP_MEAN, std=CLIP_STD),
        optimizer=OptimizerConfig(name="adam", lr=2e-3, weight_decay=0.0, gradient_clip=None),
        # torch counts the epochs that are tolerated: the fifth without improvement is one more than four.
        schedule=ScheduleConfig(name="plateau", factor=1 / 3, patience=4, stop_below=1e-7),
        loss=LossConfig(gamma=0.0, smoothing=0.0), batch_size=16, epochs=60, monitor="loss", workers=4,
    )  # fmt: skip


def ous_small() -> Recipe:
    """OUS small enough to learn SynthFER from nothing, under the protocol of `cafer_small`.

    CLIP's weights being what OUS stands on, a small encoder without any has to be trained along.
    """
    config = _config(size_of_patch=8, image_width=128, dim=128, blocks=4)
    return cafer_small().model_copy(
        update={"name": "ous-small", "model": "ous", "loss": LossConfig(gamma=0.0), "model_config_": config}
    )


def ous_quick() -> Recipe:
    """OUS so small that a trial takes a minute on one CPU core, under the protocol of `cafer_quick`."""
    config = _config(size_of_patch=8, image_width=64, dim=64, blocks=2)
    return cafer_quick().model_copy(update={"name": "ous-quick", "model": "ous", "model_config_": config})


def _config(size_of_patch: int, image_width: int, dim: int, blocks: int) -> dict[str, Any]:
    return {
        "patch": size_of_patch, "image_width": image_width, "image_depth": 4, "text_width": 64, "text_depth": 1,
        "dim": dim, "blocks": blocks, "prompt_length": 8, "queries": 4, "train_encoder": True,
    }  # fmt: skip
