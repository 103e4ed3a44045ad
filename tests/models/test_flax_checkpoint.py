"""Flax's checkpoint files: written here as Flax writes them, and by somebody who means harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch

from ray_fer.models.backbones import flax_checkpoint
from ray_fer.models.backbones.flax_checkpoint import read_flax


def ext(shape: Any, dtype: Any, values: Any, code: int = 1) -> msgpack.ExtType:
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, values), use_bin_type=True))


def array(values: np.ndarray) -> msgpack.ExtType:
    return ext(values.shape, values.dtype.name, values.tobytes("C"))


def written(path: Path, tree: Any) -> Path:
    path.write_bytes(msgpack.packb(tree, strict_types=True))
    return path


def test_arrays_come_with_their_paths_types_and_order(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    half = torch.randn(5).bfloat16()
    tree = {
        "optimizer": {
            "target": {"embedding": {"kernel": array(kernel), "bias": array(np.arange(4, dtype=np.float64))}},
            "state": {"step": array(np.array(7, dtype=np.int32))},
        },
        "half": ext((5,), "bfloat16", half.view(torch.int16).numpy().tobytes()),
        "rng": array(np.array([1, 2**32 - 1], dtype=np.uint32)),
        "nothing": array(np.zeros((0, 3), dtype=np.float32)),
        "time": ext((), "float32", np.float32(2.5).tobytes(), code=3),
        "global_step": 100,
        "model_state": {},
        "accumulated": None,
    }
    arrays = read_flax(written(tmp_path / "checkpoint", tree))
    assert set(arrays) == {
        "optimizer/target/embedding/kernel", "optimizer/target/embedding/bias", "optimizer/state/step", "half", "rng",
        "nothing", "time",
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["optimizer/target/embedding/kernel"].numpy(), kernel)
    assert arrays["optimizer/target/embedding/bias"].dtype == torch.float64
    assert arrays["optimizer/state/step"].shape == ()
    assert torch.equal(arrays["half"], half)
    assert arrays["rng"].tolist() == [1, 2**32 - 1]
    assert arrays["nothing"].shape == (0, 3)
    assert arrays["time"].item() == 2.5


@pytest.mark.parametrize(
    ("leaf", "fault"),
    [
        (msgpack.ExtType(2, msgpack.packb((1.0, 2.0))), "extension type 2"),
        (msgpack.ExtType(42, b"anything"), "extension type 42"),
        (ext((2, 2), "float32", b"\0" * 12), "has 12 bytes"),
        (ext((2**40, 2**40), "float32", b"\0" * 4), "has 4 bytes"),
        (ext((-1,), "float32", b""), "shape"),
        (ext((1,), "object", b"\0" * 8), "dtype object"),
        (ext((1,), "V8", b"\0" * 8), "dtype V8"),
        (ext("shape", "float32", b""), "not"),
        (ext(tuple([1] * 40), "float32", b"\0" * 4), "exceeds"),
        (msgpack.ExtType(1, b"\xc1"), "no Flax checkpoint"),
        (msgpack.ExtType(1, b""), "no Flax checkpoint"),
        ([1] * 100, "exceeds"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path: Path, leaf: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_flax(written(tmp_path / "checkpoint", {"a": leaf}))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoint", {"kernel": array(np.ones((8, 8), dtype=np.float32))})
    whole = path.read_bytes()
    for content in (
        whole[:-3],
        b"",
        whole + b"\0",
        b"\x80\x04\x95pickle",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint"):
            read_flax(path)
    with pytest.raises(ValueError, match="holds no arrays"):
        read_flax(written(path, {"step": 1}))
    with pytest.raises(FileNotFoundError):
        read_flax(tmp_path / "missing")


@pytest.mark.parametrize("depth", [17, 5_000, 100_000])
def test_depth_is_limited(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"\x81\xa1a" * depth + b"\xc0")
    with pytest.raises(ValueError, match="checkpoint"):
        read_flax(path)


def test_size_is_limited_before_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "checkpoint", {"a": array(np.ones(100, dtype=np.float32))})
    monkeypatch.setattr(flax_checkpoint, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="up to 100"):
        read_flax(path)
