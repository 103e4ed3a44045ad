"""DFER-CLIP's towers against transformers' CLIP, its prompts against the tokenizer, and what of it is trained."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from ray_fer.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS, MICRO_EXPRESSIONS
from ray_fer.models.backbones.sequence import TemporalTransformer
from ray_fer.models.batch import ClipBatch
from ray_fer.models.clip_prompts import DESCRIPTIONS, LENGTH, described, prompt_ids
from ray_fer.models.describe import size_of
from ray_fer.models.dfer_clip import DferClip
from ray_fer.models.pretrained import load_pretrained

SMALL = {
    "frames": 4, "size": 32, "patch": 8, "image_width": 128, "image_depth": 2, "text_width": 64, "text_depth": 3,
    "dim": 64,
}  # fmt: skip
END = 49407


def small(**config: object) -> DferClip:
    torch.manual_seed(0)
    return DferClip(**{**SMALL, **config}).eval()


def randomise(module: nn.Module) -> None:
    """Biases and LayerNorms that are not 0 and 1, so that a swap of two of them shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.fixture(scope="module")
def hugging_face() -> CLIPModel:
    torch.manual_seed(1)
    model = CLIPModel(
        CLIPConfig(
            vision_config={
                "image_size": 32, "patch_size": 8, "hidden_size": 128, "num_hidden_layers": 2,
                "num_attention_heads": 2, "intermediate_size": 512,
            },
            text_config={
                "vocab_size": 49408, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1,
                "intermediate_size": 256, "bos_token_id": 49406, "eos_token_id": END, "pad_token_id": 0,
            },
            projection_dim=64,
        )
    )  # fmt: skip
    randomise(model)
    return model.eval()


def as_words(model: DferClip, table: torch.Tensor, word: str) -> list[str]:
    """Make the model's prompts plain texts that start with `word`, eight times; returns these texts."""
    (index,) = open_clip.SimpleTokenizer().encode(word)
    with torch.no_grad():
        model.contexts.copy_(table[index].expand_as(model.contexts))
    return [" ".join([word] * 8 + [DESCRIPTIONS[name]]) for name in EXPRESSIONS]


def test_towers_agree_with_transformers(hugging_face: CLIPModel, tmp_path: Path) -> None:
    """Hugging Face's checkpoint: every weight of both towers is read, and both features are the same numbers."""
    save_file(hugging_face.state_dict(), tmp_path / "model.safetensors")
    model = small()
    loaded = load_pretrained(model, tmp_path)
    assert {name.split(".")[0] for name in loaded.left} == {"contexts", "temporal", "text"}
    assert [name for name in loaded.left if name.startswith("text.")] == ["text.tokens", "text.vocabulary"]
    texts = as_words(model, hugging_face.text_model.embeddings.token_embedding.weight, "photo")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        seen = hugging_face.visual_projection(hugging_face.vision_model(pixel_values=images).pooler_output)
        read = hugging_face.text_projection(hugging_face.text_model(input_ids=open_clip.tokenize(texts)).pooler_output)
        torch.testing.assert_close(model.image(images), seen, atol=1e-4, rtol=0)
        torch.testing.assert_close(model.text(model.contexts), read, atol=1e-4, rtol=0)


def test_towers_agree_with_open_clip(tmp_path: Path) -> None:
    """The same from OpenAI's names, which open_clip uses."""
    torch.manual_seed(2)
    theirs = open_clip.CLIP(
        embed_dim=64,
        vision_cfg=open_clip.CLIPVisionCfg(layers=2, width=128, head_width=64, patch_size=8, image_size=32),
        text_cfg=open_clip.CLIPTextCfg(width=64, heads=1, layers=3),
        quick_gelu=True,
    ).eval()
    randomise(theirs)
    save_file({name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}, tmp_path / "vit.safetensors")
    model = small()
    load_pretrained(model, tmp_path / "vit.safetensors")
    texts = as_words(model, theirs.token_embedding.weight, "face")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.image(images), theirs.encode_image(images), atol=1e-4, rtol=0)
        read = theirs.encode_text(open_clip.tokenize(texts))
        torch.testing.assert_close(model.text(model.contexts), read, atol=1e-4, rtol=0)


def test_further_channels_start_at_zero(hugging_face: CLIPModel) -> None:
    model = small(channels=6)
    model.load_state_dict({**model.state_dict(), **model.adapted(hugging_face.state_dict())})
    images = torch.randn(1, 6, 32, 32)
    others = torch.cat([images[:, :3], torch.randn(1, 3, 32, 32)], dim=1)
    torch.testing.assert_close(model.image(images), model.image(others))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match="does not hold weights for DFER-CLIP"):
        load_pretrained(small(), tmp_path / "resnet.safetensors")


def test_temporal_transformer_agrees_with_torchs_own() -> None:
    """Pre-LN, tanh GELU, no biases on queries, keys and values; the CLS token comes first."""
    torch.manual_seed(0)
    ours = TemporalTransformer(frames=5, dim=64, depth=1, heads=4, mlp_dim=96)
    (layer,) = ours.layers
    theirs = nn.TransformerEncoderLayer(
        64, 4, 96, dropout=0.0, activation=lambda x: functional.gelu(x, approximate="tanh"), batch_first=True,
        norm_first=True,
    )  # fmt: skip
    theirs.load_state_dict({
        "self_attn.in_proj_weight": layer.qkv.weight, "self_attn.in_proj_bias": torch.zeros(192),
        "self_attn.out_proj.weight": layer.proj.weight, "self_attn.out_proj.bias": layer.proj.bias,
        "linear1.weight": layer.mlp[0].weight, "linear1.bias": layer.mlp[0].bias,
        "linear2.weight": layer.mlp[3].weight, "linear2.bias": layer.mlp[3].bias,
        "norm1.weight": layer.norm1.weight, "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight, "norm2.bias": layer.norm2.bias,
    })  # fmt: skip
    vectors = torch.randn(2, 5, 64)
    tokens = torch.cat([ours.cls.expand(2, -1, -1), vectors], dim=1) + ours.position
    torch.testing.assert_close(ours(vectors), theirs(tokens)[:, 0], atol=1e-5, rtol=1e-5)


def test_prompts_are_start_contexts_description_end() -> None:
    tokenizer = open_clip.SimpleTokenizer()
    text = "raised cheeks and lip corners"
    (ids,) = prompt_ids([text], contexts=8)
    words = tokenizer.encode(text)
    assert ids[0] == tokenizer.sot_token_id
    assert ids[9 : 9 + len(words)] == words
    assert ids[9 + len(words)] == END
    assert set(ids[10 + len(words) :]) == {0}
    assert len(ids) == LENGTH


def test_a_bundle_keeps_the_ids_of_its_texts() -> None:
    model = small()
    ids = model.text.vocabulary[model.text.tokens]
    assert ids.tolist() == prompt_ids([DESCRIPTIONS[name] for name in EXPRESSIONS], contexts=8)
    assert {"text.tokens", "text.vocabulary"} <= set(model.state_dict())


def test_contexts_belong_to_one_class_each() -> None:
    """Changing the vectors of class 2 changes the text of class 2 alone."""
    model = small()
    with torch.no_grad():
        before = model.text(model.contexts)
        model.contexts[2] += 1
        after = model.text(model.contexts)
    changed = (before - after).abs().amax(dim=1) > 1e-6
    assert changed.tolist() == [index == 2 for index in range(7)]


def test_descriptions_follow_the_order_of_the_classes() -> None:
    turned = list(reversed(EXPRESSIONS))
    assert described(7, None, None) == [DESCRIPTIONS[name] for name in EXPRESSIONS]
    assert described(7, turned, None) == [DESCRIPTIONS[name] for name in turned]
    assert described(11, None, None) == [DESCRIPTIONS[name] for name in COMPOUND_EXPRESSIONS]
    assert described(2, ["Happy", "Sad"], ["a smile", "a frown"]) == ["a smile", "a frown"]
    assert set(DESCRIPTIONS) == set(COMPOUND_EXPRESSIONS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"classes": 5}, "no descriptions of 5 classes without names; give one text for each class as `descriptions`"),
        ({"classes": 3, "class_names": list(MICRO_EXPRESSIONS)}, "no descriptions of Negative, Positive"),
        ({"classes": 3, "descriptions": ["a", "b"]}, "2 descriptions or names for 3 classes"),
        ({"classes": 1, "descriptions": ["brow " * 80]}, "90 tokens with 8 contexts, CLIP reads 77"),
        ({"size": 30}, "30 px do not divide into patches of 8"),
        ({"image_width": 100}, "multiple of 64"),
    ],
)
def test_what_cannot_be_built_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**config)


def test_clips_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="built for 4 frames of 32x32 px and was given 5 of 32x32"):
        small()(ClipBatch(torch.randn(1, 5, 3, 32, 32)))


def test_the_text_tower_is_frozen_and_lets_gradients_through() -> None:
    model = small().train()
    assert model.training
    assert not any(module.training for module in model.text.modules())
    answer = model(ClipBatch(torch.randn(2, 4, 3, 32, 32)))
    functional.cross_entropy(answer.logits, torch.tensor([1, 4])).backward()
    assert all(parameter.grad is None for parameter in model.text.parameters())
    trained = {name: one for name, one in model.named_parameters() if not name.startswith("text.")}
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in trained.values())
    assert model.contexts.grad is not None
    assert (model.contexts.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_logits_are_cosines_over_the_temperature() -> None:
    model = small()
    with torch.no_grad():
        answer = model(ClipBatch(torch.randn(3, 4, 3, 32, 32)))
        text = model.text(model.contexts)
    cosines = torch.stack([functional.cosine_similarity(one[None], text) for one in answer.features])
    torch.testing.assert_close(answer.logits, cosines * 100, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(answer.features.norm(dim=1), torch.ones(3))


def test_size_of_the_published_model() -> None:
    """92 G for 16 frames and 7 texts (the survey's figure); open_clip prints 87.85 M for ViT-B/32's image tower."""
    with torch.device("meta"):
        model = DferClip()
        clip = CLIPModel(CLIPConfig())
    size = size_of(model, DferClip.card.input)
    assert size.macs / 1e9 == pytest.approx(92, rel=0.01)
    image, text = (sum(one.numel() for one in tower.parameters()) for tower in (model.image, model.text))
    assert image / 1e6 == pytest.approx(87.85, abs=0.01)
    vocabulary = (49408 - len(model.text.vocabulary)) * 512
    assert image + text + vocabulary + 1 == sum(one.numel() for one in clip.parameters())  # 1: CLIP's temperature
    temporal = 17 * 512 + 512 + (4 * 512 * 512 + 512) + (2 * 512 * 1024 + 1024 + 512) + 4 * 512
    assert size.trained == image + temporal + 7 * 8 * 512
