"""NR-DFERNet, as it is reconstructed: what the branches see, the class token, and what the filter may overrule."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ray_fer.labels import EXPRESSIONS
from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.nr_dfernet import NrDfernet, filtered

CARD = NrDfernet.card
NEUTRAL = EXPRESSIONS.index("Neutral")


def tiny(**config: int | float | None) -> NrDfernet:
    torch.manual_seed(0)
    return NrDfernet(**{**CARD.tiny, **config}).eval()


def answer(*probabilities: float) -> list[float]:
    """Logits of three classes of which the first is neutral."""
    return torch.tensor(probabilities).log().tolist()


def test_multiply_adds_of_the_published_model() -> None:
    published = CARD.published[0]
    with torch.device("meta"):
        size = size_of(NrDfernet(**published.config), published.input)
    assert size.macs / 1e9 == pytest.approx(published.gmacs, rel=0.02)


def test_tokens_at_the_papers_size() -> None:
    with torch.device("meta"):
        model = NrDfernet()
    assert model.position.shape == (1, 16, 4096)  # a class token and 15 differences
    assert model.fusion.position.shape == (1, 16, 256)  # 4 x 4 places
    assert model.bounds == [0, 5, 10, 15]


def test_static_branch_sees_a_frame_and_dynamic_branch_its_difference_to_the_next() -> None:
    model = tiny()
    maps = torch.randn(1, 4, 32, 2, 2)
    changed = maps.clone()
    changed[:, 1] += torch.randn(32, 2, 2)
    before, after = model.fusion(maps), model.fusion(changed)
    differs = [[not torch.allclose(x[:, t], y[:, t]) for t in range(3)] for x, y in zip(before, after, strict=True)]
    assert differs[0] == [False, True, False]
    assert differs[1] == [True, True, False]


def test_a_clip_that_stands_still_moves_nothing() -> None:
    """The dynamic branch has no bias before its normalisation: all its steps are the same, whatever the frame shows."""
    model = tiny()
    first, second = (model.fusion(torch.randn(1, 1, 32, 2, 2).expand(1, 4, 32, 2, 2)) for _ in range(2))
    torch.testing.assert_close(first[1], second[1])
    assert not torch.allclose(first[0], second[0])


def test_class_token_is_the_mean_of_what_moves() -> None:
    model = tiny(neutral=None)
    seen: dict[str, Tensor] = {}
    model.temporal.register_forward_pre_hook(lambda module, args: seen.update(tokens=args[0].detach()))
    model.fusion.register_forward_hook(lambda module, args, output: seen.update(static=output[0], dynamic=output[1]))
    model(ClipBatch(torch.randn(2, 4, 3, 32, 32)))
    static, dynamic = seen["static"].flatten(2), seen["dynamic"].flatten(2)
    torch.testing.assert_close(seen["tokens"][:, 0], dynamic.mean(dim=1) + model.position[0, 0])
    torch.testing.assert_close(seen["tokens"][:, 1:], static + dynamic + model.position[:, 1:])


def test_filter_overrules_neutral_by_the_snippets_that_are_sure() -> None:
    clip = torch.tensor([answer(0.6, 0.3, 0.1)])
    snippets = torch.tensor([[answer(0.9, 0.05, 0.05), answer(0.05, 0.05, 0.9), answer(0.3, 0.1, 0.6)]])
    expected = torch.tensor([answer(0.05, 0.05, 0.9)])  # only the second is another class, and sure of it
    torch.testing.assert_close(filtered(clip, snippets, neutral=0, confidence=0.8), expected)
    two = torch.tensor([[(a + b) / 2 for a, b in zip(answer(0.05, 0.05, 0.9), answer(0.3, 0.1, 0.6), strict=True)]])
    torch.testing.assert_close(filtered(clip, snippets, neutral=0, confidence=0.5), two)
    torch.testing.assert_close(filtered(clip, snippets, neutral=0, confidence=0.95), clip)


def test_filter_leaves_clips_of_another_class_alone() -> None:
    clip = torch.tensor([answer(0.3, 0.6, 0.1)])
    snippets = torch.tensor([[answer(0.05, 0.05, 0.9)] * 3])
    torch.testing.assert_close(filtered(clip, snippets, neutral=0, confidence=0.8), clip)


def test_filter_works_on_finished_answers_only() -> None:
    """A neutral-looking model: in training its answer stands, at inference its sure snippets overrule it."""
    model = tiny(confidence=0.0)
    snippets: list[Tensor] = []
    model.head.register_forward_hook(lambda module, args, output: snippets.append(output))
    with torch.no_grad():
        model.head.bias[NEUTRAL] = 0.4
        batch = ClipBatch(torch.randn(8, 4, 3, 32, 32))
        logits = model(batch).logits
        clip, parts = snippets
        assert parts.shape == (8, 3, 7)
        overruled = (clip.argmax(1) == NEUTRAL) & (parts.argmax(2) != NEUTRAL).any(1)
        assert overruled.any()
        assert not overruled.all()
        torch.testing.assert_close(logits[~overruled], clip[~overruled])
        assert (logits[overruled] != clip[overruled]).all()
        snippets.clear()
        model.train()(batch)
    assert len(snippets) == 1


@pytest.mark.parametrize("config", [{"neutral": None}, {"classes": 3}])
def test_no_filter_without_a_neutral_class(config: dict[str, int | None]) -> None:
    model = tiny(**config)
    assert model.neutral is None
    output = model(ClipBatch(torch.randn(2, 4, 3, 32, 32)))
    torch.testing.assert_close(output.logits, model.head(output.features))


def test_imagenet_weights_reach_the_trunk() -> None:
    theirs = torchvision.models.resnet18().eval()
    with torch.device("meta"):
        model = NrDfernet()
    adapted = model.adapted(theirs.state_dict())
    model.cnn.load_state_dict(
        model.cnn.state_dict() | {name.removeprefix("cnn."): value for name, value in adapted.items()}, assign=True
    )
    for module in model.cnn.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.tensor(0)
    theirs.layer4, theirs.fc = nn.Identity(), nn.Identity()
    frames = torch.randn(1, 3, 32, 32)
    expected = theirs(frames)
    torch.testing.assert_close(model.cnn.eval()(frames).mean(dim=(2, 3)), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="larger ResNet"):
        model.adapted({"layer1.0.conv3.weight": torch.zeros(1)})


def test_clips_it_has_no_positions_for() -> None:
    with pytest.raises(ValueError, match="NR-DFERNet was built for 4 frames of 32x32 px"):
        tiny()(ClipBatch(torch.randn(1, 8, 3, 32, 32)))
    with pytest.raises(ValueError, match="3 differences, which are not cut into 4 snippets"):
        tiny(snippets=4)
