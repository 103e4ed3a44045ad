"""EthnicMER (Khor et al. 2025): micro-expressions from onset-to-apex motion, beside what tells the ethnic group.

Two networks without shared weights look at a clip, one taught the expression, the other the ethnic group; the answer is
linear in both their features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.frame_cnn import ResNet18, imagenet_weights
from ray_fer.models.backbones.tiny_vit import DEPTHS_21M, DIMS_21M, TinyVitClassifier, tiny_vit, tiny_vit_weights
from ray_fer.models.batch import ClipBatch, InputName, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published

Ethnicity = Literal["none", "flow", "texture"]
TextureBackbone = Literal["tiny_vit_21m", "resnet18"]
_UNKNOWN = -1


class EthnicMer(Model):
    """EthnicMER: ResNet-18 on the optical flow image, TinyViT-21M on the apex, late fusion (Khor et al., ICMEW 2025).

    f_emotion comes from the flow image (u, v, strain; equation 7), f_ethnicity from the flow image or from the RGB apex
    frame. Each has a linear layer and a cross-entropy (1, 2), and so have both together, concatenated (3, 8); the three
    losses are added up (4), and the merged layer answers. Ethnic groups are needed for training alone; clips of an
    unknown group have no part in (2).

    Parameters
    ----------
    classes, cultures: number of expression classes, of ethnic groups.
    ethnicity: "none" (Table V, row 1: one ResNet-18, one loss), "flow" (row 2), or "texture" (rows 3 and 4).
    texture_backbone: what reads the apex frame, "tiny_vit_21m" (row 4) or "resnet18" (row 3).
    width: of ResNet-18; its features are 8 times as wide.
    vit_dims, vit_depths: of TinyViT's four stages, where they are not those of TinyViT-21M.

    Raises ValueError for unknown words, and for sizes that TinyViT does not have.

    The released code differs. Its network for "flow" sends the ethnicity stream through the emotion trunk, so that the
    second trunk is never used, and builds a third one for gender whose output is thrown away; here each trunk learns
    from its own stream. It never calls eval() before testing, and sets no seed.
    """

    card = Card(
        title="EthnicMER",
        paper="Khor et al., Is Micro-expression Ethnic Leaning?, ICME Workshops 2025",
        status="faithful",
        input=Input(1, 224),
        tiny={"width": 8, "vit_dims": (16, 32, 32, 32), "vit_depths": (1, 1, 1, 1)},
        tiny_input=Input(1, 32),
        published=(
            Published(
                "ResNet-18, ImageNet", "torchvision, ResNet18_Weights.IMAGENET1K_V1", Input(1, 224),
                parameters=11.689512, gmacs=1.814, config={"ethnicity": "none", "classes": 1000},
            ),
            Published(
                "TinyViT-21M, ImageNet", "Wu et al., ECCV 2022, Table 4", Input(1, 224), parameters=21, gmacs=4.3,
                build=TinyVitClassifier,
            ),
        ),
        weights=(
            "torchvision ResNet18_Weights.IMAGENET1K_V1: every ResNet-18",
            "timm tiny_vit_21m_224.dist_in22k_ft_in1k, or TinyViT's own checkpoint of it: the texture network",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 3,
        cultures: int = 2,
        ethnicity: Ethnicity = "texture",
        texture_backbone: TextureBackbone = "tiny_vit_21m",
        width: int = 64,
        vit_dims: Sequence[int] = DIMS_21M,
        vit_depths: Sequence[int] = DEPTHS_21M,
    ) -> None:
        super().__init__()
        for argument, value, known in (
            ("ethnicity", ethnicity, Ethnicity), ("texture_backbone", texture_backbone, TextureBackbone)
        ):  # fmt: skip
            if value not in get_args(known):
                raise ValueError(f"unknown {argument} {value!r}; expected one of {', '.join(get_args(known))}")
        self.looks_at: InputName = "apex" if ethnicity == "texture" else "flow"
        self.emotion = ResNet18(width=width)
        self.emotion_head = nn.Linear(self.emotion.dim, classes)
        self.ethnicity: nn.Module | None = None
        if ethnicity == "none":
            return
        if ethnicity == "texture" and texture_backbone == "tiny_vit_21m":
            self.ethnicity, dim = tiny_vit(vit_dims, vit_depths), vit_dims[-1]
        else:
            self.ethnicity = ResNet18(width=width)
            dim = self.ethnicity.dim
        self.ethnicity_head = nn.Linear(dim, cultures)
        self.fusion_head = nn.Linear(self.emotion.dim + dim, classes)

    def trunks(self) -> dict[str, nn.Module]:
        """What looks at the flow image, "emotion", and where there is one, "ethnicity"."""
        return {"emotion": self.emotion} | ({} if self.ethnicity is None else {"ethnicity": self.ethnicity})

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[InputName, ...]:
        """The flow image, and for texture the apex frame."""
        return ("flow", "apex") if config.get("ethnicity", "texture") == "texture" else ("flow",)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Features are f_emotion and f_ethnicity [B,D]; losses "emotion" (1) and "ethnicity" (2) while training.

        Raises ValueError for clips without what is read.
        """
        emotion = self.emotion(_present(batch, "flow"))
        if self.ethnicity is None:
            return ModelOutput(self.emotion_head(emotion), emotion)
        ethnicity = self.ethnicity(_present(batch, self.looks_at))
        merged = torch.cat([emotion, ethnicity], dim=1)
        losses: dict[str, Tensor] = {}
        if self.training and batch.label is not None:
            losses["emotion"] = functional.cross_entropy(self.emotion_head(emotion).float(), batch.label)
            losses["ethnicity"] = _known_entropy(self.ethnicity_head(ethnicity).float(), batch.culture)
        return ModelOutput(self.fusion_head(merged), merged, losses)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """ImageNet's ResNet-18 for every ResNet-18, or TinyViT for the texture network, without their classifiers."""
        if "layer1.0.conv1.weight" in state:
            found = _below("emotion", imagenet_weights(self.emotion, state))
            if isinstance(self.ethnicity, ResNet18):
                found |= _below("ethnicity", imagenet_weights(self.ethnicity, state))
            return found
        if self.ethnicity is None or isinstance(self.ethnicity, ResNet18):
            raise ValueError("these are not weights of ResNet-18, which is all that EthnicMER has here")
        return _below("ethnicity", tiny_vit_weights(self.ethnicity, state))


def _present(batch: ClipBatch, name: InputName) -> Tensor:
    image: Tensor | None = getattr(batch, name)
    if image is None:
        raise ValueError(f"EthnicMER reads the {name} of a clip, and these have none; preprocess with --flow tvl1")
    return image


def _known_entropy(logits: Tensor, culture: Tensor | None) -> Tensor:
    """Mean cross-entropy of the clips whose group is known; 0 where none is."""
    if culture is None:
        return 0 * logits.sum()  # with a gradient, though 0: DDP waits for one
    total = functional.cross_entropy(logits, culture, ignore_index=_UNKNOWN, reduction="sum")
    return total / (culture != _UNKNOWN).sum().clamp(min=1)


def _below(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": one for key, one in state.items()}
