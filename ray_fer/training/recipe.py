"""What a recipe may say: everything that decides a training run, typed, printable, kept in the bundle.

The recipes themselves are in `ray_fer.training.recipes`, one file per paper.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_fer import storage
from ray_fer.models import reads
from ray_fer.models.batch import InputName
from ray_fer.models.transform import Augment, TransformConfig


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True)


class ParameterGroup(_Strict):
    """Parameters with a rate or weight decay of their own: those whose name the regular expression `match` finds."""

    match: str
    lr_scale: float = Field(1.0, ge=0, description="times the rate of all others; 0 freezes them")
    weight_decay: float | None = Field(None, ge=0, description="instead of the optimiser's")


class OptimizerConfig(_Strict):
    """The optimiser, its rate, and how gradients are clipped."""

    name: Literal["adamw", "adam", "adamax", "sgd"] = "adamw"
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    gradient_clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    sam: float | None = Field(
        None, gt=0, description="rho of sharpness-aware minimisation (0.05), which doubles the work of a step"
    )
    groups: list[ParameterGroup] = Field(default_factory=list, description="the first group that matches counts")


class ScheduleConfig(_Strict):
    """How the rate changes: by step of the optimiser (constant, cosine), by epoch (exponential, milestones), or when
    validation stalls (plateau).
    """

    name: Literal["constant", "cosine", "exponential", "milestones", "plateau"] = "constant"
    warmup: float = Field(0.0, ge=0, lt=1, description="share of all steps in which the rate rises linearly")
    min_lr: float = Field(0.0, ge=0)
    gamma: float = Field(0.9, gt=0, le=1, description="exponential: factor per epoch; milestones: at each of them")
    milestones: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="epochs after which the rate falls"
    )
    factor: float = Field(0.1, gt=0, lt=1, description="plateau: factor when it stalls")
    patience: int = Field(3, ge=0, description="plateau: epochs without improvement that are waited for")
    stop_below: float = Field(0.0, ge=0, description="plateau: training ends when the rate has fallen below this")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.stop_below and self.name != "plateau":
            raise ValueError("schedule.stop_below goes with a plateau schedule; others end after their epochs")
        if self.name == "plateau" and self.warmup:
            raise ValueError("a plateau schedule has no warm-up; choose one of them")
        if (self.name == "milestones") != bool(self.milestones):
            raise ValueError("schedule milestones goes with a list of them, such as schedule.milestones=[30, 40]")
        return self


class LossConfig(_Strict):
    """Focal loss with label smoothing; gamma 0 is cross-entropy."""

    gamma: float = Field(2.0, ge=0)
    smoothing: float = Field(0.1, ge=0, lt=1)
    alpha: Literal["none", "inverse"] = Field(
        "none", description="inverse: weight classes by the inverse of their share of the training clips"
    )


class Recipe(_Strict):
    """One training run. `model_config_` holds the model's keyword arguments except classes, cultures and priors."""

    name: str
    model: str = "cafer"
    model_config_: dict[str, Any] = Field(default_factory=dict)
    transform: TransformConfig = Field(default_factory=TransformConfig)
    augment: Augment | None = Field(default_factory=Augment)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    loss: LossConfig = Field(default_factory=LossConfig)

    pretrained: str | list[str] | None = Field(
        None,
        description="local file of public weights to start from, or one for each backbone; `ray-fer models --describe` "
        "names them",
    )
    before: dict[str, Any] | None = Field(
        None,
        description="what a phase that is trained first has otherwise, such as {'epochs': 15}; this one begins with "
        "the weights that it ends with",
    )
    cached: str | None = Field(
        None, description="what `ray-fer cache-features` made of the clips with this recipe, instead of their pixels"
    )
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(8, ge=1, description="clips per step over all workers")
    accumulate: int = Field(1, ge=1, description="parts in which a worker computes its share of a batch")
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="balanced: clips are drawn so that all classes are equally frequent"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast")
    compile: bool = Field(False, description="torch.compile")
    sync_batchnorm: bool = Field(False, description="batch statistics over all workers")
    ema: float | None = Field(None, gt=0, lt=1, description="decay per step of averaged weights, which are then used")

    val_share: float = Field(
        0.1, ge=0, le=0.5, description="share of the training clips that validates where no split does; 0: no clip is "
        "held out, for select=last",
    )  # fmt: skip
    monitor: Literal["uar", "war", "macro_f1", "loss"] = Field("uar", description="validation figure that decides")
    select: Literal["best", "last"] = Field("best", description="epoch whose weights are kept")
    early_stopping: int | None = Field(None, ge=1, description="epochs without improvement after which to stop")
    evaluate_every: int = Field(1, ge=1, description="epochs between validations")
    checkpoint_every: int | None = Field(None, ge=1, description="steps between checkpoints within an epoch")
    keep: int = Field(2, ge=1, description="best checkpoints that are kept, beside the latest")

    tell_culture: bool = Field(False, description="tell the model the culture of clips that it is tested on")
    keep_pixels: bool | None = Field(
        None, description="keep decoded clips in Ray's object store instead of JPEGs (default: if they are small)"
    )
    workers: int | Annotated[tuple[int, int], Field(description="(fewest, most): elastic")] = Field(
        2, description="0: the process that asks trains itself, which starts 20 s sooner but cannot go on after it died"
    )
    resize_every_s: float = Field(60.0, gt=0, description="how often an elastic run looks for nodes that came")
    cpus_per_worker: float = Field(1.0, gt=0)
    gpus_per_worker: float = Field(0.0, ge=0, description="a part of a GPU packs several workers on one")
    max_failures: int = Field(3, ge=-1, description="deaths of workers after which to give up; -1: never")
    seed: int = 42

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        least, most = self.worker_range
        if not self.in_process and not 1 <= least <= most:
            raise ValueError(f"workers {self.workers}: give a number, or the fewest and the most")
        if self.in_process and (self.select != "last" or self.early_stopping or self.checkpoint_every):
            raise ValueError(
                "workers 0 keeps no checkpoints to choose from: set select=last, early_stopping=null and "
                "checkpoint_every=null, or workers=1"
            )
        return self

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if not self.val_share and (self.select != "last" or self.early_stopping or self.schedule.name == "plateau"):
            raise ValueError(
                "with val_share 0 nothing is held out to choose an epoch or a rate by: set select=last, "
                "early_stopping=null and another schedule than plateau, or a val_share"
            )
        return self

    @model_validator(mode="after")
    def _check_augmented(self) -> Self:
        if self.augment is not None and self.augment.rotate and "flow" in self.reads:
            raise ValueError(f"{self.model} reads flow, whose directions do not turn with it: set augment.rotate=0")
        return self

    @model_validator(mode="after")
    def _check_cached(self) -> Self:
        if self.cached is not None and self.augment is not None:
            raise ValueError("cached features are of clips as they are: set augment=null, or leave out cached")
        return self

    @model_validator(mode="after")
    def _check_before(self) -> Self:
        if self.first is not None and (self.first.model, self.first.transform) != (self.model, self.transform):
            raise ValueError("before trains the same model on the same input; leave model and transform out of it")
        return self

    @property
    def first(self) -> Recipe | None:
        """The phase that is trained before this one."""
        if self.before is None:
            return None
        values = _merged(self.model_dump(exclude={"before"}), self.before)
        return Recipe.model_validate(values | {"name": f"{self.name}-first"})

    @property
    def weight_files(self) -> list[str]:
        """Public weights to start from, in the order in which they are put into the model."""
        return [self.pretrained] if isinstance(self.pretrained, str) else self.pretrained or []

    @property
    def reads(self) -> tuple[InputName, ...]:
        """What the model needs of a clip."""
        return reads(self.model, self.model_config_)

    @property
    def in_process(self) -> bool:
        """Whether the process that asks for training does it itself, for trials of seconds."""
        return self.workers == 0

    @property
    def model_inputs(self) -> dict[str, int]:
        """Keyword arguments of models that say what their input is, which the transform decides."""
        return {"channels": self.transform.channels, "frames": self.transform.frames, "size": self.transform.size}

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Whether less or more of what is monitored is better."""
        return "min" if self.monitor == "loss" else "max"


def overridden(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with `settings` such as "optimizer.lr=3e-4", "augment=null" or "model_config_.dropout=0.1".

    Values are JSON; what is not JSON is text. Paths of weights and features are made absolute, for workers run in
    folders of their own. Raises ValueError that names the fields there are.
    """
    values = recipe.model_dump()
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} sets nothing; write FIELD=VALUE, such as optimizer.lr=3e-4")
        *parents, last = path.strip().split(".")
        place = values
        for depth, name in enumerate(parents):
            place = _below(place, name, ".".join(parents[: depth + 1]))
        # A model knows its own arguments; of what was null, or is told of a phase before, pydantic knows the fields.
        if parents[:1] not in (["model_config_"], ["before"]) and place and last not in place:
            raise ValueError(f"{path}: no such field; there are {', '.join(place)}")
        place[last] = _value(text)
    made = Recipe.model_validate(values)
    absolute: dict[str, Any] = {}
    if made.pretrained is not None:
        files = [str(Path(one).absolute()) for one in made.weight_files]
        absolute["pretrained"] = files[0] if isinstance(made.pretrained, str) else files
    if made.cached is not None:
        absolute["cached"] = storage.absolute(made.cached)
    return made.model_copy(update=absolute)


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, which may say a part of a dictionary."""
    merged = dict(values)
    for name, change in changes.items():
        old = merged.get(name)
        merged[name] = _merged(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def _below(place: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    if name not in place:
        raise ValueError(f"{path}: no such field; there are {', '.join(place)}")
    if place[name] is None:
        place[name] = {}
    if not isinstance(place[name], dict):
        raise ValueError(f"{path} is {place[name]!r} and has no fields")
    return place[name]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
