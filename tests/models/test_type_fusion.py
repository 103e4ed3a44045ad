"""The Type Fusion Encoder against loops written from equations 5 to 10 and 15, and what its blocks share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_fer.models.type_fusion import CrossTypeBlock, TypeFusionEncoder

DIM, BLOCKS, QUERIES, HEADS = 12, 3, 4, 2
CLIPS, TOKENS = 2, 7


def encoder(**config: bool) -> TypeFusionEncoder:
    """In float64, with biases and LayerNorms that are not 0 and 1."""
    torch.manual_seed(0)
    made = TypeFusionEncoder(DIM, BLOCKS, QUERIES, HEADS, **config).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt() * scale + shift


def attention(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Equation 15 for one query of one head."""
    scores = torch.stack([query @ key for key in keys]) / len(query) ** 0.5
    weights = scores.exp() / scores.exp().sum()
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros_like(query))


def slow_block(block: CrossTypeBlock, queries: Tensor, tokens: Tensor, shortcut: Tensor | None) -> Tensor:
    """One clip's tokens [N,D] -> [Q,D], one query and one head at a time."""
    name = dict(block.named_parameters())

    def linear(layer: str, x: Tensor) -> Tensor:
        return name[f"{layer}.weight"] @ x + name[f"{layer}.bias"]

    def norm(layer: str, x: Tensor) -> Tensor:
        return layer_norm(x, name[f"{layer}.weight"], name[f"{layer}.bias"])

    normed = [norm("norm_tokens", token) for token in tokens]  # 5
    keys_values = [linear("key_value", token) for token in normed]
    outputs = []
    for index, learned in enumerate(queries):
        query, heads = linear("query", learned), []
        for head in range(HEADS):
            part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            keys = [one[:DIM][part] for one in keys_values]
            values = [one[DIM:][part] for one in keys_values]
            heads.append(attention(query[part], keys, values))
        attended = norm("norm_attended", linear("proj", torch.cat(heads)))  # 7
        if shortcut is not None:
            attended = attended + shortcut[index]
        after = linear("mlp.2", linear("mlp.0", attended).clamp(min=0))  # 8 and 9
        final = norm("norm_after", after)  # 10
        outputs.append(final if shortcut is None else final + attended)
    return torch.stack(outputs)


@pytest.mark.parametrize("residual", [False, True])
def test_it_is_what_the_equations_say(residual: bool) -> None:
    fusion = encoder(residual=residual)
    clips = torch.randn(CLIPS, TOKENS, DIM, dtype=torch.double)
    with torch.no_grad():
        expected = []
        for tokens in clips:
            shortcut = fusion.queries if residual else None
            for block in fusion.blocks:
                tokens = slow_block(block, fusion.queries, tokens, shortcut)
                shortcut = tokens if residual else None
            expected.append(tokens.mean(dim=0))
        torch.testing.assert_close(fusion(clips), torch.stack(expected), atol=1e-10, rtol=1e-10)


def test_all_blocks_ask_with_the_same_queries() -> None:
    fusion, asked = encoder(), []
    for block in fusion.blocks:
        block.register_forward_pre_hook(lambda _block, given: asked.append(given[0]))
    fusion(torch.randn(CLIPS, TOKENS, DIM, dtype=torch.double))
    assert len(asked) == BLOCKS
    assert all(one is fusion.queries for one in asked)
    assert [name for name, one in fusion.named_parameters() if one.shape == (QUERIES, DIM)] == ["queries"]


def test_queries_start_as_standard_normal_numbers() -> None:
    torch.manual_seed(0)
    queries = TypeFusionEncoder(64, 1, 500, 1).queries
    assert queries.mean().item() == pytest.approx(0, abs=0.02)
    assert queries.std().item() == pytest.approx(1, abs=0.02)
    assert queries.pow(4).mean().item() == pytest.approx(3, abs=0.1)  # of a normal distribution; 1.8 of a uniform one


def test_tokens_have_no_order_but_every_clip_is_by_itself() -> None:
    fusion = encoder()
    clips = torch.randn(CLIPS, TOKENS, DIM, dtype=torch.double)
    torch.testing.assert_close(fusion(clips[:, torch.randperm(TOKENS)]), fusion(clips))
    torch.testing.assert_close(fusion(clips[1:]), fusion(clips)[1:])


def test_a_gradient_reaches_the_queries_and_all_blocks() -> None:
    fusion = encoder()
    fusion(torch.randn(CLIPS, TOKENS, DIM, dtype=torch.double)).pow(2)[:, 0].sum().backward()
    assert all(one.grad is not None for one in fusion.parameters())
    assert [name for name, one in fusion.named_parameters() if not one.grad.abs().sum() > 0] == []


def test_size() -> None:
    """Each block: four projections and an MLP of 4 x dim with their biases, three LayerNorms."""
    block = 12 * DIM**2 + (4 + 5) * DIM + 3 * 2 * DIM
    assert sum(one.numel() for one in encoder().parameters()) == QUERIES * DIM + BLOCKS * block


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 0, 4, 2), "0 blocks of 4 queries and 2 heads: there must be one of each"),
        ((12, 1, 0, 2), "1 blocks of 0 queries"),
        ((12, 1, 4, 5), "a width of 12 does not divide into 5 heads"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TypeFusionEncoder(*arguments)
