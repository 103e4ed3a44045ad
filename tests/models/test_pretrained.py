"""Weights from files into models: every format, and what is said of files that are something else."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from ray_fer.models import create
from ray_fer.models.describe import placeholders
from ray_fer.models.pretrained import load_pretrained, read_weights

VIVIT = {
    "frames": 4, "size": 32, "patch": 16, "dim": 48, "spatial_depth": 2, "temporal_depth": 1, "heads": 3, "mlp_dim": 96,
}  # fmt: skip


def cafer(**config: object) -> torch.nn.Module:
    return create("cafer", **{"vivit": VIVIT, **placeholders("cafer"), **config})


@pytest.fixture(scope="module")
def vit() -> dict[str, Tensor]:
    """An image transformer of the same size."""
    torch.manual_seed(0)
    made = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=10
    )
    return {name: tensor.clone() for name, tensor in made.state_dict().items()}


def write(folder: Path, form: str, state: dict[str, Tensor]) -> Path:
    if form == "folder":
        save_file(state, str(folder / "model.safetensors"))
        return folder
    path = folder / f"weights.{form.split(',')[0]}"
    if path.suffix == ".safetensors":
        save_file(state, str(path))
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif form == "pth,nested":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "npz", "pth", "pth,nested", "folder"])
def test_every_format_gives_the_same_weights(form: str, vit: dict[str, Tensor], tmp_path: Path) -> None:
    model = cafer()
    loaded = load_pretrained(model, write(tmp_path, form, vit))
    block = model.backbone.spatial.blocks[1]
    torch.testing.assert_close(block.qkv.weight, vit["blocks.1.attn.qkv.weight"])
    torch.testing.assert_close(model.backbone.tubelet.weight[:, :, 1], vit["patch_embed.proj.weight"])
    assert "backbone.spatial.blocks.1.qkv.weight" in loaded.loaded
    assert {name.split(".")[0] for name in loaded.left} == {"backbone", "fuse", "recalibration", "classifier"}
    assert all("temporal" in name for name in loaded.left if name.startswith("backbone"))


def test_other_backbones_take_their_own_weights(vit: dict[str, Tensor], tmp_path: Path) -> None:
    from torchvision.models.video import r3d_18

    path = write(tmp_path, "pth", r3d_18(weights=None).state_dict())
    model = cafer(backbone="r3d_18")
    load_pretrained(model, path)
    torch.testing.assert_close(model.backbone.stem[0].weight, torch.load(path, weights_only=True)["stem.0.weight"])
    with pytest.raises(ValueError, match=r"weights.pth"):
        load_pretrained(cafer(), path)
    with pytest.raises(ValueError, match=r"weights.safetensors"):
        load_pretrained(cafer(backbone="r3d_18"), write(tmp_path, "safetensors", vit))


def test_a_model_of_another_size_is_told(vit: dict[str, Tensor], tmp_path: Path) -> None:
    path = write(tmp_path, "pth", vit)
    with pytest.raises(ValueError, match=r"weights.pth: .*"):
        load_pretrained(cafer(vivit={**VIVIT, "spatial_depth": 3}), path)
    with pytest.raises(ValueError, match=r"weights.pth: .* shape .* the model"):
        load_pretrained(cafer(vivit={**VIVIT, "dim": 96}), path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file; weights are read from local files only"):
        read_weights(tmp_path / "vit.pth")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors"):
        read_weights(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.safetensors").write_text("weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    np.savez(tmp_path / "pickled.npz", one=np.array([Evil()], object), allow_pickle=True)
    for name in ("evil.pth", "empty.pth", "text.safetensors", "list.pth", "none.pth", "pickled.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no weights that can be read safely"):
            read_weights(tmp_path / name)


def test_a_model_without_public_weights_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "pth", {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights.pth"):
        load_pretrained(cafer(), path)
