"""Recipes: everything that decides a training run, typed, printable and stored in the bundle."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ray_fer.models.transform import Augment, TransformConfig


class Recipe(BaseModel):
    """One training run. `model_config_` holds the model's keyword arguments except classes, cultures and priors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    model: str = "cafer"
    model_config_: dict[str, Any] = Field(default_factory=dict)
    transform: TransformConfig = Field(default_factory=TransformConfig)
    augment: Augment | None = Field(default_factory=Augment)
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(8, ge=1, description="clips per step over all workers")
    learning_rate: float = Field(1e-5, gt=0)
    weight_decay: float = 0.01
    warmup: float = Field(0.0, ge=0, lt=1, description="share of all steps with a rising rate; then cosine to zero")
    gradient_clip: float = Field(1.0, gt=0)
    focal_gamma: float = Field(2.0, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    evaluate_every: int = Field(1, ge=1, description="epochs between validations")
    workers: int = Field(2, ge=1)
    cpus_per_worker: float = Field(
        0.5, gt=0, description="kept below 1 so that Ray Data tasks find room on a small machine"
    )
    use_gpu: bool = False
    seed: int = 42


def cafer() -> Recipe:
    """The paper's values (section IV): AdamW 1e-5, batch 8, clip 1.0, focal loss with smoothing 0.1."""
    return Recipe(
        name="cafer", model="cafer", model_config_={"embedding_dim": 128, "dropout": 0.3}, workers=4, epochs=50
    )


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
            "difference": True,
            "vivit": {
                "size": 64, "patch": 8, "dim": 128, "spatial_depth": 3, "temporal_depth": 2,
                "heads": 4, "mlp_dim": 256, "stem_dim": 32,
            },
        },
        transform=TransformConfig(left=0.09, top=0.107, side=0.82, canvas=96, zoom=0.85, size=64),
        epochs=epochs,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=0.15,
        focal_gamma=1.0,
        evaluate_every=3,
    )  # fmt: skip


RECIPES = {"cafer": cafer, "cafer-small": cafer_small}
