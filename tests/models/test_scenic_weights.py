"""Scenic's factorised encoder in ours, against a forward pass in NumPy over Scenic's own arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import erf, softmax
from torch import Tensor

from ray_fer.models.backbones.scenic_weights import resized_time, vivit_from_scenic
from ray_fer.models.backbones.vivit import ViViT

SMALL = {
    "frames": 6, "size": 12, "patch": 4, "dim": 24, "spatial_depth": 3, "temporal_depth": 2, "heads": 4, "mlp_dim": 40,
}  # fmt: skip
Arrays = dict[str, np.ndarray]


def layout(
    frames: int, size: int, patch: int, dim: int, spatial_depth: int, temporal_depth: int, heads: int, mlp_dim: int,
    classes: int = 5,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Names and shapes of the parameters that Scenic's SpaceTimeViViT makes for tubelets of 2 frames."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/kernel": (2, patch, patch, 3, dim), "embedding/bias": (dim,),
        "output_projection/kernel": (dim, classes), "output_projection/bias": (classes,),
    }  # fmt: skip
    encoders = {"Spatial": (spatial_depth, (size // patch) ** 2), "Temporal": (temporal_depth, frames // 2)}
    for kind, (depth, tokens) in encoders.items():
        encoder = f"{kind}Transformer"
        shapes[f"cls_{encoder}"] = (1, 1, dim)
        shapes[f"{encoder}/posembed_input/pos_embedding"] = (1, tokens + 1, dim)
        shapes |= {f"{encoder}/encoder_norm/{name}": (dim,) for name in ("scale", "bias")}
        for i in range(depth):
            block = f"{encoder}/encoderblock_{i}"
            for norm in ("LayerNorm_0", "LayerNorm_1"):
                shapes |= {f"{block}/{norm}/{name}": (dim,) for name in ("scale", "bias")}
            attention = f"{block}/MultiHeadDotProductAttention_0"
            for name in ("query", "key", "value"):
                shapes[f"{attention}/{name}/kernel"] = (dim, heads, dim // heads)
                shapes[f"{attention}/{name}/bias"] = (heads, dim // heads)
            shapes[f"{attention}/out/kernel"] = (heads, dim // heads, dim)
            shapes[f"{attention}/out/bias"] = (dim,)
            shapes[f"{block}/MlpBlock_0/Dense_0/kernel"] = (dim, mlp_dim)
            shapes[f"{block}/MlpBlock_0/Dense_0/bias"] = (mlp_dim,)
            shapes[f"{block}/MlpBlock_0/Dense_1/kernel"] = (mlp_dim, dim)
            shapes[f"{block}/MlpBlock_0/Dense_1/bias"] = (dim,)
    return shapes


def random_tree(**config: int) -> Arrays:
    rng = np.random.default_rng(0)
    shapes = layout(**{**SMALL, **config})
    return {name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}


def tensors(tree: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in tree.items()}


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def scenic_forward(tree: Arrays, clip: np.ndarray, activation: Any = gelu) -> tuple[np.ndarray, np.ndarray]:
    """Scenic's maths for one clip [T,H,W,C]: CLS of the temporal transformer, and what it read for each index."""
    tree = {name: array.astype(np.float64) for name, array in tree.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * tree[f"{name}/scale"] + tree[f"{name}/bias"]

    def attend(x: np.ndarray, name: str) -> np.ndarray:
        query, key, value = (
            np.einsum("nd,dhe->nhe", x, tree[f"{name}/{part}/kernel"]) + tree[f"{name}/{part}/bias"]
            for part in ("query", "key", "value")
        )
        weights = softmax(np.einsum("qhe,khe->hqk", query / np.sqrt(query.shape[-1]), key), axis=-1)
        heads = np.einsum("hqk,khe->qhe", weights, value)
        return np.einsum("qhe,hed->qd", heads, tree[f"{name}/out/kernel"]) + tree[f"{name}/out/bias"]

    def encode(x: np.ndarray, name: str) -> np.ndarray:
        x = np.concatenate([tree[f"cls_{name}"][0], x]) + tree[f"{name}/posembed_input/pos_embedding"][0]
        for i in range(len({key.split("/")[1] for key in tree if key.startswith(f"{name}/encoderblock_")})):
            block = f"{name}/encoderblock_{i}"
            x = x + attend(norm(x, f"{block}/LayerNorm_0"), f"{block}/MultiHeadDotProductAttention_0")
            first, second = (f"{block}/MlpBlock_0/{dense}" for dense in ("Dense_0", "Dense_1"))
            hidden = activation(norm(x, f"{block}/LayerNorm_1") @ tree[f"{first}/kernel"] + tree[f"{first}/bias"])
            x = x + hidden @ tree[f"{second}/kernel"] + tree[f"{second}/bias"]
        return norm(x, f"{name}/encoder_norm")[0]

    kernel = tree["embedding/kernel"]
    t, h, w = kernel.shape[:3]
    steps, rows, columns = clip.shape[0] // t, clip.shape[1] // h, clip.shape[2] // w
    vectors = []
    for step in range(steps):
        tokens = [
            np.einsum(
                "thwc,thwcd->d",
                clip[step * t : (step + 1) * t, row * h : (row + 1) * h, column * w : (column + 1) * w],
                kernel,
            )
            + tree["embedding/bias"]
            for row in range(rows)
            for column in range(columns)
        ]
        vectors.append(encode(np.stack(tokens), "SpatialTransformer"))
    return encode(np.stack(vectors), "TemporalTransformer"), np.stack(vectors)


def our_forward(tree: Arrays, clip: np.ndarray, **config: int) -> tuple[np.ndarray, np.ndarray]:
    vivit = ViViT(**{**SMALL, **config}).eval()
    vivit.load_state_dict(vivit_from_scenic(tensors(tree), vivit))
    seen: list[Tensor] = []
    vivit.temporal.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        cls, _ = vivit(torch.from_numpy(clip).permute(0, 3, 1, 2)[None])
    return cls[0].numpy(), seen[0][0].numpy()


def random_clip() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 12, 12, 3)).astype(np.float32)


def test_outputs_are_scenics() -> None:
    tree, clip = random_tree(), random_clip()
    cls, vectors = our_forward(tree, clip)
    expected_cls, expected_vectors = scenic_forward(tree, clip)
    np.testing.assert_allclose(vectors, expected_vectors, atol=1e-4, rtol=0)
    np.testing.assert_allclose(cls, expected_cls, atol=1e-4, rtol=0)


@pytest.mark.parametrize("axes", [(0, 2, 1, 3, 4), (2, 1, 0, 3, 4)], ids=["rows and columns", "time and columns"])
def test_the_comparison_sees_exchanged_axes_of_the_tubelet(axes: tuple[int, ...]) -> None:
    tree, clip = random_tree(), random_clip()
    kernel = tree["embedding/kernel"]
    wrong = {**tree, "embedding/kernel": kernel.transpose(axes).reshape(kernel.shape)}
    assert np.abs(our_forward(wrong, clip)[1] - scenic_forward(tree, clip)[1]).max() > 0.1


def test_scenics_approximate_gelu_makes_a_small_difference() -> None:
    """Scenic calls flax.linen.gelu, which is the tanh approximation; our blocks have the exact function."""
    tree, clip = random_tree(), random_clip()
    difference = np.abs(our_forward(tree, clip)[0] - scenic_forward(tree, clip, tanh_gelu)[0]).max()
    assert 1e-5 < difference < 1e-2


def test_names_and_shapes_at_the_published_size() -> None:
    """ViViT-B/16x2 FE of 32 frames, as its configuration has it, read for 16 frames: all of ours is found."""
    sizes = {"size": 224, "patch": 16, "dim": 768, "spatial_depth": 12, "temporal_depth": 4, "heads": 12}
    with torch.device("meta"):
        shapes = layout(**sizes, frames=32, mlp_dim=3072, classes=400)
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        vivit = ViViT(frames=16)
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(115.1, abs=0.1)
    found = vivit_from_scenic(state, vivit)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in vivit.state_dict().items()
    }


@pytest.mark.parametrize("steps", [8, 4, 24])
def test_time_positions_are_interpolated_as_scenic_does(steps: int) -> None:
    position = torch.randn(1, 17, 6)
    resized = resized_time(position, steps)
    assert torch.equal(resized[:, 0], position[:, 0])
    expected = ndimage.zoom(position[0, 1:].double().numpy(), (steps / 16, 1), order=1)
    np.testing.assert_allclose(resized[0, 1:].numpy(), expected, atol=1e-5)


def test_another_number_of_frames_and_size() -> None:
    tree = random_tree()
    vivit = ViViT(**{**SMALL, "frames": 12, "size": 16})
    found = vivit_from_scenic(tensors(tree), vivit)
    assert found["temporal.position"].shape == (1, 7, 24)
    assert found["spatial.position"].shape == (1, 17, 24)
    vivit.load_state_dict(found)


@pytest.mark.parametrize("place", ["optimizer/target/", "params/"])
def test_a_whole_training_state(place: str) -> None:
    tree = tensors(random_tree())
    state = {f"{place}{name}": array for name, array in tree.items()}
    moments = {f"optimizer/state/param_states/{name}/momentum": array for name, array in tree.items()}
    vivit = ViViT(**SMALL)
    found = vivit_from_scenic({**moments, **state, "rng": torch.zeros(2)}, vivit)
    expected = vivit_from_scenic(tree, vivit)
    assert all(torch.equal(found[name], expected[name]) for name in vivit.state_dict())


def test_more_channels_than_the_weights_start_at_zero() -> None:
    found = vivit_from_scenic(tensors(random_tree()), ViViT(**SMALL, channels=6))
    assert found["tubelet.weight"].shape == (24, 6, 2, 4, 4)
    assert found["tubelet.weight"][:, 3:].abs().max() == 0
    assert found["tubelet.weight"][:, :3].abs().min() > 0


def test_other_weights_are_refused() -> None:
    tree = tensors(random_tree())
    with pytest.raises(ValueError, match="stem_dim=0"):
        vivit_from_scenic(tree, ViViT(**SMALL, stem_dim=8))
    with pytest.raises(ValueError, match="build it with temporal_depth=2"):
        vivit_from_scenic(tree, ViViT(**{**SMALL, "temporal_depth": 1}))
    with pytest.raises(ValueError, match="has 4 heads, the model 3"):
        vivit_from_scenic(tree, ViViT(**{**SMALL, "heads": 3}))
    with pytest.raises(ValueError, match="encoder_norm/scale is missing"):
        vivit_from_scenic({k: v for k, v in tree.items() if "encoder_norm" not in k}, ViViT(**SMALL))
    with pytest.raises(ValueError, match="what is Extra/kernel"):
        vivit_from_scenic({**tree, "Extra/kernel": torch.zeros(1)}, ViViT(**SMALL))
    image = {**tree, "embedding/kernel": torch.zeros(4, 4, 3, 24)}
    with pytest.raises(ValueError, match="expected 5 dimensions"):
        vivit_from_scenic(image, ViViT(**SMALL))
