"""OUS (Mai et al. 2024): what a scene tells of an emotion is fused with what the face tells, in CLIP's joint space.

CLIP's frozen image tower embeds faces and scenes, trained layers join the frames and both types, and the answer is the
class whose prompt, which is learned but for the class's name, lies nearest in the space of CLIP's frozen text tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.clip_towers import ImageTower, TextTower, clip_weights, cosines
from ray_fer.models.backbones.frame_resnet import check_clip
from ray_fer.models.backbones.lean_transformer import Layer
from ray_fer.models.batch import ClipBatch, InputName, ModelOutput
from ray_fer.models.card import Card, Input, Model
from ray_fer.models.clip_prompts import named, prompt_ids
from ray_fer.models.polarity import EARLY_BLOCKS, POLARITIES, PolarityEncoder, polarities_of
from ray_fer.models.type_fusion import TypeFusionEncoder

Streams = Literal["both", "face"]
Losses = Literal["global", "ce"]
Fusion = Literal["tfe", "mean"]

_HEAD = 64
"""Width of an attention head, as in CLIP."""


class Ous(Model):
    """OUS: faces and scenes through frozen CLIP ViT-L/14, a Type Fusion Encoder, learned prompts (Mai et al. 2024).

    One frozen tower embeds both streams, one LSTM (13) reads both. A transformer over the frames gives V_ft (a token
    for each frame), the mean over the scene's frames V_st (14), and an encoder of what the tower's first four blocks
    saw V_pol; the Type Fusion Encoder makes one vector of these tokens. Prompts (11) are [SOS], `prompt_length` learned
    vectors that all classes share, the class's name, [EOS]. Without CLIP's weights both towers are random.

    Parameters
    ----------
    classes, channels: number of expression classes; of both streams' channels (those beyond three start at 0, and stay
        there while the tower is frozen).
    class_names: the classes in the order of the labels; without them 7 classes are taken for `EXPRESSIONS` and 11 for
        `COMPOUND_EXPRESSIONS`.
    polarities: "negative", "neutral" or "positive" for each class, for those that `POLARITY` does not hold.
    frames, size: of a clip, and of its scene.
    patch, image_width, image_depth, text_width, text_depth, dim: of CLIP; attention heads are 64 wide.
    image_stem: width of convolutions before the patches, which CLIP does not have; see `ImageTower`.
    streams: "both", or "face" without scenes, their loss and the layers that align them.
    blocks, queries, residual: of the `TypeFusionEncoder`.
    prompt_length: learned vectors of the prompts.
    losses: "global" (4), or "ce", which leaves the contrastive loss alone (Tables IV and V).
    fusion: "tfe", or "mean" of the face's and the scene's vector instead (Tables IV and V).
    alpha: while L_global (4) exceeds it, it is what is minimised; below, the contrastive loss is.
    temperature: of the logits, CLIP's final one.
    frame_layers: of the transformer over the frames.
    train_encoder: True trains the vision encoder too, which the paper does not: for small encoders without public
        weights. Then nothing can be cached.

    Raises ValueError for classes without a name or polarity, for unknown words, and for sizes that do not divide or
    are too small.

    Reconstructed: no code was released. What the paper leaves open, and what it is here:

    - Its contrastive loss (3) compares the scenes and faces of a batch, and knows no label; the text compares the
      output features with the prompts. This is the text's: logits are cosines of V_out and the prompts over the
      temperature, and the loss is the cross-entropy that the training loop computes.
    - Alpha has no value; 1.0 is ours. The loss that is compared with it is L_global, of every batch anew. The sums over
      a batch of (1) and (3) are means, so that alpha does not depend on the batch's size. The sums of (2) are kept: one
      cosine of all face vectors and all scene vectors, end to end. Both are of the clips of one call: with several
      workers, or `accumulate`, of a part of the batch, whose (2) is larger.
    - III.B gives the Type Fusion Encoder the features of face and scene "as the Key and Value respectively"; III.D
      concatenates all of them with those of the polarity. Here all tokens are keys and values alike.
    - Equation 13 is a plain recurrent cell; the text and the figure say LSTM, and so it is.
    - The first four blocks are read as means over the patches and the frames of the scene (of the face where there is
      no scene), a LayerNorm for each; an MLP makes V_pol of the four, and a linear layer the polarity.
    - Each stream is aligned by a convolution along its tokens, ReLU and a linear layer, and it is the aligned V_ft and
      V_st that are compared and fused. The scene has one token, and so its convolution has width 1 instead of 3. The
      face's vector in the loss and in `fusion="mean"` is the mean over its aligned tokens.
    - The transformer over the frames has one layer, as DFER-CLIP's, and keeps all frames; its positions are learned.
    - `queries` has no value; 16 is ours.
    """

    polarity_of: Tensor

    card = Card(
        title="OUS",
        paper="Mai et al., OUS: Scene-Guided Dynamic Facial Expression Recognition, arXiv 2405.18769, 2024",
        status="reconstructed",
        input=Input(16, 224),
        tiny={
            "frames": 4, "size": 32, "patch": 8, "image_width": 64, "image_depth": 4, "text_width": 64,
            "text_depth": 1, "dim": 64, "blocks": 2, "prompt_length": 4, "queries": 4, "residual": True,
        },
        tiny_input=Input(4, 32),
        weights=(
            "CLIP ViT-L/14 in Hugging Face's layout (openai/clip-vit-large-patch14, model.safetensors): both towers",
            "CLIP ViT-L/14 in open_clip's layout (ViT-L-14-quickgelu, openai): both towers",
            "a bundle of DFER-CLIP (or of OUS) whose image tower has the same size: that tower",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        class_names: list[str] | None = None,
        polarities: list[str] | None = None,
        frames: int = 16,
        size: int = 224,
        patch: int = 14,
        image_width: int = 1024,
        image_depth: int = 24,
        image_stem: int = 0,
        text_width: int = 768,
        text_depth: int = 12,
        dim: int = 768,
        streams: Streams = "both",
        blocks: int = 12,
        prompt_length: int = 64,
        queries: int = 16,
        losses: Losses = "global",
        fusion: Fusion = "tfe",
        alpha: float = 1.0,
        temperature: float = 0.01,
        frame_layers: int = 1,
        train_encoder: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        for argument, value, known in (
            ("streams", streams, Streams), ("losses", losses, Losses), ("fusion", fusion, Fusion)
        ):  # fmt: skip
            if value not in get_args(known):
                raise ValueError(f"unknown {argument} {value!r}; expected one of {', '.join(get_args(known))}")
        if image_depth < EARLY_BLOCKS:
            raise ValueError(
                f"the polarity encoder reads {EARLY_BLOCKS} blocks of the image tower; image_depth={image_depth}"
            )
        if dim % _HEAD:
            raise ValueError(f"dim must be a multiple of {_HEAD}, not {dim}")
        names = named(classes, class_names)
        self.frames, self.size = frames, size
        self.alpha, self.temperature = alpha, temperature
        self.train_encoder = train_encoder
        self.image = ImageTower(size, patch, channels, image_width, image_depth, dim, image_stem)
        self.image.requires_grad_(train_encoder)
        self.text = TextTower(prompt_ids([name.lower() for name in names], prompt_length), text_width, text_depth, dim)
        self.contexts = nn.Parameter(torch.randn(prompt_length, text_width) * 0.02)
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.frame_encoder = FrameEncoder(frames, dim, frame_layers)
        both, polar = streams == "both", losses == "global"
        self.align_face = Alignment(dim, 3) if both else None
        self.align_scene = Alignment(dim, 1) if both else None
        self.polarity = PolarityEncoder(image_width, dim) if polar or fusion == "tfe" else None
        self.polarity_head = nn.Linear(dim, len(POLARITIES)) if polar else None
        if polar:
            polarity_of = torch.tensor([POLARITIES.index(one) for one in polarities_of(names, polarities)])
            self.register_buffer("polarity_of", polarity_of, persistent=False)
        self.fusion = TypeFusionEncoder(dim, blocks, queries, dim // _HEAD, residual) if fusion == "tfe" else None
        self.train()

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[InputName, ...]:
        """Faces, and unless `streams` is "face" whole frames."""
        return ("frames",) if config.get("streams") == "face" else ("frames", "scene")

    def train(self, mode: bool = True) -> Ous:
        """The image tower stays in evaluation mode while it is frozen."""
        super().train(mode)
        self.image.train(mode and self.train_encoder)
        return self

    def frozen(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Vectors "face" and "scene" [B,T,dim] and "early" [B,4,image_width]; with `streams="face"` no "scene".

        Empty when the encoder is trained. Raises ValueError for clips without the scene, or of another size.
        """
        if self.train_encoder:
            return {}
        with torch.no_grad():
            return self._encoded(batch)

    def frozen_weights(self) -> dict[str, Tensor]:
        """The image tower's, unless it is trained."""
        return {} if self.train_encoder else self.image.state_dict()

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Features are unit vectors V_out, losses "similarity" (2) and "polarity" (1) while training. See the class."""
        known = batch.cached
        if known is None:
            known = self._encoded(batch) if self.train_encoder else self.frozen(batch)
        types = self._types(known)
        vectors = [tokens.mean(dim=1) for tokens in types]
        polarity = None if self.polarity is None else self.polarity(known["early"])
        if self.fusion is None or polarity is None:
            fused = torch.stack(vectors).mean(dim=0)
        else:
            fused = self.fusion(torch.cat([polarity[:, None], *types], dim=1))
        features = functional.normalize(fused.float(), dim=-1)
        prompts = self.text(self.contexts.expand(len(self.text.tokens), -1, -1))
        text = functional.normalize(prompts.float(), dim=-1)
        return ModelOutput(
            cosines(features, text) / self.temperature, features, self._losses(batch.label, vectors, polarity)
        )

    def balance(self, losses: dict[str, Tensor]) -> Tensor:
        """Equation 4 and the sentence around it: all losses while their sum exceeds alpha, else "classification"."""
        everything = super().balance(losses)
        return torch.where(everything.detach() > self.alpha, everything, losses["classification"])

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """CLIP's weights of both towers, or those of a bundle; all that is trained stays as it is.

        A bundle's text tower is read where its prompts have the same words, which those of DFER-CLIP have not.
        """
        if "image.cls" in state:
            words = {f"text.{name}": one for name, one in self.text.named_buffers()}
            same = all(name in state and torch.equal(state[name], one) for name, one in words.items())
            towers = ("image.", "text.") if same else ("image.",)
            return {name: weight for name, weight in state.items() if name.startswith(towers)}
        return clip_weights(state, self.image, self.text)

    def _encoded(self, batch: ClipBatch) -> dict[str, Tensor]:
        """See `frozen`."""
        face, early_of_face = self._seen("OUS", batch.frames)
        if self.align_scene is None:
            return {"face": face, "early": early_of_face}
        if batch.scene is None:
            raise ValueError(
                "OUS reads whole frames beside the faces, and these clips have none; preprocess with --scene whole, or "
                "build it with streams='face'"
            )
        scene, early = self._seen("OUS (scenes)", batch.scene)
        return {"face": face, "scene": scene, "early": early}

    def _seen(self, title: str, frames: Tensor) -> tuple[Tensor, Tensor]:
        """One stream [B,T,C,H,W] -> vectors of its frames [B,T,dim], and of early blocks [B,4,width]."""
        check_clip(title, frames, self.frames, self.size)
        vectors, early = self.image.with_early(frames.flatten(0, 1), EARLY_BLOCKS)
        shape = frames.shape[:2]
        early = early.float().unflatten(0, shape).mean(dim=1)
        return vectors.float().unflatten(0, shape).contiguous(), early.contiguous()

    def _types(self, known: dict[str, Tensor]) -> list[Tensor]:
        """V_ft [B,T,dim], and where there are scenes V_st [B,1,dim]."""
        if self.align_face is None or self.align_scene is None:
            return [self.frame_encoder(self.lstm(known["face"])[0])]
        joined, _ = self.lstm(torch.cat([known["face"], known["scene"]]))
        face, scene = joined.chunk(2)
        return [self.align_face(self.frame_encoder(face)), self.align_scene(scene.mean(dim=1, keepdim=True))]

    def _losses(self, label: Tensor | None, vectors: list[Tensor], polarity: Tensor | None) -> dict[str, Tensor]:
        if not self.training or label is None or self.polarity_head is None or polarity is None:
            return {}
        seen = self.polarity_head(polarity).float()
        losses = {"polarity": functional.cross_entropy(seen, self.polarity_of[label])}
        if len(vectors) > 1:
            losses["similarity"] = dissimilarity(*vectors)
        return losses


class FrameEncoder(nn.Module):
    """A transformer over the frames' vectors, with learned positions: [B,T,dim] -> [B,T,dim]."""

    def __init__(self, frames: int, dim: int, depth: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(frames, dim) * 0.02)
        self.layers = nn.Sequential(*(Layer(dim, dim // _HEAD, _HEAD, 4 * dim) for _ in range(depth)))

    def forward(self, vectors: Tensor) -> Tensor:
        return self.layers(vectors + self.position)


class Alignment(nn.Module):
    """Convolution of `width` along the tokens, ReLU, linear layer: [B,N,dim] -> [B,N,dim]."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, dim, width, padding=width // 2)
        self.linear = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.convolution(tokens.transpose(1, 2)).relu().transpose(1, 2))


def dissimilarity(face: Tensor, scene: Tensor) -> Tensor:
    """Equation 2, the similarity loss: 1 - cosine of all faces [B,dim] and all scenes [B,dim], each as one vector."""
    return 1 - functional.cosine_similarity(face.float().flatten(), scene.float().flatten(), dim=0)
