"""HDF (Cui et al. 2025): X3D with attention over time and frequency, and a contrastive loss beside the classifier's."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ray_fer.models.backbones.x3d import SIZES, X3D
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published
from ray_fer.models.dam import DAM, Branches, Variant
from ray_fer.models.dsm import Gaussian, GradientBalance, robust_contrastive_loss

_FIRST_STAGE, _LAST_STAGE = 2, 5


class HDF(Model):
    """Heterogeneity-aware Distributional Framework: X3D, DAM and DSM (Cui et al., ACM MM 2025).

    Parameters
    ----------
    classes, channels, frames: of the answer, of the frames' channels, and of a clip.
    dam: branches of the attention module, or "none" (Tables 3 and 4).
    dsm: whether the contrastive loss is there, with weights by the gradient (Table 3); see `dsm`.
    variant: of DAM, "paper" or "released".
    dam_stage: behind which stage of X3D, 2 to 5, DAM stands.
    temperature, eta, bottleneck, gaussian: of the contrastive loss: tau, eta and beta of equations 13 to 15.
    alpha, beta: base coefficients of the two losses (equation 16).
    x3d_size: "xs", "s", "m" (one network) or "l".
    x3d: keyword arguments of `X3D`, which go before its size.
    dropout: before the classifier.

    Raises ValueError for an unknown size, branch, variant or Gaussian, or a stage that there is not.

    What the paper does not say, and is ours: the size of X3D (M reads 16 frames, as the paper does), where DAM stands
    (behind the last stage), that DSM compares the 2,048 features that the classifier reads, all coefficients that
    `dsm` names, and X3D's own dropout of 0.5. The released code has no X3D, and fixes the loss weights.

    These features come out of a ReLU: no cosine is negative, and in a network that was just drawn all are above 0.6.
    The Gaussian of equation 13, with the paper's tau and eta, gives such negatives no weight, so that the contrastive
    loss begins as one among the positives of each class (to 1e-8 of its gradient), and the bottleneck is most of it.
    With `gaussian="cosine"` negatives count.
    """

    card = Card(
        title="HDF",
        paper="Cui et al., Learning from Heterogeneity: Generalizing Dynamic Facial Expression Recognition via "
        "Distributionally Robust Optimization, ACM MM 2025",
        status="reconstructed",
        input=Input(16, 160),
        tiny={"frames": 4, "dropout": 0.0, "x3d": {"width": 4, "width_factor": 1.0, "depth_factor": 0.5, "dim": 64}},
        tiny_input=Input(4, 32),
        published=tuple(
            Published(
                f"X3D-{size.upper()}, Kinetics-400", "SlowFast's model zoo", SIZES[size].input,
                parameters=parameters, gmacs=gmacs,
                config={
                    "classes": 400, "frames": SIZES[size].input.frames, "dam": "none", "dsm": False, "x3d_size": size,
                },
            )
            for size, parameters, gmacs in (("s", 3.79, 1.96), ("m", 3.79, 4.73), ("l", 6.15, 18.37))
        ),
        weights=("pytorchvideo's X3D of Kinetics-400, X3D_M.pyth (or X3D_S.pyth, the same network): the backbone",),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        frames: int = 16,
        dam: Branches | Literal["none"] = "both",
        dsm: bool = True,
        variant: Variant = "paper",
        dam_stage: int = 5,
        temperature: float = 0.07,
        eta: float = 0.2,
        bottleneck: float = 0.1,
        gaussian: Gaussian = "similarity",
        alpha: float = 1.0,
        beta: float = 1.0,
        x3d_size: str = "m",
        x3d: dict[str, Any] | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if x3d_size not in SIZES:
            raise ValueError(f"unknown size {x3d_size!r} of X3D; expected one of {', '.join(SIZES)}")
        if not _FIRST_STAGE <= dam_stage <= _LAST_STAGE:
            raise ValueError(f"X3D has no stage {dam_stage} to put DAM behind; give 2 to 5")
        if variant not in get_args(Variant):
            raise ValueError(f"unknown variant {variant!r} of DAM; expected paper or released")
        if gaussian not in get_args(Gaussian):
            raise ValueError(f"unknown gaussian {gaussian!r}; expected similarity or cosine")
        self.backbone = X3D(channels, **{"depth_factor": SIZES[x3d_size].depth_factor, **(x3d or {})})
        self.dam_stage = dam_stage
        self.dam: DAM | None = None
        if dam != "none":
            self.dam = DAM(self.backbone.stage_channels[dam_stage - _FIRST_STAGE], frames, dam, variant)
        self.contrast = partial(
            robust_contrastive_loss, temperature=temperature, eta=eta, bottleneck=bottleneck, gaussian=gaussian
        )
        self.balancer = GradientBalance(alpha, beta) if dsm else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.dim, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are what the classifier reads. The contrastive loss compares the clips of this call with each
        other, as batch normalisation does: a worker's share of a batch, or one part of it with `accumulate`."""
        maps = self.backbone.stem_maps(batch.frames)
        for number, stage in enumerate(self.backbone.stages, start=_FIRST_STAGE):
            maps = stage(maps)
            if self.dam is not None and number == self.dam_stage:
                maps = self.dam(maps)
        features = self.backbone.pooled(maps)
        losses = {}
        if self.balancer is not None and self.training and batch.label is not None:
            losses["contrastive"] = self.contrast(features, batch.label)
        return ModelOutput(self.classifier(self.dropout(features)), features, losses)

    def balance(self, losses: dict[str, Tensor]) -> Tensor:
        """Equation 17 with DSM."""
        if self.balancer is None or "contrastive" not in losses:
            return super().balance(losses)
        return self.balancer(losses["classification"], losses["contrastive"])

    @property
    def measures(self) -> bool:
        """With DSM."""
        return self.balancer is not None

    def measured(self, gradient_norm: Tensor | None) -> None:
        """g of equation 16."""
        if self.balancer is not None:
            self.balancer.measured(gradient_norm)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The backbone's."""
        return {f"backbone.{name}": tensor for name, tensor in self.backbone.adapted(state).items()}
