"""CA-FER (section IV, "Experimental conditions") and a small version of it for two CPU cores."""

from __future__ import annotations

from ray_fer.models.transform import Augment, TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, Recipe, ScheduleConfig


def cafer() -> Recipe:
    """The paper's values: AdamW 1e-5, batch 8 over 4 GPUs, clip 1.0, focal loss, smoothing 0.1, patience 7.

    The paper names no schedule, so the rate is constant, and no number of epochs: early stopping decides.
    """
    return Recipe(
        name="cafer", model="cafer", model_config_={"embedding_dim": 128, "dropout": 0.3},
        optimizer=OptimizerConfig(name="adamw", lr=1e-5, gradient_clip=1.0), loss=LossConfig(gamma=2.0, smoothing=0.1),
        batch_size=8, workers=4, epochs=50, early_stopping=7,
    )  # fmt: skip


def cafer_small(epochs: int = 18) -> Recipe:
    """CA-FER small enough to learn SynthFER from nothing on two CPU cores.

    The same system at 64 px with patch 8, 128 dimensions, 3 + 2 layers, and two changes that a small model without
    pretraining needs: a convolutional stem, and frame differences as further input channels.
    """
    return Recipe(
        name="cafer-small",
        model="cafer",
        model_config_={
            "embedding_dim": 32,
            "culture_dropout": 0.5,
            "dropout": 0.2,
            "vivit": {
                "size": 64, "patch": 8, "dim": 128, "spatial_depth": 3, "temporal_depth": 2,
                "heads": 4, "mlp_dim": 256, "stem_dim": 32,
            },
        },
        transform=small_transform(),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(name="cosine", warmup=0.15),
        loss=LossConfig(gamma=1.0),
        epochs=epochs,
        batch_size=16,
        evaluate_every=3,
        select="last",  # with so few validation clips the best epoch is a lucky one
    )  # fmt: skip


def cafer_quick() -> Recipe:
    """CA-FER so small that a trial takes a minute on one CPU core: 8 frames of 32 px, and less of everything.

    With R-3D (section V.C.2) for the backbone: in a minute, a ViViT learns too little from 300 clips for a comparison
    of what comes after it. The classifier is wide, as recalibration leaves to it what an expression looks like in each
    of four groups, and the default, half of f's 64 dimensions, cannot hold that.
    """
    small = cafer_small()
    return small.model_copy(
        update={
            "name": "cafer-quick",
            "model_config_": {
                "embedding_dim": 32, "dropout": 0.1, "hidden": 256, "backbone": "r3d_18", "r3d_18": {"width": 8},
            },
            "transform": quick_transform(), "augment": gentle(),
            "optimizer": OptimizerConfig(lr=2e-3, weight_decay=0.05),
            "schedule": ScheduleConfig(name="cosine", warmup=0.1), "loss": LossConfig(gamma=0.0),
            "epochs": 16, "workers": 0, "evaluate_every": 16,
        }
    )  # fmt: skip


def small_transform() -> TransformConfig:
    """64 px of the face itself, and what moves, for models that see SynthFER alone."""
    return TransformConfig(left=0.09, top=0.107, side=0.82, canvas=96, zoom=0.85, size=64, difference=True)


def quick_transform() -> TransformConfig:
    """The same with 8 frames of 32 px."""
    return small_transform().model_copy(update={"frames": 8, "canvas": 43, "size": 32})


def gentle() -> Augment:
    """Half the usual augmentation, for models that have no time to learn all that it shows."""
    whole = Augment()
    strengths = {name: value / 2 for name, value in whole.model_dump(exclude={"flip", "crop"}).items()}
    return whole.model_copy(update=strengths)
