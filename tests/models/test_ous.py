"""OUS against its equations: what is frozen and what of it is kept, both streams, the losses and their balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ray_fer.evaluation.published_tables import tables
from ray_fer.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS
from ray_fer.models import card, create
from ray_fer.models.batch import ClipBatch
from ray_fer.models.clip_prompts import prompt_ids
from ray_fer.models.ous import Ous, dissimilarity
from ray_fer.models.polarity import POLARITIES, POLARITY, polarities_of
from ray_fer.models.pretrained import load_pretrained

FRAMES, SIZE, DIM = 4, 32, 64


def tiny(**config: Any) -> Ous:
    torch.manual_seed(0)
    model = create("ous", "tiny", **config)
    assert isinstance(model, Ous)
    return model


def clips(count: int = 3, scene: bool = True) -> ClipBatch:
    torch.manual_seed(1)
    frames, scenes = torch.randn(2, count, FRAMES, 3, SIZE, SIZE)
    return ClipBatch(frames, label=torch.arange(count) % 7, scene=scenes if scene else None)


def objective(model: Ous, batch: ClipBatch) -> Tensor:
    """As the training loop has it."""
    assert batch.label is not None
    output = model(batch)
    return model.balance({"classification": functional.cross_entropy(output.logits, batch.label), **output.losses})


# What is frozen


def test_what_is_frozen_comes_from_the_image_tower() -> None:
    """Vectors of every frame; early blocks of the scene's patches, averaged over patches and frames."""
    model, batch = tiny().eval(), clips()
    known = model.frozen(batch)
    assert {name: tuple(one.shape) for name, one in known.items()} == {
        "face": (3, FRAMES, DIM), "scene": (3, FRAMES, DIM), "early": (3, 4, 64)
    }  # fmt: skip
    assert all(one.dtype == torch.float32 and one.is_contiguous() and not one.requires_grad for one in known.values())
    with torch.no_grad():
        for clip in range(3):
            torch.testing.assert_close(known["face"][clip], model.image(batch.frames[clip]))
            torch.testing.assert_close(known["scene"][clip], model.image(batch.scene[clip]))
            means = [model.image.with_early(frame[None], 4)[1][0] for frame in batch.scene[clip]]
            torch.testing.assert_close(known["early"][clip], sum(means) / FRAMES)


@pytest.mark.parametrize("streams", ["both", "face"])
def test_what_is_kept_answers_as_the_pixels_do(streams: str) -> None:
    model, batch = tiny(streams=streams).train(), clips(scene=streams == "both")
    kept = ClipBatch(batch.frames.new_empty(3, 0), label=batch.label, cached=model.frozen(batch))
    seen, read = model(batch), model(kept)
    assert read.logits.equal(seen.logits)
    assert read.features.equal(seen.features)
    assert read.losses.keys() == seen.losses.keys()
    assert all(one.equal(seen.losses[name]) for name, one in read.losses.items())


def test_frozen_towers_stay_as_they_are() -> None:
    """Neither a gradient, nor training mode, nor a step of the optimiser reaches them; all else is trained."""
    model, batch = tiny().train(), clips()
    towers = {name: one.clone() for name, one in model.state_dict().items() if name.startswith(("image.", "text."))}
    assert model.training
    assert not any(one.training for tower in (model.image, model.text) for one in tower.modules())
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    objective(model, batch).backward()
    optimizer.step()
    assert {name for name, one in model.named_parameters() if one.grad is None} == {
        name for name, _ in model.named_parameters() if name.startswith(("image.", "text."))
    }
    assert all(one.equal(model.state_dict()[name]) for name, one in towers.items())


def test_contexts_are_learned_once_for_all_classes() -> None:
    model = tiny().train()
    objective(model, clips()).backward()
    assert model.contexts.shape == (4, 64)
    assert model.contexts.grad is not None
    assert (model.contexts.grad.abs().sum(dim=1) > 0).all()
    ids = model.text.vocabulary[model.text.tokens]
    assert ids.tolist() == prompt_ids(["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"], 4)


def test_the_encoder_can_be_trained() -> None:
    model, batch = tiny(train_encoder=True).train(), clips()
    assert model.frozen(batch) == {}
    assert all(one.training for one in model.image.modules())
    objective(model, batch).backward()
    gradients = [one.grad for one in model.image.parameters()]
    assert all(one is not None and one.abs().sum() > 0 for one in gradients)
    model.eval()
    torch.testing.assert_close(model(batch).logits, tiny().eval()(batch).logits)


# What is made of it


def test_an_answer_step_by_step() -> None:
    """From what is frozen to the logits, with torch's functions and a loop over the frames in place of the model's."""
    model = tiny().eval()
    known = model.frozen(clips())
    w = dict(model.named_parameters())

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def lstm(vectors: Tensor) -> Tensor:  # 13, with the gates that LSTMs have
        h = c = torch.zeros(len(vectors), DIM)
        states = []
        for x in vectors.unbind(dim=1):
            gates = x @ w["lstm.weight_ih_l0"].T + w["lstm.bias_ih_l0"] + h @ w["lstm.weight_hh_l0"].T
            enter, forget, candidate, leave = (gates + w["lstm.bias_hh_l0"]).chunk(4, dim=1)
            c = forget.sigmoid() * c + enter.sigmoid() * candidate.tanh()
            h = leave.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)

    def aligned(tokens: Tensor, name: str, padding: int) -> Tensor:
        kernel, bias = w[f"{name}.convolution.weight"], w[f"{name}.convolution.bias"]
        return linear(functional.conv1d(tokens.mT, kernel, bias, padding=padding).relu().mT, f"{name}.linear")

    with torch.no_grad():
        frames = model.frame_encoder.layers(lstm(known["face"]) + w["frame_encoder.position"])
        face = aligned(frames, "align_face", 1)
        still = lstm(known["scene"]).sum(dim=1, keepdim=True) / FRAMES  # 14
        scene = aligned(still, "align_scene", 0)
        norms = [(w[f"polarity.norms.{block}.weight"], w[f"polarity.norms.{block}.bias"]) for block in range(4)]
        blocks = [functional.layer_norm(known["early"][:, block], (64,), *norm) for block, norm in enumerate(norms)]
        polarity = linear(linear(torch.cat(blocks, dim=1), "polarity.mlp.0").relu(), "polarity.mlp.2")
        fused = model.fusion(torch.cat([polarity[:, None], face, scene], dim=1))
        text = model.text(w["contexts"].repeat(7, 1, 1))
        cosine = torch.stack([functional.cosine_similarity(one[None], text) for one in fused])
        answer = model(clips())
    torch.testing.assert_close(answer.logits, cosine / 0.01, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(answer.features, fused / fused.norm(dim=1, keepdim=True))


def test_the_mean_of_face_and_scene_can_take_the_place_of_the_fusion() -> None:
    model = tiny(fusion="mean").eval()
    with torch.no_grad():
        face, scene = model._types(model.frozen(clips()))
        assert (face.shape, scene.shape) == ((3, FRAMES, DIM), (3, 1, DIM))
        expected = (face.mean(dim=1) + scene[:, 0]) / 2
        torch.testing.assert_close(model(clips()).features, functional.normalize(expected, dim=1))
    assert not [name for name in model.state_dict() if name.startswith("fusion.")]


def test_faces_alone() -> None:
    """No scene is read, nothing of the model is there for it, and the first blocks see faces."""
    model, batch = tiny(streams="face").train(), clips(scene=False)
    assert set(model.frozen(batch)) == {"face", "early"}
    assert not [name for name, _ in model.named_parameters() if "scene" in name or "align" in name]
    assert set(model(batch).losses) == {"polarity"}
    with torch.no_grad():
        early = model.image.with_early(batch.frames[0], 4)[1].mean(dim=0)
    torch.testing.assert_close(model.frozen(batch)["early"][0], early)
    assert Ous.reads({"streams": "face"}) == ("frames",)
    assert Ous.reads({"streams": "both"}) == ("frames", "scene")
    assert Ous.reads({}) == ("frames", "scene")


def test_names_decide_which_prompt_and_polarity_is_whose() -> None:
    turned = list(reversed(EXPRESSIONS))
    usual, other, batch = tiny().eval(), tiny(class_names=turned).eval(), clips()
    with torch.no_grad():
        # Words are drawn in the order of their ids, whatever the order of the classes is.
        torch.testing.assert_close(other(batch).logits.flip(1), usual(batch).logits)
    assert other.polarity_of.flip(0).equal(usual.polarity_of)


# Losses


def test_similarity_loss_is_equation_2() -> None:
    """Sums over the clips above and below the line."""
    torch.manual_seed(0)
    face, scene = torch.randn(2, 5, 8, dtype=torch.double)
    above = sum(face[i] @ scene[i] for i in range(5))
    below = sum((face[i] ** 2).sum() for i in range(5)) ** 0.5 * sum((scene[i] ** 2).sum() for i in range(5)) ** 0.5
    assert float(dissimilarity(face, scene)) == pytest.approx(float(1 - above / below), abs=1e-6)
    assert float(dissimilarity(face, 3 * face)) == pytest.approx(0, abs=1e-6)
    assert float(dissimilarity(face, -face)) == pytest.approx(2, abs=1e-6)


def test_losses_while_training() -> None:
    """Similarity (2) of the clips' vectors; polarity (1): the logarithm of what the true one was given."""
    model, batch = tiny().train(), clips()
    losses = model(batch).losses
    assert set(losses) == {"similarity", "polarity"}
    known = model.frozen(batch)
    face, scene = (tokens.mean(dim=1) for tokens in model._types(known))
    torch.testing.assert_close(losses["similarity"], dissimilarity(face, scene))
    likely = model.polarity_head(model.polarity(known["early"])).softmax(dim=1)
    true = [POLARITIES.index(POLARITY[EXPRESSIONS[label]]) for label in batch.label.tolist()]
    expected = -sum(likely[clip, one].log() for clip, one in enumerate(true)) / 3
    torch.testing.assert_close(losses["polarity"], expected)
    assert model(ClipBatch(batch.frames, scene=batch.scene)).losses == {}
    assert model.eval()(batch).losses == {}


def test_cross_entropy_alone() -> None:
    model = tiny(losses="ce").train()
    assert model(clips()).losses == {}
    assert not hasattr(model, "polarity_of")


@pytest.mark.parametrize(("config", "unused"), [({}, set()), ({"losses": "ce", "fusion": "mean"}, {"polarity"})])
def test_every_parameter_is_used(config: Mapping[str, Any], unused: set[str]) -> None:
    model = tiny(**config).train()
    objective(model, clips()).backward()
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
    assert not unused & {name.split(".")[0] for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("contrastive", "total", "reached"),
    [(0.9, 1.4, [1.0, 1.0, 1.0]), (0.4, 0.4, [1.0, 0.0, 0.0]), (0.5, 0.5, [1.0, 0.0, 0.0])],
    ids=["above alpha", "below", "at alpha"],
)
def test_alpha_decides_what_is_minimised(contrastive: float, total: float, reached: list[float]) -> None:
    """Above alpha = 1 it is the sum of the three, else the contrastive loss alone: value and gradients."""
    parts = [torch.tensor(value, requires_grad=True) for value in (contrastive, 0.25, 0.25)]
    found = tiny().balance(dict(zip(("classification", "similarity", "polarity"), parts, strict=True)))
    found.backward()
    assert float(found.detach()) == pytest.approx(total)
    assert [float(one.grad) for one in parts] == reached


@pytest.mark.parametrize("alpha", [0.0, 1e6])
def test_gradients_on_both_sides_of_alpha(alpha: float) -> None:
    """Those of the sum, or of the contrastive loss; then the head of the polarity gets zeros, as DDP needs."""
    model, batch = tiny(alpha=alpha).train(), clips()
    objective(model, batch).backward()
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}
    model.zero_grad()
    output = model(batch)
    expected = functional.cross_entropy(output.logits, batch.label)
    (expected if alpha else expected + sum(output.losses.values())).backward()
    for name, one in model.named_parameters():
        if one.requires_grad:
            torch.testing.assert_close(found[name], torch.zeros_like(one) if one.grad is None else one.grad)
    assert (found["polarity_head.weight"].abs().sum() > 0) == (alpha == 0)


def test_polarities() -> None:
    assert set(POLARITY) == set(COMPOUND_EXPRESSIONS)
    assert {name for name, one in POLARITY.items() if one != "negative"} == {"Happy", "Neutral", "Surprise"}
    assert polarities_of(["Happy", "Surprise", "Contempt"], None) == ["positive", "neutral", "negative"]
    given = tiny(classes=2, class_names=["Calm", "Happy"], polarities=["neutral", "positive"])
    assert given.polarity_of.tolist() == [1, 2]
    assert tiny(classes=2, class_names=["Calm", "Happy"], losses="ce")(clips()).logits.shape == (3, 2)


# Settings


def test_all_published_settings_can_be_built() -> None:
    """Tables III to VI: blocks, prompts, losses and fusion."""
    rows = [row for table in tables() if table.id.startswith("ous-table-") for row in table.rows]
    ours = [row.settings for row in rows if row.model == "ous"]
    assert len(ours) == 2 + 9 + 4 + 4 + 3
    for settings in ours:
        given = {name.removeprefix("model_config_."): value for name, value in settings.items()}
        model = tiny(**given)
        assert model(clips(1)).logits.isfinite().all()
        assert len(model.contexts) == given.get("prompt_length", 4)
        if model.fusion is not None:
            assert len(model.fusion.blocks) == given.get("blocks", 2)


def test_the_full_size() -> None:
    """What of OUS on ViT-L/14 is trained: mostly 12 blocks of 12 dim^2."""
    with torch.device("meta"):
        model = Ous()
    trained = {name: one.numel() for name, one in model.named_parameters() if one.requires_grad}
    parts: Counter[str] = Counter()
    for name, count in trained.items():
        parts[name.split(".")[0]] += count
    assert parts["contexts"] == 64 * 768
    assert parts["lstm"] == 8 * 768**2 + 8 * 768
    assert parts["fusion"] == 16 * 768 + 12 * (12 * 768**2 + 15 * 768)
    assert set(parts) == {
        "contexts", "lstm", "frame_encoder", "align_face", "align_scene", "polarity", "polarity_head", "fusion",
    }  # fmt: skip
    assert sum(parts.values()) / 1e6 == pytest.approx(104.2, abs=0.1)
    assert (model.card.input.frames, model.frames, model.size) == (16, 16, 224)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"streams": "scene"}, "unknown streams 'scene'; expected one of both, face"),
        ({"losses": "contrastive"}, "unknown losses 'contrastive'; expected one of global, ce"),
        ({"fusion": "max"}, "unknown fusion 'max'; expected one of tfe, mean"),
        ({"image_depth": 3}, "the polarity encoder reads 4 blocks of the image tower; image_depth=3"),
        ({"dim": 96}, "dim must be a multiple of 64, not 96"),
        ({"prompt_length": 75}, "78 tokens with 75 contexts, CLIP reads 77"),
        ({"classes": 5}, "the names of 5 classes are not known; give them as `class_names`"),
        ({"class_names": ["Happy"]}, "1 names for 7 classes"),
        ({"classes": 2, "class_names": ["Calm", "Happy"]}, "the polarity of Calm is not known; give one for each"),
        ({"polarities": ["good"] * 7}, "one of negative, neutral, positive for each of 7 classes, not good, good"),
        ({"polarities": ["neutral"]}, "for each of 7 classes, not neutral"),
    ],
)
def test_what_cannot_be_built_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**config)


def test_clips_that_do_not_fit_are_refused() -> None:
    model, batch = tiny(), clips()
    with pytest.raises(ValueError, match="preprocess with --scene whole, or build it with streams='face'"):
        model(clips(scene=False))
    with pytest.raises(ValueError, match="OUS was built for 4 frames of 32x32 px and was given 3 of 32x32"):
        model(ClipBatch(batch.frames[:, :3], scene=batch.scene))
    with pytest.raises(ValueError, match=r"OUS \(scenes\) was built for 4 frames of 32x32 px and was given 2 of 32x32"):
        model(ClipBatch(batch.frames, scene=batch.scene[:, :2]))


def test_autocast_keeps_losses_and_what_is_kept_in_float32() -> None:
    model, batch = tiny().train(), clips()
    with torch.autocast("cpu", torch.bfloat16):
        output, known = model(batch), model.frozen(batch)
    assert {one.dtype for one in (output.logits, output.features, *output.losses.values(), *known.values())} == {
        torch.float32
    }
    for name, exact in model.frozen(batch).items():
        assert (known[name] - exact).norm() < 0.02 * exact.norm()


def test_the_image_tower_of_a_bundle_of_dfer_clip_can_be_frozen(tmp_path: Path) -> None:
    tower = {name: card("ous").tiny[name] for name in ("frames", "size", "patch", "image_width", "image_depth", "dim")}
    other = create("dfer_clip", **{**card("dfer_clip").tiny, **tower})
    save_file({name: one.contiguous() for name, one in other.state_dict().items()}, tmp_path / "model.safetensors")
    model = create("ous", "tiny")
    loaded = load_pretrained(model, tmp_path)
    assert {name.split(".")[0] for name in loaded.loaded} == {"image"}
    torch.testing.assert_close(model.image.state_dict(), other.image.state_dict())
    assert not any(one.requires_grad for one in model.image.parameters())
