"""EthnicMER (section IV, "Experiments", and its released code)."""

from __future__ import annotations

from ray_fer.models.transform import TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, Recipe, ScheduleConfig


def ethnicmer() -> Recipe:
    """The paper's values: 15 epochs of Adam 1e-3 with exponential decay, three cross-entropies, nothing augmented.

    From the released code: a decay of 0.9 an epoch, batches of 32, ImageNet's weights and statistics, and the last
    epoch's weights, so that no clip is held out to choose by. The rows of Table V are
    `model_config_.ethnicity` = none, flow and texture, the latter with
    `model_config_.texture_backbone` = resnet18 or tiny_vit_21m.
    """
    return Recipe(
        name="ethnicmer", model="ethnicmer", transform=TransformConfig(frames=1), augment=None,
        optimizer=OptimizerConfig(name="adam", lr=1e-3, weight_decay=0.0, gradient_clip=None),
        schedule=ScheduleConfig(name="exponential", gamma=0.9), loss=LossConfig(gamma=0.0, smoothing=0.0),
        batch_size=32, epochs=15, select="last", val_share=0.0, evaluate_every=15, workers=1,
    )  # fmt: skip
