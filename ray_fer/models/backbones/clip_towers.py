"""CLIP's two towers (Radford et al. 2021, ViT variants) and its public weights under their names.

The text tower reads prompts whose first words are vectors from outside, so that they can be learned, and holds the
embeddings of those words of CLIP's vocabulary that its texts use: about 100 rows instead of 49,408.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import early_convolutions, widened

_HEAD = 64
"""Width of one attention head in every CLIP."""


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x), the activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """CLIP's transformer block, pre-LN: [B,N,D] -> [B,N,D]; `causal` hides later tokens from earlier ones."""

    def __init__(self, dim: int, causal: bool) -> None:
        super().__init__()
        if dim % _HEAD:
            raise ValueError(f"the width of a tower must be a multiple of {_HEAD}, not {dim}")
        self.causal = causal
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), QuickGelu(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, -1, _HEAD))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ImageTower(nn.Module):
    """Images [N,C,size,size] -> [N,dim]: the projected CLS token of a ViT.

    `stem` > 0 puts `early_convolutions` of that width before the patches, which no public CLIP has: for small towers
    that learn from nothing.
    """

    def __init__(self, size: int, patch: int, channels: int, width: int, depth: int, dim: int, stem: int = 0) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"{size} px do not divide into patches of {patch}")
        self.stem = early_convolutions(channels, stem, patch) if stem else nn.Identity()
        kernel = patch // 4 if stem else patch
        self.patches = nn.Conv2d(stem or channels, width, kernel, stride=kernel, bias=False)
        self.cls = nn.Parameter(torch.randn(width) * width**-0.5)
        self.position = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width) * width**-0.5)
        self.norm_before = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, causal=False) for _ in range(depth)))
        self.norm_after = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self._projected(self.blocks(self._tokens(images)))

    def with_early(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Besides [N,dim], what the first `count` blocks gave: [N,count,width], the means over the patches' tokens.

        The CLS token is left out: in early blocks it has gathered little of the picture. Raises ValueError when there
        are fewer blocks.
        """
        if count > len(self.blocks):
            raise ValueError(f"the image tower has {len(self.blocks)} blocks, and {count} are to be read")
        x = self._tokens(images)
        early = []
        for block in self.blocks[:count]:
            x = block(x)
            early.append(x[:, 1:].mean(dim=1))
        return self._projected(self.blocks[count:](x)), torch.stack(early, dim=1)

    def _tokens(self, images: Tensor) -> Tensor:
        patches = self.patches(self.stem(images)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(images), 1, -1), patches], dim=1) + self.position
        return self.norm_before(x)

    def _projected(self, x: Tensor) -> Tensor:
        return self.projection(self.norm_after(x[:, 0]))


class TextTower(nn.Module):
    """One text for each class, the beginning of which is learned: contexts [C,n,width] -> [C,dim].

    It is frozen: none of its parameters has a gradient and it stays in evaluation mode, but contexts get theirs.

    Parameters
    ----------
    ids: for each class the same number of ids of CLIP's vocabulary, [SOS] first; n ids after it are placeholders.
    """

    vocabulary: Tensor
    tokens: Tensor

    def __init__(self, ids: list[list[int]], width: int, depth: int, dim: int) -> None:
        super().__init__()
        words = sorted({word for text in ids for word in text})
        row = {word: index for index, word in enumerate(words)}
        self.register_buffer("vocabulary", torch.tensor(words))
        self.register_buffer("tokens", torch.tensor([[row[word] for word in text] for text in ids]))
        self.embedding = nn.Embedding(len(words), width)
        self.position = nn.Parameter(torch.randn(len(ids[0]), width) * 0.01)
        self.blocks = nn.Sequential(*(Block(width, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TextTower:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, contexts: Tensor) -> Tensor:
        embedded = self.embedding(self.tokens)
        x = torch.cat([embedded[:, :1], contexts, embedded[:, 1 + contexts.shape[1] :]], dim=1) + self.position
        x = self.blocks(x)
        # [EOS] has the highest id of CLIP's vocabulary, and so the last row of ours.
        ends = self.tokens.argmax(dim=1)
        return self.projection(self.norm(x[torch.arange(len(x), device=x.device), ends]))


def cosines(vectors: Tensor, texts: Tensor) -> Tensor:
    """Of unit vectors of clips [B,dim] with those of classes [C,dim], in float32: [B,C].

    Not a matrix product: autocast would round cosines to bfloat16, and 0.004 of a cosine is 0.4 of a logit.
    """
    return (vectors[:, None] * texts).sum(dim=-1)


_TOWERS = {
    "image": ("visual.transformer.resblocks", "vision_model.encoder.layers"),
    "text": ("transformer.resblocks", "text_model.encoder.layers"),
}
_BLOCK = {
    "norm1": ("ln_1", "layer_norm1"),
    "proj": ("attn.out_proj", "self_attn.out_proj"),
    "norm2": ("ln_2", "layer_norm2"),
    "mlp.0": ("mlp.c_fc", "mlp.fc1"),
    "mlp.2": ("mlp.c_proj", "mlp.fc2"),
}
_OTHERS = {
    "image.cls": ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    "image.patches.weight": ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    "image.position": ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    "image.norm_before.weight": ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
    "image.norm_before.bias": ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    "image.norm_after.weight": ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
    "image.norm_after.bias": ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
    "image.projection.weight": ("visual.proj", "visual_projection.weight"),
    "text.embedding.weight": ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    "text.position": ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    "text.norm.weight": ("ln_final.weight", "text_model.final_layer_norm.weight"),
    "text.norm.bias": ("ln_final.bias", "text_model.final_layer_norm.bias"),
    "text.projection.weight": ("text_projection", "text_projection.weight"),
}
"""Our names: OpenAI's (and open_clip's), Hugging Face's."""


def clip_weights(state: dict[str, Tensor], image: ImageTower, text: TextTower) -> dict[str, Tensor]:
    """Weights of a CLIP checkpoint as `image.` and `text.`; channels of images beyond three start at 0.

    Of open_clip's files those of OpenAI fit (their names end in -quickgelu): others have the same names and shapes but
    another activation, which no file tells. Raises KeyError or ValueError for weights of something else.
    """
    theirs = 0 if "visual.class_embedding" in state else 1
    known = {ours: state[names[theirs]] for ours, names in _OTHERS.items()}
    if theirs == 0:  # a matrix there, a linear layer here
        for tower in _TOWERS:
            known[f"{tower}.projection.weight"] = known[f"{tower}.projection.weight"].T.contiguous()
    for tower, depth in (("image", len(image.blocks)), ("text", len(text.blocks))):
        for index in range(depth):
            ours, other = f"{tower}.blocks.{index}", f"{_TOWERS[tower][theirs]}.{index}"
            for kind in ("weight", "bias"):
                known[f"{ours}.qkv.{kind}"] = _query_key_value(state, other, kind)
                for part, names in _BLOCK.items():
                    known[f"{ours}.{part}.{kind}"] = state[f"{other}.{names[theirs]}.{kind}"]
    known["image.patches.weight"] = widened(known["image.patches.weight"], image.patches.in_channels)
    known["text.embedding.weight"] = known["text.embedding.weight"][text.vocabulary]
    return known


def _query_key_value(state: dict[str, Tensor], block: str, kind: str) -> Tensor:
    joined = f"{block}.attn.in_proj_{kind}"
    if joined in state:
        return state[joined]
    return torch.cat([state[f"{block}.self_attn.{part}_proj.{kind}"] for part in "qkv"])
