"""Flax's checkpoint files without Flax: msgpack of nested maps whose leaves are arrays.

An array is extension type 1, a NumPy scalar type 3; both hold one more msgpack: (shape, dtype name, row-major bytes).
Nothing in such a file is code, and no type but these two is read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 8 * 2**30
"""Largest file that is read; the training state of a ViViT-L has 2.5 GB."""
MAX_DEPTH = 16
MAX_ENTRIES = 65_536
"""Of one map."""
_MAX_DIMENSIONS = 8
_ARRAYS = (1, 3)
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
    )
}  # fmt: skip


def read_flax(path: str | Path) -> dict[str, Tensor]:
    """Every array of a Flax checkpoint by its path in the tree, as "optimizer/target/embedding/kernel".

    What is no array (a step count, None) is left out. Raises OSError where the file cannot be read, and ValueError for
    a file that is damaged, no Flax checkpoint, larger than MAX_BYTES or nested deeper than MAX_DEPTH.
    """
    import msgpack

    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; checkpoints of up to {MAX_BYTES} are read")
    try:
        # Without limits a few bytes could announce lists of billions, for which room is made at once.
        tree = msgpack.unpackb(
            path.read_bytes(),
            ext_hook=_array,
            strict_map_key=True,
            max_array_len=_MAX_DIMENSIONS,
            max_map_len=MAX_ENTRIES,
        )
        arrays: dict[str, Tensor] = {}
        _collect(tree, (), arrays)
    except ValueError as error:
        raise ValueError(f"{path} is no Flax checkpoint that can be read: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays")
    return arrays


def _collect(tree: Any, place: tuple[str, ...], arrays: dict[str, Tensor]) -> None:
    if len(place) > MAX_DEPTH:
        raise ValueError(f"maps are nested deeper than {MAX_DEPTH}")
    if isinstance(tree, dict):
        for name, branch in tree.items():
            _collect(branch, (*place, str(name)), arrays)
    elif isinstance(tree, Tensor):
        arrays["/".join(place)] = tree


def _array(code: int, data: bytes) -> Tensor:
    import msgpack

    if code not in _ARRAYS:
        raise ValueError(f"extension type {code} is neither an array nor a scalar")
    content = msgpack.unpackb(data, max_array_len=_MAX_DIMENSIONS, max_map_len=0, max_ext_len=0)
    if not (isinstance(content, list) and [type(part) for part in content] == [list, str, bytes]):
        raise ValueError("an array is not (shape, dtype, bytes)")
    shape, name, values = content
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array has shape {shape}")
    if name not in _DTYPES:
        raise ValueError(f"an array has dtype {name}")
    dtype = _DTYPES[name]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array of shape {shape} and dtype {name} has {len(values)} bytes")
    if not values:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(values), dtype=dtype).reshape(shape)
