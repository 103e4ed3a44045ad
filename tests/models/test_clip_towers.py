"""CLIP's towers against open_clip and transformers: results, early blocks, names and sizes of all weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from ray_fer.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS
from ray_fer.models.backbones.clip_towers import ImageTower, TextTower, clip_weights
from ray_fer.models.batch import ClipBatch
from ray_fer.models.card import Input
from ray_fer.models.clip_prompts import named, prompt_ids
from ray_fer.models.describe import size_of

EARLY = 4
CONTEXTS = 64
WORD = "photo"
"""A single token of CLIP's vocabulary: prompts of it are plain texts, which other libraries can read, too."""
SOS, EOS = 49406, 49407


@dataclass(frozen=True)
class Shape:
    """Of both towers; heads are 64 wide."""

    size: int
    patch: int
    image_width: int
    image_depth: int
    text_width: int
    text_depth: int
    dim: int


SMALL = Shape(32, 8, 128, 6, 64, 3, 64)
VIT_B_32 = Shape(224, 32, 768, 12, 512, 12, 512)
VIT_L_14 = Shape(224, 14, 1024, 24, 768, 12, 768)


def towers(shape: Shape, classes: int = len(EXPRESSIONS)) -> tuple[ImageTower, TextTower]:
    ids = prompt_ids([name.lower() for name in named(classes, None)], CONTEXTS)
    image = ImageTower(shape.size, shape.patch, 3, shape.image_width, shape.image_depth, shape.dim)
    return image, TextTower(ids, shape.text_width, shape.text_depth, shape.dim)


def loaded(shape: Shape, state: dict[str, Tensor]) -> tuple[ImageTower, TextTower]:
    """Our towers with the weights of a checkpoint."""
    image, text = towers(shape)
    both = nn.ModuleDict({"image": image, "text": text})
    missing, unexpected = both.load_state_dict(clip_weights(state, image, text), strict=False)
    assert (set(missing), unexpected) == ({"text.tokens", "text.vocabulary"}, [])
    return image.eval(), text


def of_open_clip(shape: Shape) -> open_clip.CLIP:
    vision = open_clip.CLIPVisionCfg(
        layers=shape.image_depth, width=shape.image_width, head_width=64, patch_size=shape.patch, image_size=shape.size
    )
    text = open_clip.CLIPTextCfg(width=shape.text_width, heads=shape.text_width // 64, layers=shape.text_depth)
    return open_clip.CLIP(shape.dim, vision, text, quick_gelu=True).eval()


def of_hugging_face(shape: Shape) -> CLIPModel:
    return CLIPModel(
        CLIPConfig(
            vision_config={
                "image_size": shape.size, "patch_size": shape.patch, "hidden_size": shape.image_width,
                "num_hidden_layers": shape.image_depth, "num_attention_heads": shape.image_width // 64,
                "intermediate_size": 4 * shape.image_width,
            },
            text_config={
                "vocab_size": EOS + 1, "hidden_size": shape.text_width, "num_hidden_layers": shape.text_depth,
                "num_attention_heads": shape.text_width // 64, "intermediate_size": 4 * shape.text_width,
                "bos_token_id": SOS, "eos_token_id": EOS, "pad_token_id": 0,
            },
            projection_dim=shape.dim,
        )
    ).eval()  # fmt: skip


def randomise(module: nn.Module) -> None:
    """Biases and LayerNorms that are not 0 and 1, so that a swap of two of them shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


@contextmanager
def outputs_of(blocks: list[nn.Module]) -> Iterator[list[Tensor]]:
    """What each of them returns, as it is called."""
    kept: list[Tensor] = []
    hooks = [one.register_forward_hook(lambda _one, _inputs, output: kept.append(output)) for one in blocks]
    yield kept
    for hook in hooks:
        hook.remove()


def texts() -> list[str]:
    return [" ".join([WORD] * CONTEXTS + [name.lower()]) for name in EXPRESSIONS]


def contexts(table: Tensor) -> Tensor:
    """The vectors of our prompts that make `texts` of them."""
    (index,) = open_clip.SimpleTokenizer().encode(WORD)
    return table[index].expand(len(EXPRESSIONS), CONTEXTS, -1)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [SMALL, VIT_B_32], ids=["small", "ViT-B/32"])
def test_towers_agree_with_open_clip(shape: Shape) -> None:
    torch.manual_seed(1)
    theirs = of_open_clip(shape)
    randomise(theirs)
    image, text = loaded(shape, theirs.state_dict())
    images = torch.randn(2, 3, shape.size, shape.size)
    with torch.no_grad():
        with outputs_of(list(theirs.visual.transformer.resblocks[:EARLY])) as hidden:
            seen = theirs.encode_image(images)
        vectors, early = image.with_early(images, EARLY)
        close(vectors, seen)
        close(image(images), seen)
        close(early, torch.stack([one[:, 1:].mean(dim=1) for one in hidden], dim=1))
        read = theirs.encode_text(open_clip.tokenize(texts()))
        close(text(contexts(theirs.token_embedding.weight)), read)


def test_towers_agree_with_transformers() -> None:
    torch.manual_seed(2)
    theirs = of_hugging_face(SMALL)
    randomise(theirs)
    image, text = loaded(SMALL, theirs.state_dict())
    images = torch.randn(2, 3, SMALL.size, SMALL.size)
    with torch.no_grad():
        seen = theirs.vision_model(pixel_values=images, output_hidden_states=True)
        vectors, early = image.with_early(images, EARLY)
        close(vectors, theirs.visual_projection(seen.pooler_output))
        hidden = seen.hidden_states[1 : EARLY + 1]  # the first is what enters the first block
        close(early, torch.stack([one[:, 1:].mean(dim=1) for one in hidden], dim=1))
        read = theirs.text_model(input_ids=open_clip.tokenize(texts())).pooler_output
        close(text(contexts(theirs.text_model.embeddings.token_embedding.weight)), theirs.text_projection(read))


def test_early_blocks_are_those_that_there_are() -> None:
    image, _ = towers(SMALL)
    vectors, early = image.with_early(torch.randn(2, 3, 32, 32), SMALL.image_depth)
    assert (vectors.shape, early.shape) == ((2, 64), (2, 6, 128))
    with pytest.raises(ValueError, match="the image tower has 6 blocks, and 7 are to be read"):
        image.with_early(torch.randn(2, 3, 32, 32), 7)


def test_prompts_are_what_open_clip_makes_of_the_same_texts() -> None:
    """But for the 64 vectors, whose ids are placeholders. [EOS] follows the class's name."""
    ids = torch.tensor(prompt_ids([name.lower() for name in EXPRESSIONS], CONTEXTS))
    theirs = open_clip.tokenize(texts())
    learned = slice(1, 1 + CONTEXTS)
    assert set(ids[:, learned].flatten().tolist()) == {0}
    theirs[:, learned] = 0
    assert ids.equal(theirs)
    tokenizer = open_clip.SimpleTokenizer()
    lengths = torch.tensor([len(tokenizer.encode(name.lower())) for name in EXPRESSIONS])
    assert (ids == EOS).nonzero()[:, 1].equal(1 + CONTEXTS + lengths)


def test_names_are_the_usual_ones_unless_they_are_given() -> None:
    assert named(7, None) == list(EXPRESSIONS)
    assert named(11, None) == list(COMPOUND_EXPRESSIONS)
    assert named(2, ["Happy", "Sad"]) == ["Happy", "Sad"]
    with pytest.raises(ValueError, match="the names of 5 classes are not known; give them as `class_names`"):
        named(5, None)
    with pytest.raises(ValueError, match="2 names for 7 classes"):
        named(7, ["Happy", "Sad"])


def test_contexts_get_gradients_and_the_text_tower_none() -> None:
    _, text = towers(SMALL)
    learned = torch.randn(CONTEXTS, 64, requires_grad=True)
    text(learned.expand(len(EXPRESSIONS), -1, -1)).square().sum().backward()
    assert learned.grad is not None
    assert (learned.grad.abs().sum(dim=1) > 0).all()
    assert all(one.grad is None for one in text.parameters())


def vit_l_14(library: str) -> tuple[nn.Module, dict[str, Any]]:
    """On the meta device: CLIP ViT-L/14 as the library builds it."""
    if library == "transformers":
        model: nn.Module = of_hugging_face(VIT_L_14)
    else:
        config = dict(open_clip.get_model_config("ViT-L-14-quickgelu"))
        vision = open_clip.CLIPVisionCfg(**config.pop("vision_cfg"))
        model = open_clip.CLIP(text_cfg=open_clip.CLIPTextCfg(**config.pop("text_cfg")), vision_cfg=vision, **config)
    return model, model.state_dict()


@pytest.mark.parametrize("library", ["open_clip", "transformers"])
def test_every_weight_of_vit_l_14_has_its_place(library: str) -> None:
    """Name by name and shape by shape; theirs that ours lacks are CLIP's temperature and words of the vocabulary."""
    with torch.device("meta"):
        model, state = vit_l_14(library)
        image, text = towers(VIT_L_14)
        adapted = clip_weights(state, image, text)
    ours = nn.ModuleDict({"image": image, "text": text}).state_dict()
    assert set(ours) - set(adapted) == {"text.tokens", "text.vocabulary"}
    assert {name: tensor.shape for name, tensor in adapted.items()} == {name: ours[name].shape for name in adapted}
    left_out = (EOS + 1 - len(text.vocabulary)) * VIT_L_14.text_width + 1
    assert sum(one.numel() for one in adapted.values()) + left_out == sum(one.numel() for one in model.parameters())


class Seen(nn.Module):
    """The image tower of clips of one frame."""

    def __init__(self, image: ImageTower) -> None:
        super().__init__()
        self.image = image

    def forward(self, batch: ClipBatch) -> Tensor:
        return self.image(batch.frames[:, 0])


def test_sizes_of_vit_l_14_are_the_published_ones() -> None:
    """open_clip's docs/model_profile.csv: image 303.97 M, text 123.65 M, 427.62 M together; 162.03 GFLOPs, 81 G
    multiply-adds, for an image.
    """
    with torch.device("meta"):
        image, text = towers(VIT_L_14)
    parameters = [sum(one.numel() for one in tower.parameters()) / 1e6 for tower in (image, text)]
    vocabulary = (EOS + 1 - len(text.vocabulary)) * VIT_L_14.text_width / 1e6
    assert parameters[0] == pytest.approx(303.97, abs=0.005)
    assert parameters[1] + vocabulary == pytest.approx(123.65, abs=0.005)
    assert sum(parameters) + vocabulary == pytest.approx(427.62, abs=0.005)
    assert 2 * size_of(Seen(image), Input(1, 224)).macs / 1e9 == pytest.approx(162.03, rel=0.002)
