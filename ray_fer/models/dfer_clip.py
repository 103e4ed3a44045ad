"""DFER-CLIP (Zhao and Patras 2023): a clip is compared with descriptions of expressions in CLIP's joint space.

CLIP's image tower embeds each frame, a transformer joins the frames, CLIP's frozen text tower embeds one description
of facial movements for each class, and the nearest description is the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.clip_towers import ImageTower, TextTower, clip_weights, cosines
from ray_fer.models.backbones.frame_resnet import check_clip
from ray_fer.models.backbones.sequence import TemporalTransformer
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published
from ray_fer.models.clip_prompts import described, prompt_ids

_TEMPERATURE = 0.01


class DferClip(Model):
    """DFER-CLIP: CLIP ViT-B/32, a temporal transformer and learned prompts (Zhao and Patras, BMVC 2023).

    A prompt is [SOS], `contexts` vectors that are learned for each class, the class's description, [EOS]. The image
    tower, the temporal transformer and these vectors are trained, the text tower is not. Without CLIP's weights the
    towers are random, and the texts say nothing.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels (those beyond three start at 0).
    class_names: the classes in the order of the labels, to look up their descriptions; without them 7 classes are
        taken for `EXPRESSIONS` and 11 for `COMPOUND_EXPRESSIONS`.
    descriptions: a text for each class, for classes that we do not describe.
    frames, size: of a clip.
    patch, image_width, image_depth, text_width, text_depth, dim: of CLIP; attention heads are 64 wide.
    image_stem: width of convolutions before the patches, which CLIP does not have; see `ImageTower`.
    temporal_depth, temporal_mlp: of the temporal transformer.
    contexts: vectors learned for each class.

    Raises ValueError for classes without a description, a text that is too long, or sizes that do not divide.

    Differences from the released code (github.com/zengqunzhao/DFER-CLIP): its descriptions were written by a language
    model, ours by us; its clips are not standardised (pixels in 0..1), which a transform with mean 0 and deviation 1
    gives; it keeps CLIP's whole vocabulary (25.3 M parameters that are never trained), we keep what the texts use.
    """

    card = Card(
        title="DFER-CLIP",
        paper="Zhao and Patras, Prompting Visual-Language Models for Dynamic Facial Expression Recognition, BMVC 2023",
        status="faithful",
        input=Input(16, 224),
        tiny={
            "frames": 4, "size": 32, "patch": 8, "image_width": 64, "image_depth": 1, "text_width": 64,
            "text_depth": 1, "dim": 64, "temporal_mlp": 64,
        },
        tiny_input=Input(4, 32),
        published=(
            Published(
                "DFER-CLIP, 7 classes, both towers",
                "Wang et al., A Survey on Facial Expression Recognition of Static and Dynamic Emotions, 2024",
                Input(16, 224), gmacs=92,
            ),
        ),
        weights=(
            "CLIP ViT-B/32 in Hugging Face's layout (openai/clip-vit-base-patch32, model.safetensors): both towers",
            "CLIP ViT-B/32 in open_clip's layout (ViT-B-32-quickgelu, openai): both towers",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        class_names: list[str] | None = None,
        descriptions: list[str] | None = None,
        frames: int = 16,
        size: int = 224,
        patch: int = 32,
        image_width: int = 768,
        image_depth: int = 12,
        image_stem: int = 0,
        text_width: int = 512,
        text_depth: int = 12,
        dim: int = 512,
        temporal_depth: int = 1,
        temporal_mlp: int = 1024,
        contexts: int = 8,
    ) -> None:
        super().__init__()
        ids = prompt_ids(described(classes, class_names, descriptions), contexts)
        self.frames, self.size = frames, size
        self.image = ImageTower(size, patch, channels, image_width, image_depth, dim, image_stem)
        self.temporal = TemporalTransformer(frames, dim, temporal_depth, dim // 64, temporal_mlp)
        self.text = TextTower(ids, text_width, text_depth, dim)
        self.contexts = nn.Parameter(torch.empty(classes, contexts, text_width).normal_(std=0.02))

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Logits are cosines over 0.01; features the clips' unit vectors."""
        check_clip(self.card.title, batch.frames, self.frames, self.size)
        vectors = self.image(batch.frames.flatten(0, 1)).unflatten(0, (-1, self.frames))
        video = functional.normalize(self.temporal(vectors).float(), dim=-1)
        text = functional.normalize(self.text(self.contexts).float(), dim=-1)
        return ModelOutput(logits=cosines(video, text) / _TEMPERATURE, features=video)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """CLIP's weights of both towers; prompts and the temporal transformer stay as they are."""
        return clip_weights(state, self.image, self.text)
