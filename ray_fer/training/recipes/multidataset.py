"""Training on mixtures of datasets (papers/eila_multidataset.md, section 3.3)."""

from __future__ import annotations

from ray_fer.models.transform import TransformConfig
from ray_fer.training.recipe import LossConfig, OptimizerConfig, Recipe, ScheduleConfig

_HALF = (0.5, 0.5, 0.5)


def multidataset() -> Recipe:
    """The paper's values: ResNet50V2 with ImageNet's weights (`pretrained`), 15 epochs of Adamax 1e-4 on a frozen base,
    then 35 of 1e-5 on its last ten layers too; dropout 0.1, an end after 15 epochs without a better validation
    accuracy, and a fifth of the rate, down to 1e-7, after three.

    The batch of 32 is ours. The released notebooks watch the loss (`--set monitor=loss`), in the second phase alone,
    whose rate is 1e-4 in the one that was looked at, and put four dense layers behind the base
    (`model_config_.head=released`). As in the paper nothing is done about frequent and rare classes; there are
    `loss.alpha=inverse` (class weights), `loss.gamma=2` (focal loss) and `sampling=balanced` (oversampling) for it.
    """
    return Recipe(
        name="multidataset", model="resnet50v2", model_config_={"trainable_layers": 10},
        transform=TransformConfig(frames=1, mean=_HALF, std=_HALF), augment=None,
        optimizer=OptimizerConfig(name="adamax", lr=1e-5, weight_decay=0.0, gradient_clip=None),
        # torch counts the epochs that are tolerated: the third without improvement is one more than two.
        schedule=ScheduleConfig(name="plateau", factor=0.2, patience=2, min_lr=1e-7),
        loss=LossConfig(gamma=0.0, smoothing=0.0), batch_size=32, epochs=35, monitor="war", early_stopping=15,
        workers=1, before={"epochs": 15, "optimizer": {"lr": 1e-4}, "model_config_": {"trainable_layers": 0}},
    )  # fmt: skip
