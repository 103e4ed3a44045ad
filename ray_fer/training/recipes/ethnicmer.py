"""EthnicMER (section IV, "Experiments", and its released code)."""

from __future__ import annotations

from ray_fer.models.transform import Augment, TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, Recipe, ScheduleConfig

_MOVED = Augment(
    flip=False, rotate=0, scale=0.12, aspect=0.08, shift=0.12, colour=0.04, gamma=0.1, grey=0
)  # fmt: skip
"""Without greys, which would hide what tells the groups apart."""


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


def ethnicmer_small() -> Recipe:
    """EthnicMER small enough to learn SynthFER's micro-expressions from nothing.

    Clips are moved about and weights decay, or a network that sees few people remembers each of them, and then nothing
    is left for what tells the group.
    """
    paper = ethnicmer()
    return paper.model_copy(
        update={
            "name": "ethnicmer-small", "transform": TransformConfig(frames=1, size=112), "augment": _MOVED,
            "optimizer": OptimizerConfig(lr=2e-3, weight_decay=0.05), "batch_size": 16,
            "schedule": ScheduleConfig(name="exponential", gamma=0.93), "epochs": 24, "evaluate_every": 24,
            "model_config_": {"width": 32, "vit_dims": [32, 64, 128, 160], "vit_depths": [1, 1, 2, 1]},
        }
    )  # fmt: skip


def ethnicmer_quick() -> Recipe:
    """EthnicMER so small that a trial takes half a minute on one CPU core."""
    small = ethnicmer_small()
    return small.model_copy(
        update={
            "name": "ethnicmer-quick", "transform": TransformConfig(frames=1, size=48), "workers": 0,
            "schedule": ScheduleConfig(name="exponential", gamma=0.9), "epochs": 14, "evaluate_every": 14,
            "model_config_": {"width": 12, "vit_dims": [16, 32, 32, 64], "vit_depths": [1, 1, 1, 1]},
        }
    )  # fmt: skip
