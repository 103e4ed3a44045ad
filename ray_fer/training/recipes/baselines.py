"""The systems that CA-FER is compared with: as their papers train them, else under one protocol of ours.

CA-FER's paper does not say how it trained them on GCC-FER. Small versions learn SynthFER under the same protocol, from
the same input, as the small CA-FER; C3D has batch normalisation there, as in the code released with DFEW, without
which it learns little from nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ray_fer.models import card
from ray_fer.models.transform import TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, ParameterGroup, Recipe, ScheduleConfig
from ray_fer.training.recipes.cafer import cafer_quick, cafer_small

KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_KINETICS = ("r3d_18", "mc3_18", "r2plus1d_18", "m3dfel")
"""Their public weights are of torchvision's video models, which were trained with this mean and deviation."""
_PUBLISHED: dict[str, dict[str, Any]] = {
    # Zhao and Liu 2021: section 4 and the released code.
    "former_dfer": {
        "optimizer": OptimizerConfig(name="sgd", lr=0.01, weight_decay=1e-4, gradient_clip=None),
        "schedule": ScheduleConfig(name="milestones", milestones=[40, 80], gamma=0.1),
        "loss": LossConfig(gamma=0.0, smoothing=0.0), "batch_size": 32, "epochs": 100,
    },
    # Wang et al. 2023: the released code.
    "m3dfel": {
        "optimizer": OptimizerConfig(lr=5e-4, weight_decay=0.05, gradient_clip=None),
        "schedule": ScheduleConfig(name="cosine", warmup=20 / 300, min_lr=5e-6),
        "loss": LossConfig(gamma=0.0, smoothing=0.1), "batch_size": 256, "epochs": 300,
    },
    # Zhao and Patras 2023: the released code, whose clips are not standardised.
    "dfer_clip": {
        "optimizer": OptimizerConfig(
            name="sgd", lr=1e-2, weight_decay=1e-4, gradient_clip=None,
            groups=[
                ParameterGroup(match=r"^image\.", lr_scale=1e-3), ParameterGroup(match=r"^contexts$", lr_scale=0.1),
            ],
        ),
        "schedule": ScheduleConfig(name="milestones", milestones=[30, 40], gamma=0.1),
        "loss": LossConfig(gamma=0.0, smoothing=0.0), "batch_size": 48, "epochs": 50,
        "transform": TransformConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    },
}  # fmt: skip
_OURS: dict[str, Any] = {
    "optimizer": OptimizerConfig(lr=1e-4, weight_decay=0.05),
    "schedule": ScheduleConfig(name="cosine", warmup=0.05),
    "loss": LossConfig(gamma=0.0, smoothing=0.1), "batch_size": 32, "epochs": 50,
}  # fmt: skip
_SMALL: dict[str, dict[str, Any]] = {
    "former_dfer": {"width": 24, "heads": 4},
    "m3dfel": {"width": 16, "heads": 4},
    "nr_dfernet": {"width": 24, "heads": 4, "head_dim": 16, "spatial_mlp": 128, "temporal_mlp": 256},
    "dpcnet": {"width": 8, "blocks": [1, 2, 2, 1]},
    "c3d": {"width": 16, "hidden": 256, "batch_norm": True},
}
_QUICK: dict[str, dict[str, Any]] = {
    "dfer_clip": {
        "patch": 4, "image_width": 64, "image_depth": 4, "image_stem": 32, "text_width": 64, "text_depth": 1,
        "dim": 64, "temporal_mlp": 128,
    },
    "former_dfer": {"width": 16, "heads": 4, "temporal_depth": 2},
    "m3dfel": {"width": 8, "heads": 4},
    "c3d": {"width": 8, "hidden": 128, "batch_norm": True},
}  # fmt: skip
NAMES = (
    "former_dfer", "m3dfel", "nr_dfernet", "dpcnet", "r3d_18", "mc3_18", "r2plus1d_18", "c3d", "i3d", "p3d",
    "resnet18_lstm", "resnet18_gru", "resnet18_vit", "vgg13_lstm", "dfer_clip",
)  # fmt: skip


def baseline(name: str) -> Recipe:
    """The recipe of a baseline at its real size."""
    shown = card(name).input
    transform = TransformConfig(frames=shown.frames, canvas=shown.size, size=shown.size)
    if name in _KINETICS:
        transform = transform.model_copy(update={"mean": KINETICS_MEAN, "std": KINETICS_STD})
    fields = {"transform": transform, **_PUBLISHED.get(name, _OURS)}
    return Recipe(name=name, model=name, model_config_={}, workers=4, **fields)


def baseline_small(name: str) -> Recipe:
    """A baseline as small as `cafer_small`, under its protocol."""
    return _instead(cafer_small(), f"{name}-small", name, _SMALL[name])


def baseline_quick(name: str) -> Recipe:
    """A baseline as small as `cafer_quick`, under its protocol."""
    return _instead(cafer_quick(), f"{name}-quick", name, _QUICK[name])


def _instead(recipe: Recipe, called: str, model: str, arguments: dict[str, Any]) -> Recipe:
    return recipe.model_copy(update={"name": called, "model": model, "model_config_": dict(arguments)})


BASELINES: dict[str, Callable[[], Recipe]] = {
    **{name: partial(baseline, name) for name in NAMES},
    **{f"{name}-small": partial(baseline_small, name) for name in _SMALL},
    **{f"{name}-quick": partial(baseline_quick, name) for name in _QUICK},
}
